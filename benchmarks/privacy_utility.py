"""What differential privacy costs: test score against epsilon, of whole sites and of samples.

Hospitals of chest phantoms learn to tell slices with an infection from those without, by a net of
402 parameters without BatchNorm, so small because noise grows with their number. Several seeds;
scores are those of the global model, averaged over hospitals. Prints a Markdown table and writes a
CSV with a row for each run.

    OMP_NUM_THREADS=1 python -m benchmarks.privacy_utility
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd
import torch
from monai.networks.nets import Classifier
from torch import nn

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

DELTA = 1e-5
METRIC = "auroc"


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


@dataclass(frozen=True)
class Task:
    """What is the same for all rows; phantoms are kept in the usual folder if none is named."""

    sites: int = 8
    patients: int = 16
    rounds: int = 5
    local_steps: int = 20
    cache_dir: str | None = None

    def score(self, privacy: DifferentialPrivacy | None, seed: int) -> PrivateScore:
        """Train one federation."""
        start = time.perf_counter()
        with TemporaryDirectory() as folder:
            (Path(folder) / "config.yaml").touch()
            run = Run(self._experiment(privacy, seed), Path(folder), Monitor())
            results = run.start()
        epsilon = results.get("privacy", {}).get("epsilon", math.nan)
        auroc = results["mean"]["global"]["test"][METRIC]
        if epsilon is None:  # how infinity is written
            epsilon = math.inf
        return PrivateScore(auroc, epsilon, time.perf_counter() - start)

    def _experiment(self, privacy: DifferentialPrivacy | None, seed: int) -> Experiment:
        seed_all(derive_seed(seed, "net"))
        return Experiment(
            task=Classification(_net(), classes=2, optimizer=partial(torch.optim.Adam, lr=0.03)),
            data=LabelledPhantoms(
                sites=self.sites,
                patients=self.patients,
                size=32,
                test=0.3,
                batch_size=8,
                cache_dir=self.cache_dir,
            ),
            algorithm=FedAvg(),
            aggregator=Plain(weights="equal"),
            engine=Local(),
            trainer=TrainerOptions(local_steps=self.local_steps, accelerator="cpu"),
            evaluation=Evaluation(metric=METRIC, gallery=0),
            personalisation=Personalisation([]),
            privacy=privacy,
            seed=seed,
            rounds=self.rounds,
        )


def _net() -> nn.Module:
    net: nn.Module = Classifier(
        in_shape=[1, 32, 32],
        classes=2,
        channels=[4, 8],
        strides=[4, 4],
        num_res_units=0,
        act="relu",
    )
    return net


Cases = Mapping[tuple[str, str], Callable[[], DifferentialPrivacy | None]]


def cases(sites: Iterable[float], samples: Iterable[float], clip: float) -> Cases:
    """Return what is compared, by (whom it protects, noise multiplier)."""
    makers: dict[tuple[str, str], Callable[[], DifferentialPrivacy | None]] = {
        ("nobody", "none"): lambda: None
    }
    for noise in sites:
        of_sites = partial(SiteLevelDP, clip=clip, noise_multiplier=noise, delta=DELTA)
        makers["a site", f"{noise:g}"] = of_sites
    for noise in samples:
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
    parser.add_argument("--sites", type=int, default=8, help="hospitals")
    parser.add_argument("--patients", type=int, default=16, help="of each hospital")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--local_steps", type=int, default=20)
    parser.add_argument("--clip", type=float, default=1.0, help="of a site's update")
    parser.add_argument("--site_noise", type=float, nargs="*", default=[0, 0.03, 0.1, 0.3, 1])
    parser.add_argument("--sample_noise", type=float, nargs="*", default=[0, 1, 2])
    parser.add_argument("--cache_dir", help="of the phantoms")
    options = parser.parse_args()
    task = Task(
        options.sites, options.patients, options.rounds, options.local_steps, options.cache_dir
    )
    runs: list[Row] = []

    def rows() -> Iterator[Row]:
        compared = cases(options.site_noise, options.sample_noise, options.clip)
        for (protects, noise), make in compared.items():
            scores = [task.score(make(), seed) for seed in range(options.seeds)]
            for seed, score in enumerate(scores):
                runs.append({"protects": protects, "noise": noise, "seed": seed} | score._asdict())
            yield row(protects, noise, scores)

    say_table(rows())
    save(options.csv, runs)


if __name__ == "__main__":
    main()
