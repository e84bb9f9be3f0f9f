"""Compare algorithms over seeds at equal numbers of gradients, with paired differences.

Each run is a process of `train.py`; runs that are there already are not run again. Prints a
Markdown table and writes a CSV.

    python benchmarks/algorithms.py --config configs/lgg_mri.yaml --seeds 0 1 2 --gradients 30
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

from lightning_fl import algorithms

ROOT = Path(__file__).resolve().parents[1]
ALGORITHMS = ("FedAvg", "PerFedAvg", "Local", "Centralised")
Scores = dict[tuple[str, int], dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """One run: which algorithm, which seed, where."""

    algorithm: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]

    def run(self, threads: int) -> None:
        """Run train.py unless its results are there."""
        if (self.folder / "report.html").exists():
            return
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, "train.py", *self.arguments, "--output", str(self.folder)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.algorithm}, seed {self.seed}: {done.stderr[-2000:]}")


def make_jobs(options: argparse.Namespace) -> list[Job]:
    """One job for each algorithm and seed, all with the same number of gradients a round."""
    jobs = []
    for seed in options.seeds:
        for algorithm in options.algorithms:
            steps = options.gradients // getattr(algorithms, algorithm)().gradients_per_step
            if algorithm == "Centralised":  # one model gets all the sites' gradients
                steps *= options.sites
            arguments = [
                *("--config", options.config, "--seed", str(seed)),
                *("--algorithm", f"lightning_fl.algorithms.{algorithm}"),
                *("--trainer.local_steps", str(steps), *options.extra),
            ]
            if algorithm == "Centralised":  # nobody to form a ring with
                arguments += ["--aggregator", "lightning_fl.aggregation.Plain"]
            folder = options.output / f"{algorithm}-{seed}"
            jobs.append(Job(algorithm, seed, folder, tuple(arguments)))
    return jobs


def test_scores(jobs: list[Job], metric: str) -> list[dict[str, Any]]:
    """The test score of each run, model and site, and their mean and worst."""
    rows = []
    for job in jobs:
        results = json.loads((job.folder / "results.json").read_text())
        groups = {**results["sites"], "mean": results["mean"], "worst": results["worst"]}
        for site, models in groups.items():
            for model, splits in models.items():
                if "test" in splits:
                    column = model.replace("local", "global")  # the same column for all
                    value = splits["test"][metric]
                    rows.append(
                        {"algorithm": job.algorithm, "seed": job.seed, "site": site}
                        | {"model": column, "value": value}
                    )
    return rows


def interval(values: list[float]) -> str:
    """Mean and 95 % interval of Student's t, in points."""
    if len(values) < 2:
        return f"{100 * mean(values):+.1f}"
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    m = 100 * mean(values)
    return f"{m:+.1f} [{m - 100 * half:+.1f}, {m + 100 * half:+.1f}]"


def table(rows: list[dict[str, Any]], algorithms: list[str], reference: str) -> str:
    """Markdown: one row an algorithm, mean and sd over seeds, worst site in brackets."""
    value = {(r["algorithm"], r["seed"], r["site"], r["model"]): r["value"] for r in rows}
    seeds = sorted({r["seed"] for r in rows})
    models = ["global", "global_bn", "personal"]
    lines = [
        f"| algorithm | {' | '.join(models)} | personal minus {reference}'s personal [95 %] |",
        "|---|---|---|---|---|",
    ]
    for algorithm in algorithms:
        cells = []
        for model in models:
            scores = [100 * value[algorithm, s, "mean", model] for s in seeds]
            lowest = mean(100 * value[algorithm, s, "worst", model] for s in seeds)
            spread = f" ± {stdev(scores):.1f}" if len(seeds) > 1 else ""
            cells.append(f"{mean(scores):.1f}{spread} ({lowest:.1f})")
        difference = [
            value[algorithm, s, "mean", "personal"] - value[reference, s, "mean", "personal"]
            for s in seeds
        ]
        paired = "0" if algorithm == reference else interval(difference)
        lines.append(f"| {algorithm} | {' | '.join(cells)} | {paired} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/lgg_mri.yaml")
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--gradients", type=int, default=30, help="of a site in a round")
    parser.add_argument("--sites", type=int, default=4, help="training sites of the config")
    parser.add_argument("--metric", default="dice")
    parser.add_argument("--reference", default="FedAvg")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark_algorithms"))
    parser.add_argument("extra", nargs="*", help="more arguments of train.py, after --")
    options = parser.parse_args()
    jobs = make_jobs(options)
    with ThreadPoolExecutor(options.jobs) as pool:
        threads = max(1, (os.cpu_count() or 1) // options.jobs)
        list(pool.map(lambda job: job.run(threads), jobs))
    rows = test_scores(jobs, options.metric)
    with (options.output / "test_scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    sys.stdout.write(table(rows, options.algorithms, options.reference) + "\n")


if __name__ == "__main__":
    main()
