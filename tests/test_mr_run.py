"""From MR scans to masks: a run of Volumes, predictions, and real scans of unlike scanners."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml

import train
from lightning_fl.predict import __main__ as predict
from lightning_fl.results.summary import read_results
from tests.datamodules.volumes.test_volumes import write_table
from tests.folders import HIPPOCAMPUS


def write_config(
    path: Path, table: Path, data: Mapping[str, Any], prior: float = 0.3, **settings: Any
) -> Path:
    """Write settings of a run of three classes on the CPU."""
    index = {"class_path": "datamodules.Table", "init_args": {"path": str(table)}}
    given = {"index": index, "modality": "MR", "classes": 3, "batch_size": 16, **data}
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.002}}
    task = {"classes": 3, "foreground_prior": prior, "optimizer": optimizer}
    config = {
        "directions": [],
        "task": {"class_path": "models.Segmentation", "init_args": task},
        "data": {"class_path": "datamodules.Volumes", "init_args": given},
        "algorithm": {"class_path": "lightning_fl.algorithms.FedAvg"},
        "aggregator": {"class_path": "lightning_fl.aggregation.Plain"},
        "engine": {"class_path": "lightning_fl.engines.Local"},
        **settings,
    }
    path.write_text(yaml.safe_dump(config))
    return path


def net(channels: int, width: int) -> dict[str, Any]:
    features = [width, width, 2 * width, 2 * width, 2 * width, width]
    init = {"spatial_dims": 2, "in_channels": channels, "out_channels": 3, "features": features}
    return {"class_path": "monai.networks.nets.BasicUNet", "init_args": init}


def voxels(path: Path) -> npt.NDArray[np.uint8]:
    image: Any = nibabel.load(path)
    return np.asanyarray(image.dataobj)


def test_mr_scans_are_trained_scored_and_predicted(tmp_path: Path) -> None:
    table = write_table(tmp_path / "data")
    data = {
        **{"spacing": [1, 1, 2], "shape": [32, 32, 8], "cache_dir": str(tmp_path / "cache")},
        "normalise": {"class_path": "datamodules.SiteZScore"},
    }
    config = write_config(
        tmp_path / "run.yaml",
        table,
        data,
        prior=0.9,  # so that some voxel is foreground
        net=net(3, 4),
        rounds=1,
        trainer={"local_steps": 2, "accelerator": "cpu"},
        personalisation={"candidates": []},
    )
    run = tmp_path / "run"
    assert train.main(["--config", str(config), "--output", str(run)]) == 0
    [mask] = (run / "masks" / "B").glob("*.global.nii.gz")
    patient = mask.name.removesuffix(".global.nii.gz")
    assert voxels(mask).shape == (16, 12, 6)
    assert voxels(mask).any()
    scan = tmp_path / "data" / "B" / f"{patient[1:]}_image.nii.gz"
    output = tmp_path / "mask.nii.gz"
    named = ["--run", str(run), "--site", "B", "--model", "global", "--input", str(scan)]
    assert predict.main([*named, "--output", str(output)]) == 0
    np.testing.assert_array_equal(voxels(output), voxels(mask))


@pytest.mark.slow
@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="needs the MR scans of hippocampi")
def test_hospitals_of_unlike_scanners_learn_alike(tmp_path: Path) -> None:
    rows = pd.read_csv(HIPPOCAMPUS / "sites.csv").groupby("site").head(10)
    for column in ("image", "mask"):
        rows[column] = [str(HIPPOCAMPUS / name) for name in rows[column]]
    rows.to_csv(tmp_path / "sites.csv", index=False)
    data: dict[str, Any] = {
        "spacing": [1, 1, 1],
        "shape": [48, 64, 48],
        "cache_dir": str(tmp_path / "cache"),
    }
    data["index"] = {
        "class_path": "datamodules.Table",
        "init_args": {"path": str(tmp_path / "sites.csv"), "root": str(HIPPOCAMPUS)},
    }
    config = write_config(
        tmp_path / "run.yaml",
        tmp_path / "sites.csv",
        data,
        net=net(3, 12),
        rounds=3,
        trainer={"local_steps": 30, "accelerator": "cpu"},
        personalisation={"candidates": []},
        evaluation={"metric": "dice", "volumes": False},
    )
    assert train.main(["--config", str(config), "--output", str(tmp_path / "run")]) == 0
    sites = read_results(tmp_path / "run" / "results.json")["sites"]
    dice = [site["global"]["val"]["dice"] for site in sites.values()]
    assert len(dice) == 4
    assert min(dice) > 0.5
    assert max(dice) - min(dice) < 0.1
