"""How many patients a hospital that never trained needs to make the global model its own."""

from typing import TYPE_CHECKING

import pytorch_lightning as pl

from lightning_fl.fitting import evaluate
from lightning_fl.personalisation.choice import choose_by, references, split_folds
from lightning_fl.personalisation.workbench import Workbench

if TYPE_CHECKING:
    from lightning_fl.site import Site

Curve = dict[str, dict[str, float]]
"""Test metrics by number of patients, as text; "0" is the model as it came."""


def patients_curve(site: "Site", came: pl.LightningModule) -> Curve:
    """Test scores of the global model personalised on the first k training patients, for each k.

    Args:
        site: that did not train; `personalisation.patients` says which numbers k.
        came: the global model.
    """
    chosen = {"0": came}
    for count in sorted(set(site.personalisation.patients)):
        chosen[str(count)] = personalised_on(site, came, count)
    test = site.data.loader("test")
    return {k: evaluate(module, test, "test", site.trainer) for k, module in chosen.items()}


def personalised_on(site: "Site", came: pl.LightningModule, count: int) -> pl.LightningModule:
    """The global model made a hospital's own with `count` of its patients and no others.

    With two patients or more the guard chooses by cross-validation among them; the model has seen
    none of them before. With one there is nothing to choose by, so the rule is fixed: BatchNorm is
    re-estimated, which takes no gradient, whatever the candidates are; a net without BatchNorm
    stays as it came.
    """
    patients = site.data.split(site.name).train[:count]
    if count == 1:
        return Workbench(site, came, patients).with_own_batch_norm(came)
    folds = split_folds(patients, site.personalisation.folds)
    return choose_by(site, came, references(came, came), patients, (), folds).variant.module
