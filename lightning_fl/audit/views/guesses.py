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


class Party(NamedTuple):
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
    row[0]: Party(*row)
    for row in (
        ("plain", "Coordinator, no protection", "one site's update after one step", False),
        ("plain_steps", "Coordinator, no protection", "the update after several steps", False),
        ("initiator_none", "Initiator, no masks", "its key and all messages", False),
        ("initiator_initiator", "Initiator, its own mask", "its key and all messages", False),
        ("initiator_pairwise", "Initiator, pairwise masks", "its key and all messages", True),
        ("coordinator", "Coordinator of the ring", "all ciphertexts it relays", True),
        ("neighbour", "Next site in the ring", "the ciphertexts that reach it", True),
        ("neighbours", "Both neighbours together", "ciphertexts before and after", True),
        ("colluders", "Initiator and both neighbours", "key, their masks, all messages", False),
        ("other_of_two", "The other of two sites", "the mean and its own update", False),
        ("mean_2", "Anybody, two sites", "the published mean", False),
        ("mean_3", "Anybody, three sites", "the published mean", False),
        ("mean_8", "Anybody, eight sites", "the published mean", False),
        ("noise", "Nobody", "a gradient of noise", True),
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
        several_steps: of the ring's sites after several steps, averaged in the clear.
        steps: how many they are.
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
        """Return the true mean update of the sites of a guess; the attacker does not have it."""
        recording = self.clear if guess.steps == 1 else self.several_steps
        return torch.stack([recording.in_the_clear(site) for site in guess.sites]).mean(dim=0)


def guesses(evidence: Evidence, *, seed: int = 0) -> dict[str, Guess]:
    """Make every view's guess; leave out a view that the ring is too small for.

    The seed is that of the noise, which stands for no view at all.
    """
    victim, ring = (evidence.victim,), evidence.rings["pairwise"]
    made = {
        "plain": Guess(evidence.clear.in_the_clear(evidence.victim), victim),
        "plain_steps": Guess(
            evidence.several_steps.in_the_clear(evidence.victim), victim, evidence.steps
        ),
        **{f"initiator_{m}": _initiator(evidence, m) for m in ("none", "initiator", "pairwise")},
        **_without_the_key(evidence),
        "colluders": _colluders(evidence),
        "other_of_two": _other_of_two(evidence),
        **{f"mean_{n}": Guess(mean.published, mean.order) for n, mean in evidence.means.items()},
        "noise": Guess(_noise(ring.published, seed), victim),
    }
    return {name: made[name] for name in VIEWS if name in made}


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
    """Take the mean over the sites that do not collude: pairwise masks give that much away."""
    helpers = {evidence.order[0], *evidence.neighbours}
    hidden = tuple(site for site in evidence.order if site not in helpers)
    total = ring_views.opened(evidence.rings["pairwise"], hidden, helpers)
    return Guess(total / len(hidden), hidden)


def _other_of_two(evidence: Evidence) -> Guess:
    ring = evidence.means[2]
    other, victim = ring.order
    return Guess(2 * ring.published - evidence.clear.in_the_clear(other), (victim,))


def _noise(published: Tensor, seed: int) -> Tensor:
    draw = torch.randn(published.shape, generator=torch.Generator().manual_seed(seed))
    return _scaled(draw, published)


def _plausible(update: Tensor, published: Tensor) -> Tensor:
    """Scale a guess down to the size an update can have: everybody knows the mean's."""
    too_large = float(update.norm()) > TOO_LARGE * float(published.norm())
    return _scaled(update, published) if too_large else update


def _scaled(update: Tensor, like: Tensor) -> Tensor:
    scaled: Tensor = update * (like.norm() / update.norm().clamp(min=1e-30))
    return scaled
