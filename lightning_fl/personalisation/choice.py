"""One site's personalisation: make the variants, score them, let the guard choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from lightning_fl.fitting import evaluate
from lightning_fl.parameters import is_finite
from lightning_fl.personalisation.candidate import Variant
from lightning_fl.personalisation.guard import choose
from lightning_fl.personalisation.workbench import Workbench

if TYPE_CHECKING:
    from lightning_fl.site import Site


@dataclass(frozen=True)
class Choice:
    """What a site chose.

    Attributes:
        variant: the one it uses.
        scores: on the data that the choice was made by, of every variant.
        gradients: forward-backward passes that personalising took.
        finetuned: the model after plain fine-tuning of all weights, unguarded, or None.
    """

    variant: Variant
    scores: dict[str, float]
    gradients: int
    finetuned: pl.LightningModule | None

    def summary(self) -> dict[str, Any]:
        """What results.json says of it."""
        chosen = self.variant
        return {
            "choice": chosen.name,
            **({"members": list(chosen.members)} if chosen.members else {}),
            "steps": chosen.steps,
            "validation_gain": self.scores[chosen.name] - next(iter(self.scores.values())),
            "gradients": self.gradients,
            "candidates": self.scores,
        }


def references(came: pl.LightningModule, own: pl.LightningModule) -> list[Variant]:
    """The models that a site has without personalising.

    Args:
        came: the model as it came out of the federation.
        own: what personalisation starts from; the same object where that is the model as it came.
    """
    found = [Variant("none", came, is_reference=True)]
    return found if own is came else [*found, Variant("own", own, is_reference=True)]


def personalise(site: "Site", came: pl.LightningModule, own: pl.LightningModule) -> Choice:
    """Make a site's variants of a model and choose one by the site's validation data.

    Args:
        site: whose data are used.
        came: the model as it came out of the federation.
        own: what personalisation starts from, see `references`.
    """
    split = site.data.split(site.name)
    bench = Workbench(site, own, split.train)
    variants = [*references(came, own), *site.personalisation.variants(bench)]
    scores = {v.name: score(site, v.module, split.val) for v in variants}
    without = [v.name for v in variants if v.is_reference]
    name = choose(scores, without, site.personalisation.margin, site.evaluation)
    [chosen] = [v for v in variants if v.name == name]
    finetuned = bench.finetuned[max(bench.finetuned)] if bench.finetuned else None
    return Choice(chosen, scores, bench.gradients, finetuned)


def score(site: "Site", module: pl.LightningModule, patients: Sequence[str]) -> float:
    """The run's metric of a model on some patients; NaN for weights that are not finite."""
    if not is_finite(module.state_dict()):  # NaN may look like an empty mask, which can score 1
        return float("nan")
    metrics = evaluate(module, site.data.patient_loader(patients), "val", site.trainer)
    return metrics[site.evaluation.metric]
