"""What a model gives away of who it was trained on, by how long it was trained at one hospital.

Trains on chest phantoms, then tries to tell training from test patients by their loss. Prints a
Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.membership
"""

from collections.abc import Iterator, Sequence

from monai.networks.nets import BasicUNet

from benchmarks.printing import Row, command_line, save, say_table
from datamodules import ChestPhantoms
from lightning_fl.audit.membership.inference import Inference, inference, loss_threshold_scores
from lightning_fl.audit.membership.sample_losses import site_losses
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.training.fitting import TrainerOptions, fit
from lightning_fl.training.progress import Progress
from models import Segmentation

SEED = 0


def attack(task: Segmentation, data: ChestPhantoms) -> Inference:
    """Tell patients apart by a threshold on their mean losses."""
    losses = site_losses(task, data)
    members, others = (loss_threshold_scores(list(each.values())) for each in losses)
    return inference(members, others)


def rows(all_steps: Sequence[int]) -> Iterator[Row]:
    """Train on and on, and yield a row for each number of steps."""
    seed_all(derive_seed(SEED, "membership"))
    net = BasicUNet(2, 1, 1, features=(16, 16, 32, 32, 32, 16), norm=("group", {"num_groups": 4}))
    task = Segmentation(net, foreground_prior=0.1)
    phantoms = ChestPhantoms(sites=["A"], patients=23, slices=6, size=32, val=1, test=11)
    data = phantoms.for_site("A", SEED)
    progress, trainer = Progress(), TrainerOptions(local_steps=1, accelerator="cpu")
    for steps in sorted(all_steps):
        if steps > progress.steps:
            loader = data.train_loader(seed=steps)
            progress, _ = fit(task, loader, [], trainer.for_steps(steps - progress.steps), progress)
        result = attack(task, data)
        yield {
            "steps of training": steps,
            "AUC (95 %)": _cell(result, "auc"),
            "true positives at 10 %": _cell(result, "tpr@0.1"),
        }


def _cell(result: Inference, name: str) -> str:
    low, high = result.intervals[name]
    return f"{result.values[name]:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Train on and on, attack in between, write the table."""
    parser = command_line(__doc__, "membership")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 100, 400, 1000])
    options = parser.parse_args()
    save(options.csv, say_table(rows(options.steps)))


if __name__ == "__main__":
    main()
