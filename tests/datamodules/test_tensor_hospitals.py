from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from datamodules import TensorHospitals
from lightning_fl.errors import ConfigError, DataError


def patient(images: int = 2, value: float = 0.0) -> tuple[Any, Any]:
    return torch.full((images, 1, 4, 6), value), torch.ones(images, 4, 6, dtype=torch.bool)


def hospital(patients: int = 3) -> dict[str, tuple[Any, Any]]:
    return {f"P{number}": patient(value=number) for number in range(patients)}


def test_samples_are_those_of_the_patients_asked_for() -> None:
    data = TensorHospitals({"A": hospital(), "B": hospital()}).for_site("A", 0)
    samples: Any = data.dataset("A", ["P2", "P0"], augment=False)
    assert [float(samples[i]["image"].mean()) for i in range(4)] == [2, 2, 0, 0]
    assert samples[0]["mask"].dtype == torch.int64
    assert data.site_names() == ("A", "B")
    assert data.patients("A") == ("P0", "P1", "P2")
    batch = next(iter(data.train_loader()))
    assert batch["image"].shape == (2, 1, 4, 6)
    assert batch["image"].dtype == torch.float32


def test_arrays_and_labels_are_taken() -> None:
    pair = np.zeros((2, 1, 4, 4), dtype=np.uint8), np.array([0, 1])
    data = TensorHospitals({"A": {"P": pair}})
    samples: Any = data.dataset("A", ["P"], augment=True)
    assert [int(samples[i]["label"]) for i in range(2)] == [0, 1]


def test_training_images_are_augmented_with_their_masks() -> None:
    images, masks = torch.arange(24.0).reshape(1, 1, 4, 6), torch.arange(24).reshape(1, 4, 6)
    flip = v2.RandomHorizontalFlip(p=1)
    data = TensorHospitals({"A": {"P": (images, masks)}}, augment=flip)
    samples: Any = data.dataset("A", ["P"], augment=True)
    torch.testing.assert_close(samples[0]["image"], images[0].flip(-1))
    torch.testing.assert_close(samples[0]["mask"], masks[0].flip(-1))
    plain: Any = data.dataset("A", ["P"], augment=False)
    torch.testing.assert_close(plain[0]["image"], images[0])


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((torch.zeros(2, 4, 6), torch.zeros(2, 4, 6).long()), r"got \(2, 4, 6\)"),
        ((torch.zeros(0, 1, 4, 6), torch.zeros(0, 4, 6).long()), "N at least 1"),
        ((torch.zeros(2, 1, 4, 6), torch.zeros(2, 6, 4).long()), r"masks \(2, 4, 6\)"),
        ((torch.zeros(2, 1, 4, 6), torch.zeros(2, 4, 6)), r"integers, but got torch\.float32"),
        ((torch.full((2, 1, 4, 6), torch.nan), torch.zeros(2, 4, 6).long()), "NaN"),
    ],
)
def test_tensors_that_do_not_go_together_are_named(pair: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"'A', patient 'P'.*{message}"):
        TensorHospitals({"A": {"P": pair}})


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one hospital"):
        TensorHospitals({})
    labelled = torch.zeros(2, 1, 4, 6), torch.tensor([0, 1])
    with pytest.raises(ConfigError, match="`augment`"):
        TensorHospitals({"A": {"P": labelled}}, augment=v2.Identity())
