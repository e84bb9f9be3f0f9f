"""A coordinator that lies reads no image, and reads them where the defence it meets is left out."""

import gc
from collections.abc import Iterator

import pytest
import torch

from lightning_fl.audit.active.active_audit import (
    ATTACKS,
    ActiveAudit,
    floor,
    small_images,
)
from lightning_fl.audit.active.imprint import correlations, imprinting, read_bins
from lightning_fl.errors import ConfigError
from tests.toy import ToyHospitals


@pytest.fixture(autouse=True)
def _cheap_collections() -> Iterator[None]:
    """The Local engine does the same before a run."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def audit(side: int = 8) -> ActiveAudit:
    """Of smooth images, as those of a body are."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(200, 1, 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return ActiveAudit(images.flatten(1), 24, 0)


@pytest.mark.parametrize("attack", ATTACKS)
def test_without_the_defence_it_meets_an_attack_reads_the_images(attack: str) -> None:
    outcome = audit().play(attack, defended=False)
    assert outcome.read >= 0.75 * outcome.images
    assert outcome.best > 0.97
    assert not outcome.refused


TRIALS = {
    "equal_weights": 30,
    "other_weights": 45,
    "questions": 15,
    "second_ring": 5,
    "forged_sum": 10,
}
"""Trials of each attack; they have 1000 images together."""


def test_none_of_a_thousand_images_is_read_with_all_defences() -> None:
    liar = audit()
    outcomes = [
        liar.play(attack, defended=True, trial=trial)
        for attack, trials in TRIALS.items()
        for trial in range(trials)
    ]
    assert sum(outcome.images for outcome in outcomes) == 1000
    assert sum(outcome.read for outcome in outcomes) == 0
    assert all(outcome.refused for outcome in outcomes)


def test_the_record_has_every_attack_with_and_without_its_defence() -> None:
    liar = audit()
    record = ActiveAudit(liar.images[:7], 24, 0).record()  # fewer images than hospitals could have
    assert [entry["attack"] for entry in record] == list(ATTACKS)
    for entry in record:
        assert entry["defended"]["read"] == 0
        assert entry["undefended"]["read"] == entry["undefended"]["images"] > 0


def test_a_random_image_is_below_the_floor() -> None:
    images = audit().images
    noise = torch.rand(len(images), images.shape[1], generator=torch.Generator().manual_seed(1))
    pairs = torch.stack(
        [correlations([guess], image[None])[0] for guess, image in zip(noise, images, strict=True)]
    )
    assert float(pairs.max()) < floor(images.shape[1])


def test_imprinting_weights_give_images_back_by_hand() -> None:
    images = audit().images[:3] * torch.tensor([[0.3], [0.6], [1.0]])
    brightness = images.mean(1)
    weights = imprinting(64, torch.linspace(float(brightness.min()) - 0.01, 1.0, 200))
    rows, bias = weights[: 200 * 64].reshape(200, 64), weights[200 * 64 :]
    active = ((images @ rows.T + bias) > 0).float()
    update = torch.cat([-(active.T @ images / 3).flatten(), -active.mean(0)])
    assert float(correlations(read_bins(update, 64), images).min()) > 0.999


def test_data_without_enough_images_are_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="Set it to false"):
        small_images(ToyHospitals(), 0)
