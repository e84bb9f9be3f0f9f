"""What the sums of two rounds tell of a site: `python -m benchmarks.following_rounds`.

A coordinator can say that a site is lost, and subtract the sum of the next round, over the others,
from the sum of this one, over all. Runs the quickstart by Per-FedAvg, and correlates that
difference with the site's own update. Beside it is the sum over all, which the mean tells anyway.
Prints a table; writes nothing.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from lightning_fl.aggregation import Plain, Updates
from lightning_fl.errors import SiteError
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.monitor import Monitor

SITES = "ABCD"
CONFIG = "configs/quickstart.yaml"


def updates(folder: Path, rounds: int, seed: int) -> dict[tuple[int, str], Tensor]:
    """Run the quickstart; return the sites' updates by round and site."""
    arguments = [
        *("--config", CONFIG, "--output", str(folder), "--rounds", str(rounds)),
        *("--seed", str(seed), "--aggregator", "lightning_fl.aggregation.Plain"),
        *("--algorithm", "lightning_fl.algorithms.PerFedAvg", "--trainer.accelerator", "cpu"),
        *("--personalisation.candidates", "[]"),
    ]
    settings = read_settings(arguments)
    settings.save()
    fetch, fetched = Plain._fetch, {}

    def remembered(plain: Plain, channel: Channel, asked: Updates, site: str) -> Tensor | SiteError:
        answer = fetch(plain, channel, asked, site)
        if isinstance(answer, Tensor):
            fetched[asked.round, site] = answer.double()
        return answer

    with patch.object(Plain, "_fetch", remembered):
        Run(settings.experiment, settings.folder, Monitor(), text=settings.text).start()
    return fetched


def correlations(folder: Path, rounds: int, seed: int) -> tuple[list[float], list[float]]:
    """Return by site the correlation of its update with the difference, and with the sum."""
    by_round = updates(folder, rounds, seed)
    total = torch.stack([by_round[rounds - 1, site] for site in SITES]).sum(0)
    later = torch.stack([by_round[rounds, site] for site in SITES]).sum(0)
    differences, sums = [], []
    for site in SITES:
        update = by_round[rounds - 1, site]
        difference = total - (later - by_round[rounds, site])
        differences.append(float(torch.corrcoef(torch.stack([update, difference]))[0, 1]))
        sums.append(float(torch.corrcoef(torch.stack([update, total]))[0, 1]))
    return differences, sums


def main() -> None:
    """Print the correlations' means over sites, with the interval over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    means = []
    for seed in range(args.seeds):
        with TemporaryDirectory() as name:
            pair = correlations(Path(name) / "run", args.rounds, seed)
            means.append([np.mean(values) for values in pair])
    names = ("difference of two rounds", "sum of one round")
    for what, values in zip(names, np.array(means).T, strict=True):
        mean, error = np.mean(values), stats.sem(values)
        reach = error * stats.t.ppf(0.975, len(values) - 1)
        sys.stdout.write(f"{what}: correlation with the site's update {mean:.2f} +- {reach:.2f}\n")


if __name__ == "__main__":
    main()
