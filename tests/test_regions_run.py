"""From four MR channels to masks of overlapping regions: a run of Volumes and its predictions."""

from pathlib import Path

import numpy as np
import pytest

import train
from datamodules import Regions, Table, Volumes
from lightning_fl.predict import __main__ as predict
from lightning_fl.results.volume_tables import read_volumes
from tests.datamodules.readers.scan_files import write_nifti
from tests.datamodules.volumes.test_volumes import write_rows
from tests.test_mr_run import net, voxels, write_config

CHANNELS = ("flair", "t1", "t1ce", "t2")
REGIONS = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}
SHAPE = (16, 12, 6)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def tumour(seed: int) -> np.ndarray:
    """Oedema (2) around a core (1) with an enhancing part (4)."""
    mask = np.zeros(SHAPE, np.uint8)
    x = 3 + seed % 3
    mask[x : x + 8, 2:10, 1:5], mask[x + 2 : x + 6, 4:8, 2:4], mask[x + 3, 5, 2:4] = 2, 1, 4
    return mask


def write_brats(root: Path) -> Path:
    """Write two hospitals of four patients, a folder each with four scans and a mask."""
    rows = []
    for number in range(8):
        site, patient = "AB"[number % 2], f"BraTS_{number:03d}"
        folder = Path(site) / patient
        (root / folder).mkdir(parents=True)
        seen, rng = tumour(number), np.random.default_rng(number)
        for place, channel in enumerate(CHANNELS):
            values = 100 * (place + 1) + 50.0 * seen + rng.uniform(0, 20, SHAPE)
            write_nifti(root / folder / f"{patient}_{channel}.nii.gz", values, AFFINE)
        write_nifti(root / folder / f"{patient}_seg.nii.gz", seen, AFFINE)
        images = {f"image_{c}": str(folder / f"{patient}_{c}.nii.gz") for c in CHANNELS}
        row = {"site": site, "patient": patient, **images}
        rows.append({**row, "mask": str(folder / f"{patient}_seg.nii.gz")})
    return write_rows(root / "table.csv", rows)


def test_samples_hold_every_channel_and_region(tmp_path: Path) -> None:
    data = Volumes(
        Table(write_brats(tmp_path)),
        target=Regions(REGIONS, ignore=(2,)),
        spacing=(1, 1, 2),
        shape=(16, 12, 8),
        train_slices="lesion",
        cache_dir=str(tmp_path / ".cache"),
    )
    [patient, *_] = data.split("A").train
    samples = data.dataset("A", [patient], augment=False)
    assert len(samples) == 4  # type: ignore[arg-type]  # two with what is not ignored, two others
    sample = samples[1]
    assert sample["image"].shape == (12, 12, 16)
    expected = tumour(int(patient[-1]))[:, :, 2].T
    regions = np.where(expected == 2, 255, [np.isin(expected, n) for n in REGIONS.values()])
    np.testing.assert_array_equal(sample["mask"], regions)


def test_regions_of_four_channels_are_trained_scored_and_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_brats(tmp_path / "data")
    regions = {"class_path": "datamodules.Regions", "init_args": {"regions": REGIONS}}
    data = {
        **{"spacing": [1, 1, 2], "shape": [32, 32, 8], "cache_dir": str(tmp_path / "cache")},
        **{"target": regions, "name": [f"{{patient}}_{channel}" for channel in CHANNELS]},
    }
    config = write_config(
        tmp_path / "run.yaml",
        table,
        data,
        prior=0.5,  # so that some voxel is foreground
        net=net(12, 4),
        rounds=1,
        trainer={"local_steps": 2, "accelerator": "cpu"},
        personalisation={"candidates": []},
    )
    run = tmp_path / "run"
    given = ["--config", str(config), "--task.init_args.regions", "true", "--output", str(run)]
    assert train.main(given) == 0, capsys.readouterr().err
    scores = {row.metric: row.value for row in read_volumes(run / "volumes.csv")}
    assert 0 < scores["dice"] <= 1
    [patient] = {path.name.partition(".")[0] for path in (run / "masks" / "A").glob("*.nii.gz")}
    named = ["--run", str(run), "--site", "A", "--model", "global"]
    source = tmp_path / "data" / "A"
    output = ["--output", str(tmp_path / "out")]
    assert predict.main([*named, "--input", str(source / patient), *output]) == 0
    for number in (1, 2, 3):
        mask = voxels(run / "masks" / "A" / f"{patient}.global.{number}.nii.gz")
        assert mask.shape == SHAPE
        ours = voxels(tmp_path / "out" / f"{patient}.mask.{number}.nii.gz")
        np.testing.assert_array_equal(ours, mask)
    assert mask.any()
    (source / patient / f"{patient}_t2.nii.gz").unlink()
    assert predict.main([*named, "--input", str(source), *output]) == 2
    assert f"{patient} has no {patient}_t2, one of the channels" in capsys.readouterr().err
