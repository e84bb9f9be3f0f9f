import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from datamodules import ImageFolder
from datamodules.images.normalisation import pooled_statistics
from lightning_fl.data.module import FederatedDataModule, Sample
from lightning_fl.errors import ConfigError, DataError
from tests.folders import LGG

Pixels = npt.NDArray[Any]


def grey(value: int = 100, size: tuple[int, int] = (8, 6), dtype: type = np.uint8) -> Pixels:
    return np.full(size, value, dtype=dtype)


def lesion(value: int = 255, size: tuple[int, int] = (8, 6)) -> Pixels:
    mask = np.zeros(size, dtype=np.uint8)
    mask[2:4, 1:3] = value
    return mask


def save(pixels: Pixels, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two hospitals of five patients with two images each, and their manifest."""
    rows = ["site,patient,file,scanner"]
    for site in ("A", "B"):
        for patient in range(5):
            for i in range(2):
                name = f"p{patient}_{i}.png"
                save(grey(20 * patient + i), tmp_path / site / "images" / name)
                save(lesion(), tmp_path / site / "masks" / name)
                rows.append(f"{site},p{patient},{name},X")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def folder(root: Path, **settings: Any) -> ImageFolder:
    return ImageFolder(root, **({"normalise": "none"} | settings))


def every(data: FederatedDataModule, site: str = "A") -> list[Sample]:
    dataset: Any = data.dataset(site, data.patients(site), augment=False)
    return [dataset[i] for i in range(len(dataset))]


def values(tensor: Tensor) -> list[float]:
    return list(torch.unique(tensor).tolist())


def only(root: Path, pixels: Pixels, mask: Pixels, suffix: str = ".png", **settings: Any) -> Sample:
    """The one sample of a folder with one image."""
    save(pixels, root / "A" / "images" / f"x{suffix}")
    save(mask, root / "A" / "masks" / "x.png")
    return every(folder(root, patient="file", **settings))[0]


def test_sites_patients_and_samples(root: Path) -> None:
    data = folder(root)
    assert data.site_names() == ("A", "B")
    assert data.patients("A") == ("p0", "p1", "p2", "p3", "p4")
    samples = every(data)
    assert len(samples) == 10
    assert samples[0]["image"].shape == (1, 8, 6)
    assert samples[0]["image"].dtype == torch.float32
    assert values(samples[3]["image"]) == pytest.approx([21 / 255])
    assert samples[0]["mask"].dtype == torch.int64
    assert samples[0]["mask"].sum() == 4
    assert samples[0]["mask"][2, 1] == 1


def test_a_sound_folder_passes_the_check(root: Path) -> None:
    data = folder(root)
    data.check()
    data.for_site("A", seed=0).check()


def test_a_patient_is_in_one_part_only(root: Path) -> None:
    data = folder(root).for_site("A", seed=3)
    split = data.split("A")
    assert sorted(split.train + split.val + split.test) == list(data.patients("A"))
    assert [data.sample_count(part) for part in ("train", "val", "test")] == [6, 2, 2]


def test_sites_choose_and_order_the_hospitals(root: Path) -> None:
    assert folder(root, sites=["B", "A"]).site_names() == ("B", "A")
    assert folder(root, sites=["B"]).site_names() == ("B",)


def test_hidden_folders_are_no_hospitals(root: Path) -> None:
    (root / ".git").mkdir()
    (root / "__MACOSX").mkdir()
    (root / "A" / "images" / "Thumbs.db").write_text("")
    assert folder(root).site_names() == ("A", "B")


def test_patients_by_regular_expression(root: Path) -> None:
    (root / "manifest.csv").unlink()
    assert folder(root, patient="^(p[0-9])_").patients("B") == ("p0", "p1", "p2", "p3", "p4")


def test_each_file_as_a_patient(root: Path) -> None:
    assert len(folder(root, patient="file").patients("A")) == 10


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".jpg", ".jpeg"])
def test_image_formats_with_a_png_mask(tmp_path: Path, suffix: str) -> None:
    sample = only(tmp_path, grey(51), lesion(), suffix)
    assert sample["image"].mean().item() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_images_are_scaled_by_their_own_maximum(tmp_path: Path, suffix: str) -> None:
    sample = only(tmp_path, grey(65535 // 5, dtype=np.uint16), lesion(), suffix)
    assert values(sample["image"]) == pytest.approx([0.2])


def test_colour_images(tmp_path: Path) -> None:
    colour = np.zeros((8, 6, 3), dtype=np.uint8)
    colour[..., 0] = 255
    sample = only(tmp_path, colour, lesion())
    assert sample["image"].amax(dim=(1, 2)).tolist() == [1.0, 0.0, 0.0]


def test_colour_becomes_grey_and_grey_is_repeated(tmp_path: Path) -> None:
    colour = np.full((8, 6, 3), 102, dtype=np.uint8)
    sample = only(tmp_path, colour, lesion(), channels=1)
    assert sample["image"].shape == (1, 8, 6)
    assert sample["image"].mean().item() == pytest.approx(0.4, abs=1e-3)
    assert only(tmp_path, grey(), lesion(), channels=3)["image"].shape == (3, 8, 6)


@pytest.mark.parametrize(("size", "shape"), [(4, (4, 4)), ((16, 12), (16, 12))])
def test_resizing_keeps_mask_values(
    tmp_path: Path, size: int | tuple[int, int], shape: tuple[int, int]
) -> None:
    sample = only(tmp_path, grey(51), lesion(2), size=size, classes=3)
    assert sample["image"].shape == (1, *shape)
    torch.testing.assert_close(sample["image"], torch.full((1, *shape), 0.2))
    assert sample["mask"].shape == shape
    assert values(sample["mask"]) == [0, 2]


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((8, 8), dtype=np.uint8)
    stripes[:, ::2] = 255
    sample = only(tmp_path, stripes, lesion(size=(8, 8)), size=2)
    assert sample["image"].flatten().tolist() == pytest.approx([0.5] * 4, abs=0.05)


def test_class_masks_keep_their_numbers(tmp_path: Path) -> None:
    mask = np.arange(48, dtype=np.uint8).reshape(8, 6) % 4
    assert torch.equal(only(tmp_path, grey(), mask, classes=4)["mask"], torch.tensor(mask).long())


@pytest.mark.parametrize("value", [1, 7, 255])
def test_binary_masks_may_use_any_number(tmp_path: Path, value: int) -> None:
    assert values(only(tmp_path, grey(), lesion(value))["mask"]) == [0, 1]


def test_palette_masks_hold_classes_in_their_indices(tmp_path: Path) -> None:
    save(grey(), tmp_path / "A" / "images" / "x.png")
    mask = Image.fromarray(lesion(2)).convert("P")
    mask.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    (tmp_path / "A" / "masks").mkdir()
    mask.save(tmp_path / "A" / "masks" / "x.png")
    data = folder(tmp_path, patient="file", classes=3)
    assert values(every(data)[0]["mask"]) == [0, 2]


def test_each_image_is_normalised_by_itself(tmp_path: Path) -> None:
    ramp = np.arange(48, dtype=np.uint8).reshape(8, 6)
    image = only(tmp_path, ramp, lesion(), normalise="image")["image"]
    assert image.mean().item() == pytest.approx(0, abs=1e-6)
    assert image.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert only(tmp_path, grey(), lesion(), normalise="image")["image"].abs().max() < 1.0  # flat


def training_images(data: FederatedDataModule, site: str) -> Tensor:
    dataset: Any = data.dataset(site, data.split(site).train, augment=False)
    return torch.stack([dataset[i]["image"] for i in range(len(dataset))])


def test_site_statistics_are_those_of_the_training_patients(root: Path) -> None:
    raw = training_images(folder(root).for_site("A", seed=1), "A")
    data = folder(root, normalise="site").for_site("A", seed=1)
    normalised = training_images(data, "A")
    expected = (raw - raw.mean()) / raw.std(correction=0)
    torch.testing.assert_close(normalised, expected, rtol=1e-4, atol=1e-5)
    assert every(data)[0]["image"].mean().abs() > 0.01  # not each image by itself


def test_site_statistics_do_not_see_validation_and_test_patients(root: Path) -> None:
    before = folder(root, normalise="site").for_site("A", seed=1)
    images = training_images(before, "A")
    split = before.split("A")
    for patient in split.val + split.test:
        for path in (root / "A" / "images").glob(f"{patient}_*.png"):
            save(grey(255), path)
    after = folder(root, normalise="site").for_site("A", seed=1)
    torch.testing.assert_close(training_images(after, "A"), images, rtol=0, atol=0)


def test_site_statistics_are_those_of_the_patients_that_a_model_sees(root: Path) -> None:
    raw = folder(root).for_site("A", seed=1)
    split = raw.split("A")
    few = split.train[:1]
    data = folder(root, normalise="site").for_site("A", seed=1).for_patients(few)
    [before] = [batch["image"] for batch in raw.loader("test")]
    seen = torch.cat([batch["image"] for batch in raw.patient_loader(few)])
    [after] = [batch["image"] for batch in data.loader("test")]
    torch.testing.assert_close(after, (before - seen.mean()) / seen.std(correction=0))
    [alone] = [batch["image"] for batch in data.for_patients([]).loader("test")]
    [by_itself] = [
        batch["image"]
        for batch in folder(root, normalise="image").for_site("A", seed=1).loader("test")
    ]
    torch.testing.assert_close(alone, by_itself, rtol=0, atol=0)


def test_site_statistics_are_computed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(images: Iterable[Tensor]) -> Any:
        calls.append(1)
        return pooled_statistics(images)

    monkeypatch.setattr("datamodules.images.images.pooled_statistics", counted)
    data = folder(root, normalise="site")
    for _ in range(2):
        for site in ("A", "B"):
            training_images(data.for_site(site, seed=0), site)
    assert len(calls) == 2


def test_unseen_hospital_without_training_patients_normalises_each_image(root: Path) -> None:
    ramp = np.arange(48, dtype=np.uint8).reshape(8, 6)
    save(ramp, root / "C" / "images" / "x.png")
    save(lesion(), root / "C" / "masks" / "x.png")
    data = folder(root, normalise="site", unseen=["C"], patient="^([a-z0-9]+)[_.]")
    data.check()
    assert data.for_site("C", seed=0).sample_count("test") == 1
    assert every(data, "C")[0]["image"].std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_augmentation_sees_values_in_0_to_1_and_only_training_images(root: Path) -> None:
    seen: list[float] = []

    def transform(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(image.max().item())
        return image, mask

    data = folder(root, normalise="image", augment=transform).for_site("A", seed=0)
    for part in ("train", "val", "test"):
        dataset: Any = data.split_dataset(part, augment=part == "train")
        _ = [dataset[i] for i in range(len(dataset))]
    assert len(seen) == 6
    assert 0 <= min(seen) <= max(seen) <= 1


def test_a_flip_turns_image_and_mask_together(tmp_path: Path) -> None:
    only(tmp_path, lesion(), lesion())
    data = folder(tmp_path, patient="file", augment=v2.RandomHorizontalFlip(p=1.0))
    dataset: Any = data.dataset("A", ["x"], augment=True)
    assert torch.equal(dataset[0]["image"][0].long(), dataset[0]["mask"])
    assert not torch.equal(dataset[0]["mask"], every(data)[0]["mask"])


def test_loaders_give_batches_also_from_workers(root: Path) -> None:
    data = folder(root, normalise="site", batch_size=3, num_workers=1).for_site("A", seed=0)
    batches = list(data.train_loader(seed=1))
    assert [tuple(batch["image"].shape) for batch in batches] == [(3, 1, 8, 6)] * 2
    assert batches[0]["mask"].shape == (3, 8, 6)


def test_no_image_is_kept_and_a_site_can_be_sent_to_a_process(root: Path) -> None:
    data = folder(root, normalise="site").for_site("A", seed=0)
    before = len(pickle.dumps(data))
    every(data)
    assert len(pickle.dumps(data)) - before < 2000  # a mean and a standard deviation
    torch.testing.assert_close(every(pickle.loads(pickle.dumps(data))), every(data))


def test_yaml_reaches_the_base_class(root: Path) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(FederatedDataModule, "data")
    settings = {"root": str(root), "size": [4, 8], "batch_size": 3, "val": 1, "unseen": ["B"]}
    config = {"class_path": "datamodules.ImageFolder", "init_args": settings}
    data = parser.instantiate(parser.parse_object({"data": config})).data
    assert data.batch_size == 3
    assert data.training_sites() == ("A",)
    assert every(data)[0]["image"].shape == (1, 4, 8)


def refused_settings(root: Path, settings: Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        folder(root, **settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites": ["A", "Z"]}, r"`sites` is \['A', 'Z'\].* there are \['A', 'B'\]"),
        ({"sites": ["A", "A"]}, r"has to name folders in .* once each"),
        ({"sites": []}, r"`sites` is \[\]"),
        ({"patient": "(p"}, r"`patient` is '\(p', no regular expression"),
        ({"patient": "manifets"}, r"`patient` is 'manifets' with 0 groups; expected 'manifest'"),
        ({"size": 0}, "`size` to be at least 1 pixel, but got 0"),
        ({"size": (4, -1)}, r"`size` .* got \(4, -1\)"),
        ({"classes": 0}, "`classes` to be between 1 and 255, but got 0"),
    ],
)
def test_settings_that_cannot_work(root: Path, settings: dict[str, Any], message: str) -> None:
    assert re.search(message, refused_settings(root, settings))


def test_missing_root_names_where_it_was_looked_for(tmp_path: Path) -> None:
    assert f"looked in {Path.cwd()}" in refused_settings(Path("no/such"), {})


def test_missing_manifest_names_the_three_ways(root: Path) -> None:
    (root / "manifest.csv").unlink()
    message = refused_settings(root, {})
    assert "no " + str(root / "manifest.csv") in message
    assert "regular expression" in message
    assert "'file'" in message


def test_a_hospital_cannot_be_called_pooled(root: Path) -> None:
    (root / "A").rename(root / "pooled")
    assert "cannot be called 'pooled'" in refused_settings(root, {"patient": "file"})


def refused(root: Path, **settings: Any) -> str:
    """The DataError of building or checking a folder."""
    with pytest.raises(DataError) as caught:
        folder(root, **settings).check()
    return str(caught.value)


def test_site_without_masks(root: Path) -> None:
    (root / "A" / "masks").rename(root / "A" / "labels")
    assert f"has no mask; add {root / 'A' / 'masks' / 'p0_0'} with a suffix" in refused(root)


def test_empty_folder(root: Path) -> None:
    (root / "C" / "images").mkdir(parents=True)
    assert re.search(r"Site 'C': .*images holds no image; expected \.png", refused(root))


def test_image_without_mask(root: Path) -> None:
    (root / "A" / "masks" / "p1_0.png").unlink()
    assert f"Image {root / 'A' / 'images' / 'p1_0.png'} has no mask; add" in refused(root)


def test_mask_without_image(root: Path) -> None:
    save(lesion(), root / "B" / "masks" / "extra.png")
    assert f"Mask {root / 'B' / 'masks' / 'extra.png'} has no image" in refused(root)


def test_two_images_of_one_name(root: Path) -> None:
    save(grey(), root / "A" / "images" / "p1_0.jpg")
    assert "p1_0.jpg and " in refused(root)


def test_mask_of_another_size(root: Path) -> None:
    path = save(lesion(size=(8, 8)), root / "A" / "masks" / "p1_0.png")
    assert re.search(rf"has 8 x 6 pixels, but its mask {path} 8 x 8", refused(root, size=4))


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("kept", [0, 50, -20])
def test_truncated_file(root: Path, part: str, kept: int) -> None:
    path = root / "B" / part / "p4_1.png"
    noise = np.random.default_rng(0).integers(0, 2, (8, 6), dtype=np.uint8)
    save(noise, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{path} cannot be read" in refused(root)


def test_first_file_that_is_no_image(root: Path) -> None:
    path = root / "A" / "images" / "p0_0.png"
    path.write_text("hello")
    assert f"{path} cannot be read" in refused(root)


def test_several_pages(root: Path) -> None:
    pages = [Image.fromarray(grey()) for _ in range(3)]
    path = root / "A" / "images" / "p0_0.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    (root / "A" / "images" / "p0_0.png").unlink()
    message = refused(root, patient="file")
    assert message == f"{path} has 3 pages; save each as a file of its own."


def test_pixels_of_an_unknown_kind(root: Path) -> None:
    (root / "A" / "images" / "p0_0.png").unlink()
    Image.new("CMYK", (6, 8)).save(root / "A" / "images" / "p0_0.tif")
    assert "Pillow's mode 'CMYK'; save it as 8- or 16-bit" in refused(root, patient="file")


def test_colour_mask(root: Path) -> None:
    colour = np.zeros((8, 6, 3), dtype=np.uint8)
    save(colour, root / "A" / "masks" / "p0_0.png")  # grey that was saved as colour
    folder(root).check()
    colour[2, 3] = (255, 0, 0)
    path = save(colour, root / "A" / "masks" / "p0_0.png")
    assert f"Mask {path} has more than one number a pixel" in refused(root)


def test_mixed_channels_name_two_files_and_can_be_converted(root: Path) -> None:
    path = save(np.zeros((8, 6, 3), dtype=np.uint8), root / "B" / "images" / "p2_0.png")
    first = root / "A" / "images" / "p0_0.png"
    assert f"{path} has 3 channel(s), but {first} has 1; set `channels`" in refused(root)
    folder(root, channels=3).check()


def test_mixed_sizes_name_two_files_and_can_be_resized(root: Path) -> None:
    path = save(grey(size=(4, 6)), root / "A" / "images" / "p2_0.png")
    save(lesion(size=(4, 6)), root / "A" / "masks" / "p2_0.png")
    assert re.search(rf"p0_0.png has 8 x 6 pixels, but {path} 4 x 6; set `size`", refused(root))
    folder(root, size=8).check()


def test_shades_in_a_binary_mask(root: Path) -> None:
    mask = lesion()
    mask[0, :3] = (7, 130, 254)
    path = save(mask, root / "A" / "masks" / "p1_1.png")
    assert f"Mask {path} holds the values [0, 7, 130, 254, 255], but a binary" in refused(root)


def test_mask_number_beyond_the_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x.png holds the values \[7\], but `classes` is 3"):
        only(tmp_path, grey(), lesion(7), classes=3)


def test_binary_masks_with_two_foregrounds_may_be_classes(root: Path) -> None:
    save(lesion(2), root / "A" / "masks" / "p1_1.png")
    assert re.search(r"foreground with 255, but .*p1_1.png with 2\. Set `classes`", refused(root))


def test_too_few_patients(root: Path) -> None:
    assert "Site 'A' has 5 patients" in refused(root, val=3, test=2)


def test_patient_pattern_that_misses_a_file(root: Path) -> None:
    assert "finds no patient in the name of" in refused(root, patient="^(p[0-3])_")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A,p9,gone.png,X", r"names 'gone.png' of site 'A', but it is not there; remove the row"),
        ("Z,p9,p0_0.png,X", r"names 'p0_0.png' of site 'Z', but it is not there"),
        ("A,p3,p0_0.png,X", r"line 22: 'p0_0.png' of site 'A' is listed twice; remove"),
        ("A,,new.png,X", r"line 22: site, patient, file cannot be empty"),
    ],
)
def test_manifest_row_that_fits_no_image(root: Path, row: str, message: str) -> None:
    with (root / "manifest.csv").open("a") as stream:
        stream.write(row + "\n")
    assert re.search(message, refused(root))


def test_manifest_without_a_column(root: Path) -> None:
    (root / "manifest.csv").write_text("site;patient;name\nA;p0;p0_0.png\n")
    assert "has the columns ['site', 'patient', 'name'], but needs ['site'" in refused(root)


def test_image_that_the_manifest_does_not_name(root: Path) -> None:
    save(grey(), root / "A" / "images" / "new.png")
    save(lesion(), root / "A" / "masks" / "new.png")
    assert "has no row for 'new.png' of site 'A'; add one" in refused(root)


def test_manifest_may_name_hospitals_that_were_left_out(root: Path) -> None:
    for path in sorted((root / "B").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder(root, sites=["A"]).check()


@pytest.mark.skipif(not LGG.is_dir(), reason=f"no {LGG}")
def test_brain_mri_of_five_hospitals() -> None:
    data = ImageFolder(LGG, unseen=["EZ"], normalise="site")
    data.check()
    assert data.training_sites() == ("CS", "DU", "FG", "HT")
    counts = {site: len(data.patients(site)) for site in data.site_names()}
    assert counts == {"CS": 16, "DU": 45, "EZ": 1, "FG": 14, "HT": 34}
    samples = 0
    for site in data.site_names():
        bound = data.for_site(site, seed=0)
        split = bound.split(site)
        parts = [set(part) for part in (split.train, split.val, split.test)]
        assert sum(len(part) for part in parts) == len(set.union(*parts)) == counts[site]
        samples += sum(bound.sample_count(part) for part in ("train", "val", "test"))
    assert samples == 140 + 442 + 135 + 321 + 8
    batch = next(iter(data.for_site("CS", seed=0).train_loader()))
    assert batch["image"].shape == (8, 1, 128, 128)
    assert set(values(batch["mask"])) <= {0, 1}
