"""The attacker's best guess of an update, from what each party sees in a round."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fl.audit.views import ring_views
from lightning_fl.audit.views.recording import Recording

TOO_LARGE = 10.0
"""A guess so many times larger than the published mean is noise of another scale."""


class View(NamedTuple):
    """A party and what it has.

    Attributes:
        name: in audit.csv.
        title: who, for the report.
        sees: what, for the report.
        protected: whether encryption and masks are meant to hide the update from it.
    """

    name: str
    title: str
    sees: str
    protected: bool


VIEWS = {
    view.name: view
    for view in (
        View("plain", "Coordinator, no protection", "one site's update after one step", False),
        View("plain_steps", "Coordinator, no protection", "the update after several steps", False),
        View("initiator_none", "Initiator, no masks", "its key and all messages", False),
        View("initiator_initiator", "Initiator, its own mask", "its key and all messages", False),
        View("initiator_pairwise", "Initiator, pairwise masks", "its key and all messages", True),
        View("coordinator", "Coordinator of the ring", "all ciphertexts it relays", True),
        View("neighbour", "Next site in the ring", "the ciphertexts that reach it", True),
        View("neighbours", "Both neighbours together", "ciphertexts before and after", True),
        View("colluders", "Initiator and both neighbours", "key, their masks, all messages", False),
        View("other_of_two", "The other of two sites", "the mean and its own update", False),
        View("mean_2", "Anybody, two sites", "the published mean", False),
        View("mean_3", "Anybody, three sites", "the published mean", False),
        View("mean_8", "Anybody, eight sites", "the published mean", False),
        View("noise", "Nobody", "a gradient of noise", True),
    )
}
"""All views, in the order of the report. The last one is the floor: the attack without a view."""

MEANS = (2, 3, 8)
"""Sites whose published mean is attacked."""


@dataclass(frozen=True)
class Guess:
    """What an attacker takes for the mean update of some sites.

    Attributes:
        update: shape (length,).
        sites: whose mean it is taken for; each has one sample.
        steps: that each of them made.
    """

    update: Tensor
    sites: tuple[str, ...]
    steps: int = 1


@dataclass(frozen=True)
class Evidence:
    """The recordings of one trial.

    Attributes:
        clear: of all sites, averaged in the clear.
        several_steps: the same, after several steps.
        rings: by masking, of one ring each; the same sites, so the same order.
        means: by number of sites, of a ring over the first so many.
    """

    clear: Recording
    several_steps: Recording
    steps: int
    rings: Mapping[str, Recording]
    means: Mapping[int, Recording]

    @property
    def order(self) -> tuple[str, ...]:
        """The sites of the rings, the initiator first."""
        return self.rings["pairwise"].order

    @property
    def victim(self) -> str:
        """The site in the rings that is attacked: not the initiator, nor where possible beside."""
        return self.order[2 if len(self.order) > 3 else 1]

    @property
    def neighbours(self) -> tuple[str, str]:
        """The sites before and after the victim."""
        place = self.order.index(self.victim)
        return self.order[place - 1], self.order[(place + 1) % len(self.order)]

    def truth(self, guess: Guess) -> Tensor:
        """The true mean update of the sites that a guess is about; the attacker has it not."""
        recording = self.clear if guess.steps == 1 else self.several_steps
        return torch.stack([recording.in_the_clear(site) for site in guess.sites]).mean(dim=0)


def guesses(evidence: Evidence, *, seed: int = 0) -> dict[str, Guess]:
    """Every view's guess; a view that the ring is too small for is left out.

    Args:
        evidence: of one trial.
        seed: of the noise that stands for no view at all.
    """
    found = {
        "plain": Guess(evidence.clear.in_the_clear(evidence.victim), (evidence.victim,)),
        "plain_steps": _several_steps(evidence),
        **{f"initiator_{m}": _initiator(evidence, m) for m in ("none", "initiator", "pairwise")},
        **_without_the_key(evidence),
        "colluders": _colluders(evidence),
        "other_of_two": _other_of_two(evidence),
        **{f"mean_{n}": _mean(evidence.means[n]) for n in sorted(evidence.means)},
        "noise": Guess(_noise(evidence, seed), (evidence.victim,)),
    }
    return {name: found[name] for name in VIEWS if name in found}


def _several_steps(evidence: Evidence) -> Guess:
    update = evidence.several_steps.in_the_clear(evidence.victim)
    return Guess(update, (evidence.victim,), evidence.steps)


def _initiator(evidence: Evidence, masking: str) -> Guess:
    ring = evidence.rings[masking]
    update = ring_views.opened(ring, [evidence.victim], [evidence.order[0]])
    return Guess(_plausible(update, ring.published), (evidence.victim,))


def _without_the_key(evidence: Evidence) -> dict[str, Guess]:
    ring = evidence.rings["pairwise"]
    ways: dict[str, Callable[[Recording, str], Tensor]] = {
        "coordinator": ring_views.ciphertext_difference,
        "neighbour": ring_views.decrypted_with_another_key,
    }
    if evidence.order[0] not in evidence.neighbours:
        ways["neighbours"] = ring_views.difference_with_another_key
    return {
        name: Guess(_plausible(way(ring, evidence.victim), ring.published), (evidence.victim,))
        for name, way in ways.items()
    }


def _colluders(evidence: Evidence) -> Guess:
    """The mean over the sites that do not collude: that much pairwise masks give away."""
    helpers = {evidence.order[0], *evidence.neighbours}
    hidden = tuple(site for site in evidence.order if site not in helpers)
    total = ring_views.opened(evidence.rings["pairwise"], hidden, helpers)
    return Guess(total / len(hidden), hidden)


def _other_of_two(evidence: Evidence) -> Guess:
    ring = evidence.means[2]
    other, victim = ring.order
    return Guess(2 * ring.published - evidence.clear.in_the_clear(other), (victim,))


def _mean(ring: Recording) -> Guess:
    return Guess(ring.published, ring.order)


def _noise(evidence: Evidence, seed: int) -> Tensor:
    published = evidence.rings["pairwise"].published
    draw = torch.randn(published.shape, generator=torch.Generator().manual_seed(seed))
    return _scaled(draw, published)


def _plausible(update: Tensor, published: Tensor) -> Tensor:
    """A guess of the size an update can have: everybody knows the mean's."""
    too_large = float(update.norm()) > TOO_LARGE * float(published.norm())
    return _scaled(update, published) if too_large else update


def _scaled(update: Tensor, like: Tensor) -> Tensor:
    scaled: Tensor = update * (like.norm() / update.norm().clamp(min=1e-30))
    return scaled
