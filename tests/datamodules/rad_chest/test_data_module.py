import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torchvision.transforms import v2

from datamodules import RadChestCT
from datamodules.rad_chest.preprocessing import read_volume
from lightning_fl.data.module import FederatedDataModule, LabelledSample
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.rad_chest.npz_volumes import rad, save, volume


def every(data: RadChestCT, site: str = "1", *, augment: bool = False) -> list[LabelledSample]:
    dataset: Any = data.dataset(site, data.patients(site), augment=augment)
    return [dataset[i] for i in range(len(dataset))]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read while a test runs."""
    found: list[str] = []

    def counting(path: Path) -> Any:
        found.append(path.stem)
        return read_volume(path)

    monkeypatch.setattr("datamodules.rad_chest.preprocessing.read_volume", counting)
    return found


def test_samples_are_cubes_with_labels(root: Path) -> None:
    samples = every(rad(root))
    assert [int(sample["label"]) for sample in samples] == [0, 1, 0, 1, 0, 0]
    assert samples[0]["label"].dtype == torch.int64
    assert samples[0]["image"].shape == (1, 10, 10, 10)
    assert samples[0]["image"].dtype == torch.float32


def test_batches_have_labels(root: Path) -> None:
    data = rad(root, batch_size=2).for_site("1", seed=0)
    batch: Any = next(iter(data.train_loader()))
    assert batch["image"].shape == (2, 1, 10, 10, 10)
    assert batch["label"].shape == (2,)


def test_check_warns_of_impossible_numbers_also_from_the_cache(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = volume(3)
    wild[0, 0, 0] = 9000
    save(root / "trn00003.npz", ct=wild)
    for _ in range(2):  # two runs, each in a process of its own
        monkeypatch.setattr("datamodules.normalisation.oddities._reported", {})
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            rad(root).check()
        [message] = caplog.messages
        assert "trn00003.npz" in message
        assert "1 above 4000" in message


@pytest.mark.parametrize("thickness", [1, 3])
def test_prediction_sees_what_training_saw(root: Path, thickness: int) -> None:
    data = rad(root, thickness={"1": thickness})
    prepare = data.preprocessing("1")
    assert prepare.thickness == thickness
    for path, sample in zip(prepare.find(root), every(data), strict=False):
        if path.stem <= "trn00004":
            assert torch.equal(prepare.read(path).images()[0], sample["image"])


def test_a_hospital_that_is_not_named_keeps_its_slices(root: Path) -> None:
    data = rad(root, thickness={"1": 5})
    thick, thin = (every(data, site)[0]["image"][0, :, 0, 0] for site in ("1", "2"))
    assert thick[[0, 3, 6, 9]].tolist() == [0, 0, 0, 0]  # two slices of five are left, then zeros
    assert thick[4] > 0
    assert thin[0] > 0


def test_a_volume_is_read_once_whatever_the_window(root: Path, reads: list[str]) -> None:
    first = every(rad(root))
    assert len(reads) == 6
    again = every(rad(root, thickness={"1": 2}, level=0, width=2000))
    assert len(reads) == 6
    assert not torch.equal(again[0]["image"], first[0]["image"])
    every(rad(root, size=8))
    assert len(reads) == 12


def test_a_changed_file_is_read_again(root: Path, reads: list[str]) -> None:
    before = every(rad(root))[1]["image"]
    save(root / "trn00001.npz", ct=volume(99, (21, 24, 18)))
    assert not torch.equal(every(rad(root))[1]["image"], before)
    assert reads[6:] == ["trn00001"]


def test_check_fills_the_cache_of_its_own_site(root: Path, reads: list[str]) -> None:
    rad(root).for_site("2", seed=0).check()
    assert sorted(reads) == [f"trn{n:05d}" for n in range(5, 10)]
    rad(root).check()
    assert len(reads) == 11
    every(rad(root))
    assert len(reads) == 11


def test_check_names_the_file_that_cannot_be_used(root: Path) -> None:
    save(root / "trn00003.npz", ct=volume(3).astype(np.float32))
    data = rad(root)
    data.for_site("2", seed=0).check()
    with pytest.raises(DataError, match=r"trn00003\.npz: `ct` is float32"):
        data.for_site("1", seed=0).check()


def test_check_wants_patients_for_every_part(root: Path) -> None:
    with pytest.raises(DataError, match=r"Site '1' has 5 patients, but its split needs"):
        rad(root, val=3, test=2).for_site("1", seed=0).check()


def test_augmentation_mirrors_training_volumes_alone(root: Path) -> None:
    data = rad(root, augment=v2.RandomHorizontalFlip(p=1.0))
    plain, turned = every(data)[0]["image"], every(data, augment=True)[0]["image"]
    assert type(turned) is torch.Tensor
    torch.testing.assert_close(turned, plain.flip(-1), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda image: image[0], r"shape \(1, 10, 10, 10\), but .* returned \(10, 10, 10\)\."),
        (lambda image: None, "returned NoneType. It is called with a volume alone"),
    ],
)
def test_augmentations_that_do_not_fit(
    root: Path, transform: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        every(rad(root, augment=transform), augment=True)


def test_a_copy_in_another_process_gives_the_same(root: Path) -> None:
    data = rad(root)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(every(copy)[2]["image"], every(data)[2]["image"])


def test_yaml_builds_the_data(root: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--data", type=FederatedDataModule)
    text = f"""
        data:
          class_path: datamodules.RadChestCT
          init_args:
            root: {root}
            sites_by: client
            thickness: {{"1": 1, "2": 5}}
            size: 10
            unseen: ["2"]
    """
    data = parser.instantiate(parser.parse_string(text)).data
    assert isinstance(data, RadChestCT)
    assert data.preprocessing("2").thickness == 5
    assert data.training_sites() == ("1",)
