"""What differential privacy costs: test score against epsilon, of whole sites and of samples.

Hospitals of chest phantoms learn to tell slices with an infection from those without, by a net of
402 parameters without BatchNorm, so small because noise grows with their number. Several seeds;
scores are those of the global model, averaged over hospitals. Prints a Markdown table and writes a
CSV with a row for each run.

    OMP_NUM_THREADS=1 python -m benchmarks.privacy_utility
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd
import torch
from monai.networks.nets import Classifier

from benchmarks.printing import Row, command_line, save, say_table
from datamodules import LabelledPhantoms
from lightning_fl.aggregation import Plain
from lightning_fl.algorithms import FedAvg
from lightning_fl.engines import Local
from lightning_fl.personalisation import Personalisation
from lightning_fl.privacy import DifferentialPrivacy, SampleLevelDP, SiteLevelDP
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.wire.monitor import Monitor
from models import Classification
from study.statistics import student_interval

DELTA, CLIP = 1e-5, 1.0
SITE_NOISE, SAMPLE_NOISE = (0, 0.03, 0.1, 0.3, 1), (0, 1, 2)
"""Noise multipliers."""
SITES, PATIENTS, ROUNDS, LOCAL_STEPS = 8, 16, 5, 20
METRIC = "auroc"
MakePrivacy = Callable[[], DifferentialPrivacy | None]


class PrivateScore(NamedTuple):
    """One run.

    Attributes:
        auroc: of the global model on test patients, mean over hospitals.
        epsilon: that the run spent; infinite without noise, NaN without differential privacy.
        seconds: of the run.
    """

    auroc: float
    epsilon: float
    seconds: float


def train(privacy: DifferentialPrivacy | None, seed: int, cache_dir: str | None) -> PrivateScore:
    """Train one federation."""
    start = time.perf_counter()
    seed_all(derive_seed(seed, "net"))
    net = Classifier([1, 32, 32], 2, [4, 8], [4, 4], num_res_units=0, act="relu")
    experiment = Experiment(
        task=Classification(net, classes=2, optimizer=partial(torch.optim.Adam, lr=0.03)),
        data=LabelledPhantoms(
            sites=SITES, patients=PATIENTS, size=32, test=0.3, batch_size=8, cache_dir=cache_dir
        ),
        algorithm=FedAvg(),
        aggregator=Plain(weights="equal"),
        engine=Local(),
        trainer=TrainerOptions(local_steps=LOCAL_STEPS, accelerator="cpu"),
        evaluation=Evaluation(metric=METRIC, gallery=0),
        personalisation=Personalisation([]),
        privacy=privacy,
        seed=seed,
        rounds=ROUNDS,
    )
    with TemporaryDirectory() as folder:
        results = Run(experiment, Path(folder), Monitor()).start()
    epsilon = results.get("privacy", {}).get("epsilon", math.nan)
    if epsilon is None:  # how infinity is written
        epsilon = math.inf
    auroc = results["mean"]["global"]["test"][METRIC]
    return PrivateScore(auroc, epsilon, time.perf_counter() - start)


def cases() -> Mapping[tuple[str, str], MakePrivacy]:
    """Return what is compared, by (whom it protects, noise multiplier)."""
    makers: dict[tuple[str, str], MakePrivacy] = {("nobody", "none"): lambda: None}
    for noise in SITE_NOISE:
        of_sites = partial(SiteLevelDP, clip=CLIP, noise_multiplier=noise, delta=DELTA)
        makers["a site", f"{noise:g}"] = of_sites
    for noise in SAMPLE_NOISE:
        of_samples = partial(SampleLevelDP, noise_multiplier=noise, delta=DELTA)
        makers["a sample", f"{noise:g}"] = of_samples
    return makers


def row(protects: str, noise: str, scores: list[PrivateScore]) -> Row:
    """Return a line of the table: mean and interval of the scores, and the largest epsilon."""
    runs = pd.DataFrame(scores)
    auroc, epsilon = student_interval(runs.auroc), runs.epsilon.max()
    words = "" if math.isnan(epsilon) else "none" if math.isinf(epsilon) else f"{epsilon:.3g}"
    return {
        "protects": protects,
        "noise multiplier": noise,
        "epsilon": words,
        "seeds": auroc.n,
        "test AUROC (95 %)": f"{auroc.mean:.3f} ({auroc.low:.3f} to {auroc.high:.3f})",
        "seconds": f"{runs.seconds.sum():.0f}",
    }


def main() -> None:
    """Train everything and write the table."""
    parser = command_line(__doc__, "privacy_utility")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache_dir", help="of the phantoms")
    options = parser.parse_args()
    runs: list[Row] = []

    def rows() -> Iterator[Row]:
        for (protects, noise), make in cases().items():
            scores = [train(make(), seed, options.cache_dir) for seed in range(options.seeds)]
            for seed, score in enumerate(scores):
                runs.append({"protects": protects, "noise": noise, "seed": seed} | score._asdict())
            yield row(protects, noise, scores)

    say_table(rows())
    save(options.csv, runs)


if __name__ == "__main__":
    main()
