"""What a model gives away of who it was trained on, by how long it was trained at one hospital.

Trains on chest phantoms, then tries to tell training from test patients by their loss. Prints a
Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python benchmarks/membership.py
"""

import argparse
import csv
import logging
import sys
import warnings
from pathlib import Path

from monai.networks.nets import BasicUNet

from datamodules import ChestPhantoms
from lightning_fl.audit.membership.inference import Inference, inference, loss_threshold_scores
from lightning_fl.audit.membership.sample_losses import site_losses
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.training.fitting import Progress, TrainerOptions, fit
from models import Segmentation

PATIENTS, VALIDATION, TEST = 23, 1, 11


def attack(task: Segmentation, data: ChestPhantoms) -> Inference:
    """The loss-threshold attack on patients' mean losses."""
    losses = site_losses(task, data)
    members, others = (loss_threshold_scores(list(each.values())) for each in losses)
    return inference(members, others)


def main() -> None:
    """Train on and on, attack in between, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 100, 400, 1000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, default=Path("runs/benchmarks/membership.csv"))
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    seed_all(derive_seed(options.seed, "membership"))
    net = BasicUNet(2, 1, 1, features=(16, 16, 32, 32, 32, 16), norm=("group", {"num_groups": 4}))
    task = Segmentation(net, foreground_prior=0.1)
    phantoms = ChestPhantoms(
        sites=["A"], patients=PATIENTS, slices=6, size=32, val=VALIDATION, test=TEST
    )
    data = phantoms.for_site("A", options.seed)
    progress, trainer, rows = Progress(), TrainerOptions(local_steps=1, accelerator="cpu"), []
    for steps in sorted(options.steps):
        if steps > progress.steps:
            loader = data.train_loader(seed=steps)
            progress, _ = fit(task, loader, [], trainer.for_steps(steps - progress.steps), progress)
        found = attack(task, data)
        rows.append([str(steps), *(_cell(found, name) for name in ("auc", "tpr@0.1"))])
    header = ["steps of training", "AUC (95 %)", "true positives at 10 %"]
    lines = [header, ["---"] * len(header), *rows]
    sys.stdout.write("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _cell(found: Inference, name: str) -> str:
    low, high = found.intervals[name]
    return f"{found.values[name]:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
