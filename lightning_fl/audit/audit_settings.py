"""The settings of an audit, which attacks what every party of a federation really sees."""

from dataclasses import dataclass

from lightning_fl.audit.membership.lira import halves
from lightning_fl.audit.views.distinguish import LEAST_TRIALS
from lightning_fl.errors import ConfigError

LEAST = {"seeds": 1, "trials": 0, "local_steps": 2, "iterations": 1, "candidates": 8, "pictures": 0}
"""Smallest values of settings."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Attacks, after training, what each party of a federation sees of single images.

    Each trial runs a round of FedAvg over sites with one image each, drawn from the training
    images of all hospitals: one step of the task's own SGD from first weights, which is the most
    that an attacker can hope for. The round's messages are recorded, in the clear and in rings
    with each kind of mask, and attacked by iDLG from each party's view. This is for tasks with
    labels and images of two dimensions. The report shows true training images.

    The finished models, the global one and every hospital's own, are then asked whom they were
    trained on (membership inference). This is for any task; set `trials` to 0 where the first part
    is not for it.

    Args:
        seeds: how many first weights; those of the run, and others that the same settings give.
        trials: rounds with other images, for each of the seeds; 0 for none.
        sites: of the ring that is looked into, at least 3; 5 leave two honest sites where the
            initiator and both neighbours of one collude.
        local_steps: of the view of an update after several steps.
        iterations: of L-BFGS.
        candidates: images that trials draw from, and that identification chooses among.
        distinguishing: trials of each distinguishing test, at least 1000; 0 for none.
        pictures: trials whose images the report shows, of different seeds as far as there are.
        membership: whether the finished models are attacked, by their loss of each patient.
        shadows: shadow models for a second such attack, an even number of at least 4, each of
            which takes a site's training of the whole run; 0 for none.

    Raises:
        ConfigError: a setting is out of its range.
    """

    seeds: int = 1
    trials: int = 5
    sites: int = 5
    local_steps: int = 3
    iterations: int = 150
    candidates: int = 32
    distinguishing: int = LEAST_TRIALS
    pictures: int = 3
    membership: bool = True
    shadows: int = 0
    active: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that are out of their range."""
        if self.sites < 3:
            raise ConfigError(
                f"Expected `audit.sites` to be at least 3, but got {self.sites}: with two, the "
                "mean gives each the other's update, and there is nothing to protect."
            )
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise ConfigError(
                    f"Expected `audit.{name}` to be at least {least}, but got {value}."
                )
        if 0 != self.distinguishing < LEAST_TRIALS:
            raise ConfigError(
                f"Expected `audit.distinguishing` to be 0 or at least {LEAST_TRIALS}, but got "
                f"{self.distinguishing}."
            )
        if self.shadows and not self.membership:
            raise ConfigError(
                f"`audit.shadows` is {self.shadows}, but shadow models are for membership "
                "inference. Set `audit.membership` to true, or `audit.shadows` to 0."
            )
        if self.shadows:
            halves(0, self.shadows)  # refuses numbers that give no pairs
