"""Pictures and arrays of any index with any target, as files on disk."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from datamodules import Folders, Images, Labels, MaskMap, MedMnist, Regions, Table, Threshold
from datamodules.images.image_files import read_image
from datamodules.partition import Dirichlet
from lightning_fl.data.module import IGNORE, FederatedDataModule
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.index.test_lists import medmnist

Pixels = npt.NDArray[Any]

SEEN = np.full((64, 64), 40, np.uint8)
SEEN[5:20, 8:40] = 220
BRIGHT = ((SEEN > 100) * 255).astype(np.uint8)
FUNDUS = np.zeros((64, 64), np.uint8)
FUNDUS[10:50, 10:50] = 128
FUNDUS[20:40, 20:40] = 255


def write(path: Path, pixels: Pixels, **options: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path, **options)
    return path


def listed(root: Path, *pairs: tuple[Path, Path | str], column: str = "mask") -> Table:
    """A table of one hospital with a patient for each pair of an image and its truth."""
    rows = [f"A,P{n},{image},{truth}" for n, (image, truth) in enumerate(pairs)]
    (root / "data.csv").write_text("\n".join([f"site,patient,image,{column}", *rows]))
    return Table(root / "data.csv")


def first(data: Images) -> dict[str, Tensor]:
    [site] = data.site_names()
    dataset: Any = data.dataset(site, data.patients(site)[:1], augment=False)
    sample: dict[str, Tensor] = dataset[0]
    return sample


def pair(root: Path, image: Pixels, mask: Pixels, names: str = "i.png m.png") -> Table:
    paths = [root / name for name in names.split()]
    return listed(root, (write(paths[0], image), write(paths[1], mask)))


def test_a_photo_is_turned_as_its_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    image = tmp_path / "i.jpg"
    write(image, np.rot90(SEEN, 2), exif=exif, quality=95)
    index = listed(tmp_path, (image, write(tmp_path / "m.png", BRIGHT)))
    sample = first(Images(index, normalise="none"))
    inside = sample["image"][0][sample["mask"] == 1]
    assert len(inside) == 480
    assert inside.min() > 0.7


def test_a_fundus_map_as_classes_and_as_nested_regions(tmp_path: Path) -> None:
    index = pair(tmp_path, SEEN, FUNDUS)
    classes = first(Images(index, target=MaskMap({0: 0, 128: 1, 255: 2})))["mask"]
    assert torch.bincount(classes.flatten()).tolist() == [64 * 64 - 1600, 1200, 400]
    target = Regions({"disc": [128, 255], "cup": [255]})
    regions = first(Images(index, target=target))["mask"]
    assert regions.dtype == torch.int64
    assert regions.sum(dim=(1, 2)).tolist() == [1600, 400]
    smaller = first(Images(index, target=target, size=32))["mask"]
    assert smaller.sum(dim=(1, 2)).tolist() == [400, 100]


def test_a_mask_as_jpeg_needs_a_threshold(tmp_path: Path) -> None:
    index = pair(tmp_path, SEEN, np.stack([BRIGHT] * 3, axis=-1), "i.jpg m.jpg")
    assert abs(int(first(Images(index, target=Threshold(128)))["mask"].sum()) - 480) < 10
    with pytest.raises(DataError, match=r"m\.jpg holds .*or use Threshold if they are shades"):
        first(Images(index))


def test_a_table_from_a_spreadsheet_with_semicolons(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / name, SEEN)
    text = "site; patient; image; label\nA;P1;a.png;0\nA;P2;b.png;1\n,,\n"
    (tmp_path / "t.csv").write_text(text, "utf-8-sig")
    data = Images(Table(tmp_path / "t.csv"), target=Labels())
    assert data.patients("A") == ("P1", "P2")


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".ppm", ".webp", ".npy"])
def test_further_formats_of_images(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    image = write(tmp_path / f"i{suffix}", SEEN, **options)
    index = listed(tmp_path, (image, write(tmp_path / "m.png", BRIGHT)))
    image_values = first(Images(index, normalise="none", channels=1))["image"]
    expected = torch.from_numpy(SEEN / 255).float()[None]
    torch.testing.assert_close(image_values, expected, atol=2e-3, rtol=0)


def test_arrays_keep_their_values_and_say_their_channels_by_their_shape(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 50, (6, 8, 2)).astype(np.float32)
    mask = np.zeros((6, 8), bool)
    mask[2] = True
    last = first(Images(pair(tmp_path, values, mask, "i.npy m.npy"), normalise="none"))
    torch.testing.assert_close(last["image"], torch.from_numpy(values).permute(2, 0, 1))
    assert last["mask"].sum() == 8
    moved = np.moveaxis(values, 2, 0)
    again = first(Images(pair(tmp_path, moved, mask, "i.npy m.npy"), normalise="none"))
    torch.testing.assert_close(again["image"], last["image"])


def test_arrays_of_one_file_have_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=SEEN, label=BRIGHT)
    np.savez(tmp_path / "t.npz", ct=SEEN, truth=BRIGHT, more=BRIGHT)
    by_name = first(Images(listed(tmp_path, (tmp_path / "s.npz", "s.npz"))))
    assert by_name["mask"].sum() == 480
    index = listed(tmp_path, (tmp_path / "t.npz/ct", "t.npz/truth"))
    assert first(Images(index))["mask"].sum() == 480
    with pytest.raises(DataError, match=r"t\.npz holds the arrays \['ct', 'truth', .*e\.g\. .*/ct"):
        Images(listed(tmp_path, (tmp_path / "t.npz", "t.npz/truth")))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((6, 8), np.nan), "holds NaN or infinity"),
        (np.zeros((2, 3, 4, 5)), r"holds an array of shape \(2, 3, 4, 5\)"),
        (np.array([["a"]]), ".* and type <U1; expected numbers"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: Pixels, message: str) -> None:
    with pytest.raises(DataError, match=rf"i\.npy {message}"):
        Images(pair(tmp_path, array, np.zeros((6, 8)), "i.npy m.npy"))


def test_several_files_are_channels_of_one_size(tmp_path: Path) -> None:
    for name, shade in (("b.png", 51), ("a.png", 102), ("c.png", 153)):
        write(tmp_path / name, np.full((6, 8), shade, np.uint8))
    write(tmp_path / "m.png", np.zeros((6, 8), np.uint8))
    path = tmp_path / "data.csv"
    path.write_text("site,patient,image_x,image_y,mask\nA,P,b.png,a.png,m.png\n")
    image = first(Images(Table(path), normalise="none"))["image"]
    assert image[:, 0, 0].tolist() == pytest.approx([0.2, 0.4])
    with pytest.raises(
        DataError, match=r"b\.png has 2 channel\(s\), .* cannot become `channels`: 3"
    ):
        first(Images(Table(path), channels=3))
    write(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"b\.png has 6 x 8 pixels, but .*a\.png, another channel"):
        Images(Table(path))


def test_values_to_ignore_survive_resizing(tmp_path: Path) -> None:
    target = MaskMap({0: 0, 255: 1}, ignore=[128])
    mask = first(Images(pair(tmp_path, SEEN, FUNDUS), target=target, size=32))["mask"]
    assert torch.unique(mask).tolist() == [0, 1, IGNORE]
    assert (mask == IGNORE).sum() == 300


def test_percentiles_keep_bright_pixels_from_darkening_the_rest(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1000, 64 * 64).reshape(64, 64).astype(np.float32)
    ramp[0, 0] = 1e6
    image = first(Images(pair(tmp_path, ramp, BRIGHT, "i.npy m.png"), normalise="percentiles"))[
        "image"
    ]
    assert image.min() == 0
    assert image.max() == 1
    assert image.median().item() == pytest.approx(0.5, abs=0.01)


def test_labels_are_augmented_without_a_mask(tmp_path: Path) -> None:
    index = listed(tmp_path, (write(tmp_path / "i.png", SEEN), "1"), column="label")
    flip = v2.RandomHorizontalFlip(p=1.0)
    data = Images(index, target=Labels(), normalise="none", augment=flip)
    dataset: Any = data.dataset("A", ["P0"], augment=True)
    sample, plain = dataset[0], first(data)
    assert sample["label"] == 1
    assert torch.equal(sample["image"], plain["image"].flip(-1))
    data.augment = lambda image: None
    with pytest.raises(ConfigError, match=r"for an image with a label, but .* returned a NoneType"):
        data.dataset("A", ["P0"], augment=True)[0]


def test_regions_are_augmented_with_their_image(tmp_path: Path) -> None:
    target = Regions({"disc": [128, 255], "cup": [255]})
    flip = v2.RandomVerticalFlip(p=1.0)
    data = Images(pair(tmp_path, FUNDUS, FUNDUS), target=target, normalise="none", augment=flip)
    dataset: Any = data.dataset("A", ["P0"], augment=True)
    assert torch.equal(dataset[0]["image"][0] > 0.3, dataset[0]["mask"][0] == 1)
    assert torch.equal(dataset[0]["mask"], first(data)["mask"].flip(-2))


def test_medmnist_dealt_to_hospitals_keeps_its_parts(tmp_path: Path) -> None:
    index = MedMnist(medmnist(tmp_path / "x.npz", patients=40))
    data = Images(index, target=Labels(), partition=Dirichlet(5.0, 3), normalise="none")
    assert data.site_names() == ("site_01", "site_02", "site_03")
    count = 0
    for site in data.site_names():
        bound = data.for_site(site, seed=1)
        count += sum(bound.patient_counts().values())
        for part, shade in (("train", 0), ("val", 50), ("test", 100)):
            for batch in bound.loader(part):
                assert (batch["image"] * 255 - shade).abs().max() < 40
                assert batch["label"].dtype == torch.int64
    assert count == 120
    data.check()


def test_two_files_are_told_apart_by_their_labels(tmp_path: Path) -> None:
    data = Images(MedMnist(medmnist(tmp_path / "x.npz", labels=2)), target=Labels(["1", "0"]))
    assert first(data)["label"].tolist() == [1.0, 0.0]


def test_masks_all_foreground_and_constant_images_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full, plain = np.full((8, 8), 255, np.uint8), np.full((8, 8), 7, np.uint8)
    pairs = []
    for n in range(3):
        image = write(tmp_path / f"i{n}.png", plain if n else np.eye(8, dtype=np.uint8))
        pairs.append((image, write(tmp_path / f"m{n}.png", full if n == 2 else plain * 0)))
    with caplog.at_level(logging.WARNING):
        Images(listed(tmp_path, *pairs)).check()
    first_warning, second_warning = caplog.messages
    assert "Site 'A': 2 of 3 images have one value everywhere" in first_warning
    assert f"The first is {tmp_path / 'i1.png'}" in first_warning
    assert "Site 'A': 1 of 3 masks are foreground everywhere" in second_warning
    assert f"The first is {tmp_path / 'm2.png'}" in second_warning


def test_a_hospital_without_foreground_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As where masks hold 0 and 1, and the threshold is that of 0 and 255."""
    mask = write(tmp_path / "m.png", (BRIGHT > 0).astype(np.uint8))
    index = listed(tmp_path, *((write(tmp_path / f"i{n}.png", SEEN), mask) for n in range(3)))
    with caplog.at_level(logging.WARNING):
        Images(index).check()
        assert not caplog.messages
        Images(index, target=Threshold(128)).check()
    assert "Site 'A': 3 of 3 masks have no foreground; are the values" in caplog.messages[0]


def test_images_without_masks_need_labels(tmp_path: Path) -> None:
    index = listed(tmp_path, (write(tmp_path / "i.png", SEEN), "1"), column="label")
    with pytest.raises(ConfigError, match="line 2 has no mask; set `target` to Labels"):
        first(Images(index))


def test_a_site_that_is_not_there(tmp_path: Path) -> None:
    index = pair(tmp_path, SEEN, BRIGHT)
    with pytest.raises(ConfigError, match=r"`sites` is \['B'\], .* there are \['A'\]"):
        Images(index, sites=["B"])
    (tmp_path / "data.csv").write_text("site,patient,image,mask\npooled,P,i.png,m.png\n")
    with pytest.raises(ConfigError, match="A hospital cannot be called 'pooled'"):
        Images(index)


def test_yaml_names_index_target_and_partition(tmp_path: Path) -> None:
    write(tmp_path / "i.png", SEEN)
    write(tmp_path / "m.png", FUNDUS)
    rows = "".join(f"P{n},i{n}.png,m.png,train\n" for n in range(8))
    (tmp_path / "data.csv").write_text(f"patient,image,mask,split\n{rows}")
    for n in range(8):
        write(tmp_path / f"i{n}.png", SEEN)
    settings = {
        "index": {
            "class_path": "datamodules.Table",
            "init_args": {"path": str(tmp_path / "data.csv"), "site": "all"},
        },
        "target": {
            "class_path": "datamodules.Regions",
            "init_args": {"regions": {"disc": [128, 255], "cup": [255]}},
        },
        "partition": {"class_path": "datamodules.BySize", "init_args": {"sites": [0.5, 0.5]}},
        "size": 16,
        "normalise": "percentiles",
        "batch_size": 2,
    }
    parser = ArgumentParser()
    parser.add_subclass_arguments(FederatedDataModule, "data")
    config = parser.parse_object(
        {"data": {"class_path": "datamodules.Images", "init_args": settings}}
    )
    data = parser.instantiate(config).data
    assert data.site_names() == ("site_01", "site_02")
    batch = next(iter(data.for_site("site_01", 0).train_loader()))
    assert batch["mask"].shape == (2, 2, 16, 16)
    again = parser.instantiate(parser.parse_string(parser.dump(config))).data
    assert again.site_names() == data.site_names()


def test_maps_of_values_can_be_written_in_yaml(tmp_path: Path) -> None:
    pair(tmp_path, SEEN, FUNDUS)
    parser = ArgumentParser()
    parser.add_subclass_arguments(FederatedDataModule, "data")
    text = f"""
data:
  class_path: datamodules.Images
  init_args:
    index: {{class_path: datamodules.Table, init_args: {{path: {tmp_path / "data.csv"}}}}}
    target: {{class_path: datamodules.MaskMap, init_args: {{values: {{0: 0, 128: 1, 255: 2}}}}}}
"""
    data = parser.instantiate(parser.parse_string(text)).data
    assert torch.unique(first(data)["mask"]).tolist() == [0, 1, 2]


def test_statistics_of_many_patients_are_looked_up_once(tmp_path: Path) -> None:
    """Each patient's loader asks for the split; it must not be drawn anew for every one."""
    for folder, pixels in (("images", SEEN[:8, :8]), ("masks", BRIGHT[:8, :8])):
        (tmp_path / "A" / folder).mkdir(parents=True)
        for n in range(6):
            write(tmp_path / "A" / folder / f"{n}.png", pixels)
    data = Images(Folders(tmp_path), normalise="site").for_site("A", 0)
    assert data.split("A") is data.split("A")
    assert data.for_site("A", 1).split("A") != data.split("A")


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("colour.png", np.uint16, (6, 8, 3)),
        ("colour.tif", np.uint16, (6, 8, 3)),
        ("alpha.png", np.uint16, (6, 8, 4)),
        ("grey.tif", np.float32, (6, 8)),
    ],
)
def test_pictures_of_more_than_eight_bits_a_colour_keep_them(
    tmp_path: Path, name: str, dtype: Any, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    pixels = (60_000 * rng.random(shape)).astype(dtype)
    picture = SimpleITK.GetImageFromArray(pixels, isVector=len(shape) == 3)
    SimpleITK.WriteImage(picture, str(tmp_path / name))
    image = read_image(tmp_path / name).numpy()
    wanted = np.moveaxis(pixels[..., :3], 2, 0) if len(shape) == 3 else pixels[None]
    scale = 65535 if dtype is np.uint16 else 1
    np.testing.assert_allclose(image, wanted.astype(np.float32) / scale, rtol=1e-6)
