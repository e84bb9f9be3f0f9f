"""Play every attack of a lying coordinator with the sites' defences and without."""

import gc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.audit.active.imprint import correlations
from lightning_fl.audit.active.lying_coordinator import LyingCoordinator, Refused
from lightning_fl.audit.active.trusting import (
    ForgetfulRing,
    TrustingSite,
    UnboundRing,
    UntaggedRing,
)
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.engines.local import set_libraries_aside
from lightning_fl.errors import ConfigError
from lightning_fl.seeds import derive_seed
from lightning_fl.site.site import Site

SIDE = 16
"""Pixels of a side: images are made so small that a question for each pixel takes no hour."""
HOSPITALS, IMAGES = 5, 4
"""Hospitals that are attacked, and images of each."""
FLOOR = 5.0
"""Standard deviations of a random image's correlation with a true one, 1 / sqrt(pixels)."""


class Attack(NamedTuple):
    """An attack, and what is left out in its control.

    Attributes:
        title: for the report.
        play: the attack.
        images: of a hospital in it.
        victims: hospitals whose images are looked for.
        site: class of the sites in the control.
        ring: class of the ring in the control.
    """

    title: str
    play: Callable[[LyingCoordinator], list[Tensor]]
    images: int
    victims: int
    site: type[Site]
    ring: type[CyclicCKKS]


ATTACKS = {
    "other_weights": Attack(
        "Other weights for each hospital, one of which imprints images",
        *(LyingCoordinator.other_weights, IMAGES, 1, TrustingSite, UnboundRing),
    ),
    "equal_weights": Attack(
        "Weights that imprint images, equal for all hospitals",
        *(LyingCoordinator.equal_weights, IMAGES, HOSPITALS, TrustingSite, CyclicCKKS),
    ),
    "questions": Attack(
        "Scores of weights of choice, a pixel a question",
        *(LyingCoordinator.questions, 1, 1, TrustingSite, CyclicCKKS),
    ),
    "second_ring": Attack(
        "A second sum without one hospital",
        *(LyingCoordinator.second_ring, 1, 1, Site, ForgetfulRing),
    ),
    "forged_sum": Attack(
        "A sum of the coordinator's own, which leads to weights that imprint images",
        *(LyingCoordinator.forged_sum, IMAGES, HOSPITALS, Site, UntaggedRing),
    ),
}


@dataclass(frozen=True)
class AttackOutcome:
    """What came of attacks of one kind.

    Attributes:
        images: that were to be read.
        read: how many of them came back above the floor.
        best: the largest correlation with a true image.
        refused: what the sites said, of the first attack that they refused; "" if they did not.
    """

    images: int
    read: int
    best: float
    refused: str


@dataclass(frozen=True)
class ActiveAudit:
    """Attacks of a lying coordinator on hospitals with a run's own images and ring.

    Attributes:
        images: of the run's hospitals, shape (count, pixels), from 0 to 1.
        bits: of the run's ring.
        seed: of the run.
    """

    images: Tensor
    bits: int
    seed: int

    def record(self) -> list[dict[str, Any]]:
        """Play every attack once with defences and once without; return what audit.json says."""
        set_libraries_aside()  # there are many short operations
        try:
            return [self._entry(name) for name in ATTACKS]
        finally:
            gc.unfreeze()

    def _entry(self, name: str) -> dict[str, Any]:
        return {
            "attack": name,
            "title": ATTACKS[name].title,
            "floor": floor(self.images.shape[1]),
            "defended": asdict(self.play(name, defended=True)),
            "undefended": asdict(self.play(name, defended=False)),
        }

    def play(self, name: str, *, defended: bool, trial: int = 0) -> AttackOutcome:
        """Play one attack.

        Args:
            name: of the attack.
            defended: whether the sites have the defence that it meets.
            trial: decides which images the hospitals have.
        """
        attack = ATTACKS[name]
        count = min(attack.images, len(self.images) // HOSPITALS)
        images = self._drawn(HOSPITALS, count, trial)
        truth = images[: attack.victims].flatten(0, 1)
        with TemporaryDirectory() as folder:
            liar = LyingCoordinator(images, Path(folder), self.bits, seed=self.seed)
            if not defended:
                liar.site, liar.ring = attack.site, attack.ring
            try:
                guesses, refused = attack.play(liar), ""
            except Refused as refusal:
                guesses, refused = [], str(refusal)
        seen = correlations(guesses, truth)
        read = int((seen > floor(images.shape[2])).sum())
        return AttackOutcome(len(truth), read, float(seen.max()), refused)

    def _drawn(self, hospitals: int, count: int, trial: int) -> Tensor:
        """Draw the images of a trial, shape (hospitals, count, pixels)."""
        generator = np.random.default_rng(derive_seed(self.seed, "active", trial))
        chosen = generator.choice(len(self.images), hospitals * count, replace=False)
        return self.images[torch.from_numpy(chosen)].reshape(hospitals, count, -1)


def floor(pixels: int) -> float:
    """Return the correlation with an image that a random one does not reach."""
    return FLOOR / float(np.sqrt(pixels))


def small_images(data: FederatedDataModule, seed: int) -> Tensor:
    """Return training images of all hospitals, made small, shape (count, pixels), from 0 to 1.

    Raises:
        ConfigError: there are too few, or a sample has no image.
    """
    wanted = HOSPITALS * IMAGES
    images: list[Tensor] = []
    for name in data.training_sites():
        site = data.for_site(name, seed)
        for batch in site.train_loader(seed=seed, batches_per_step=1):
            images += [_small(image) for image in _images_of(batch)]
            if len(images) >= 4 * wanted:
                break
    if len(images) < HOSPITALS:
        raise ConfigError(
            f"`audit.active` needs {HOSPITALS} training images, but there are {len(images)}. Set "
            "it to false."
        )
    return torch.stack(images)


def _images_of(batch: Any) -> Tensor:
    image = batch.get("image") if isinstance(batch, dict) else batch[0]
    if not isinstance(image, Tensor) or image.dim() not in (4, 5):
        raise ConfigError("`audit.active` needs batches of images. Set it to false.")
    return image


def _small(image: Tensor) -> Tensor:
    """Return one image, (C, H, W) or (C, D, H, W), as a small grey one, shape (pixels,)."""
    flat = image.float().mean(0)
    if flat.dim() == 3:
        flat = flat[len(flat) // 2]
    small = F.adaptive_avg_pool2d(flat[None, None], SIDE).flatten()
    span = float(small.max() - small.min())
    return (small - small.min()) / span if span > 0 else torch.zeros_like(small)
