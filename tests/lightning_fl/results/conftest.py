"""A made-up finished run, with every file that the report reads."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from lightning_fl.results.summary import summarise, write_results
from lightning_fl.results.tables import write_costs, write_metrics, write_transcript
from lightning_fl.wire.records import CostRow, MetricRow, TranscriptRow
from lightning_fl.wire.versions import package_versions

CONFIG = """\
seed: 1
rounds: {rounds}
net:
  class_path: segmentation_models_pytorch.Unet
  init_args: {{encoder_name: resnet18, encoder_weights: null}}
algorithm:
  class_path: lightning_fl.algorithms.PerFedAvg
  init_args: {{alpha: 0.01, order: 1}}
aggregator:
  class_path: lightning_fl.aggregation.{aggregator}
"""
RING = (
    ("ring_pass: encode", 0, 0, 0.2),
    ("ring_pass: encrypt", 0, 0, 1.0),
    ("ring_pass", 16_000_000, 16_000_000, 0.4),
)
PLAIN = (("aggregate", 4_000_000, 200, 0.1),)
GAINS = {
    "global": 0.0,
    "global_bn": 0.03,
    "personal": 0.09,
    "local": 0.0,
    "local_bn": 0.02,
    "finetuned": 0.07,
}


def blob(size: int, centre: tuple[float, float], radius: float) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:size, :size]
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    edge = radius * (1 + 0.18 * np.sin(3 * angle + centre[0]))
    inside = np.hypot(rows - centre[0], columns - centre[1]) < edge
    return np.asarray(inside, dtype=np.uint8)


def write_gallery(
    path: Path, rng: np.random.Generator, models: tuple[str, ...], channels: int, classes: int
) -> None:
    size, count = 96, 4
    lung = blob(size, (48, 48), 36)
    tensors: dict[str, NDArray[np.uint8] | NDArray[np.float32]] = {}
    truths, images = [], []
    predicted: dict[str, list[NDArray[np.uint8]]] = {model: [] for model in models}
    for _ in range(count):
        centre = tuple(rng.uniform(30, 64, size=2))
        radius = rng.uniform(7, 15)
        truth = blob(size, centre, radius)
        for model in models:
            error = rng.normal(0, 2 if model == "personal" else 5, size=3)
            predicted[model].append(
                blob(size, (centre[0] + error[0], centre[1] + error[1]), radius + error[2])
            )
        grey = 0.15 + 0.3 * lung + 0.25 * truth + rng.normal(0, 0.04, (channels, size, size))
        images.append(grey.astype(np.float32))
        if classes > 2:
            truth = truth * np.where(np.arange(size) < centre[1], 1, 2).astype(np.uint8)
        truths.append(truth)
    tensors["image"], tensors["truth"] = np.stack(images), np.stack(truths)
    tensors |= {model: np.stack(masks) for model, masks in predicted.items()}
    path.parent.mkdir(parents=True)
    save_file(tensors, path)


def ring_messages(sites: tuple[str, ...], rounds: int) -> list[TranscriptRow]:
    """One block, once round the ring in each round; the initiator gets a word to begin."""
    rows = []
    for round_ in range(1, rounds + 1):
        for place, site in enumerate(sites):
            before = sites[place - 1] if place else "coordinator"
            after = sites[(place + 1) % len(sites)]
            for direction, sender, recipient in (("in", before, site), ("out", site, after)):
                digest = f"{round_:08x}{place + (direction == 'out'):056x}"
                size = 300 if sender == "coordinator" else 2_000_000
                rows.append(
                    TranscriptRow(
                        round=round_,
                        ring=f"ring-{round_}",
                        step=0,
                        operation="ring_pass",
                        site=site,
                        direction=direction,
                        sender=sender,
                        recipient=recipient,
                        bytes=size,
                        digest=digest,
                        seconds=0.0,
                    )
                )
    return rows


def write_run(
    folder: Path,
    *,
    sites: tuple[str, ...] = ("Aachen", "Boston", "Chengdu", "Dakar"),
    unseen: tuple[str, ...] = (),
    rounds: int = 10,
    models: tuple[str, ...] = ("global", "global_bn", "personal"),
    gallery: bool = True,
    dropped: bool = False,
    finished: bool = True,
    channels: int = 1,
    classes: int = 2,
    aggregator: str = "CyclicCKKS",
) -> Path:
    """Write the folder of a run; the numbers are made up but of the right size."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    level = {site: 0.5 + 0.25 * math.cos(number) for number, site in enumerate((*sites, *unseen))}
    metrics: list[MetricRow] = []
    costs: list[CostRow] = []
    for round_ in range(1, rounds + 1):
        for site in sites:
            value = level[site] * (1 - math.exp(-round_ / 3)) + rng.normal(0, 0.015)
            metrics.append(MetricRow(round_, site, models[0], "val", "dice", float(value)))
            metrics.append(MetricRow(round_, site, models[0], "val", "loss", float(1 - value)))
            for operation, up, down, seconds in (
                ("train", 300, 5_700_000, 4.0),
                ("evaluate", 500, 400, 0.8),
                *(RING if aggregator == "CyclicCKKS" else PLAIN),
            ):
                seconds = float(seconds * rng.uniform(0.9, 1.1))
                costs.append(CostRow(round_, site, operation, up, down, seconds))
    by_round = {row.round: 0.0 for row in metrics}
    for row in metrics:
        by_round[row.round] += row.value if row.metric == "dice" else 0.0
    best_round = max(by_round, key=by_round.__getitem__)
    final = [] if finished else [row for row in metrics if row.round == best_round]
    for site in (*sites, *unseen) if finished else ():
        for model in models:
            score = level[site] + GAINS[model] + float(rng.normal(0, 0.02))
            for metric, value in {
                "dice": score,
                "iou": score / (2 - score),
                "loss": 1 - score,
            }.items():
                final.append(MetricRow(best_round, site, model, "test", metric, value))
        costs.append(CostRow(rounds, site, "personalise", 900, 300, 12.5))
    results = summarise(
        final=final,
        training_sites=sites,
        unseen=unseen,
        rounds=rounds,
        best_round=best_round,
        costs=costs,
        aggregator={"name": "Plain"}
        if aggregator == "Plain"
        else {
            "name": aggregator,
            "bits": 24,
            "masking": "pairwise",
            "weights": "samples",
            "pinned": [],
            "values": 1_000_000,
            "rounds": [
                {"round": round_, "sites": len(sites), "rings": 1}
                for round_ in range(1, rounds + 1)
            ],
        },
        personalisation={
            site: {
                "choice": f"finetune@{10 * number}" if number else "none",
                "steps": 10 * number,
                "validation_gain": 0.02 * number,
                "gradients": 40,
                "by": "validation",
                "candidates": {"none": 0.5, "finetune@10": 0.52, "finetune@20": math.nan},
                "round": best_round,
            }
            for number, site in enumerate(level)
        },
        dropped=[
            {
                "round": 3,
                "site": sites[1],
                "operation": "train",
                "reason": f"{sites[1]}: no answer in 60 s",
            }
        ]
        if dropped
        else [],
        versions=package_versions(),
    )
    results["new_hospital"] = {
        site: {k: {"dice": value} for k, value in (("0", 0.4), ("1", 0.5), ("4", 0.58))}
        for site in unseen
    }
    (folder / "config.yaml").write_text(
        CONFIG.format(rounds=rounds, aggregator=aggregator), encoding="utf-8"
    )
    write_metrics(folder / "metrics.csv", [*metrics, *final])
    write_costs(folder / "costs.csv", costs)
    messages = ring_messages(sites, rounds) if aggregator == "CyclicCKKS" else []
    write_transcript(folder / "transcript.csv", messages)
    write_results(folder / "results.json", results)
    for site in level if gallery else ():
        write_gallery(
            folder / "checkpoints" / "sites" / site / "gallery.safetensors",
            rng,
            tuple(model for model in models if not model.endswith("_bn")),
            channels,
            classes,
        )
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a finished run into a folder below tmp_path and return that folder."""

    def make(name: str = "run", **settings: object) -> Path:
        return write_run(tmp_path / name, **settings)  # type: ignore[arg-type]

    return make
