"""How many patients a hospital that never trained needs to make the global model its own."""

import pytorch_lightning as pl

from lightning_fl.personalisation.choice import choose_by, references, split_folds
from lightning_fl.personalisation.local_task import LocalTask
from lightning_fl.personalisation.settings import Personalisation
from lightning_fl.personalisation.workbench import Workbench
from lightning_fl.training.fitting import evaluate

Curve = dict[str, dict[str, float]]
"""Test metrics by number of patients, as text; "0" is the model as it came."""


def patients_curve(task: LocalTask, settings: Personalisation, came: pl.LightningModule) -> Curve:
    """Test scores of the global model personalised on the first k training patients, for each k.

    Args:
        task: of a site that did not train.
        settings: of the run's personalisation; `patients` has the numbers k.
        came: the global model.
    """
    chosen = {"0": came}
    for count in sorted(set(settings.patients)):
        chosen[str(count)] = personalised_on(task, settings, came, count)
    test = task.data.loader("test")
    return {k: evaluate(module, test, "test", task.trainer) for k, module in chosen.items()}


def personalised_on(
    task: LocalTask, settings: Personalisation, came: pl.LightningModule, count: int
) -> pl.LightningModule:
    """The global model made a hospital's own with `count` of its patients and no others.

    With two patients or more the guard chooses by cross-validation among them; the model has seen
    none of them before. With one there is nothing to choose by, so the rule is fixed: BatchNorm is
    re-estimated, which takes no gradient, whatever the candidates are; a net without BatchNorm
    stays as it came.
    """
    patients = task.data.split(task.name).train[:count]
    if count == 1:
        return Workbench(task, came, patients).with_own_batch_norm(came)
    folds = split_folds(patients, settings.folds)
    without = references(came, came)
    return choose_by(task, settings, came, without, patients, (), folds).variant.module
