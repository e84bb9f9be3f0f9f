"""From example files to masks: runs of CTFolder in one direction and in several, predictions."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import yaml

import train
from datamodules.examples import __main__ as make_example
from datamodules.readers.mask import read_mask
from datamodules.readers.volume import read_volume
from datamodules.targets import ClassNumbers
from lightning_fl.errors import ConfigError
from lightning_fl.predict import __main__ as predict
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.results.report import __main__ as report
from lightning_fl.results.summary import read_results
from lightning_fl.results.volume_tables import read_volumes
from lightning_fl.run.config import read_settings
from lightning_fl.run.directions import DirectionRuns
from lightning_fl.training.task import without_download
from lightning_fl.wire.monitor import Monitor
from tests.folders import ROOT
from tests.toy import ONE_STEP, SMALL_NET

EXAMPLE = ("covid", "--patients", "3", "--size", "32", "--slices", "12")


def arguments(data: Path, output: Path, directions: str = "[axial, sagittal]") -> list[str]:
    return [
        *("--config", str(ROOT / "configs" / "covid_ct.yaml"), "--output", str(output)),
        *("--data.init_args.root", str(data), "--data.init_args.cache_dir", str(data / ".cache")),
        *("--data.init_args.spacing", "[22, 22, 22]", "--data.init_args.shape", "[16, 16, 16]"),
        *("--net", "segmentation_models_pytorch.Unet", "--net.init_args.encoder_weights", "null"),
        *("--net.init_args.in_channels", "3", "--net.init_args.classes", "2", *SMALL_NET),
        *("--rounds", "1", "--trainer.local_steps", "2", "--trainer.accelerator", "cpu"),
        *("--directions", directions),
        *("--evaluation.gallery", "1", *ONE_STEP),
        *("--task.init_args.foreground_prior", "0.5"),  # so that some voxel is foreground
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("covid") / "data"
    assert make_example.main([EXAMPLE[0], str(folder), *EXAMPLE[1:]]) == 0
    return folder


@pytest.fixture(scope="module")
def run(made: Path) -> Path:
    output = made.parent / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert train.main(arguments(made, output)) == 0
    return output


def nifti(path: Path) -> Any:  # nibabel's loaders name no type
    return nibabel.load(path)


def voxels(path: Path) -> npt.NDArray[np.uint8]:
    return np.asanyarray(nifti(path).dataobj)


def test_each_direction_is_a_run_of_its_own(run: Path) -> None:
    for direction in ("axial", "sagittal"):
        config = yaml.safe_load((run / direction / "config.yaml").read_text())
        assert config["data"]["init_args"]["direction"] == direction
        assert config["directions"] == []
        assert (run / direction / "report.html").is_file()
        assert not (run / direction / "volumes.csv").exists()


def test_volumes_hold_each_direction_and_their_ensemble(run: Path) -> None:
    rows = read_volumes(run / "volumes.csv")
    assert {row.direction for row in rows} == {"axial", "sagittal", "ensemble"}
    assert {row.model for row in rows} == {"global", "personal"}
    assert {row.metric for row in rows} == {"dice", "sensitivity", "hd95", "volume_error"}
    assert {row.site for row in rows} == {"A", "B", "C"}
    found = read_results(run / "results.json")
    [dice] = [
        row.value
        for row in rows
        if (row.site, row.model, row.direction, row.metric) == ("B", "global", "ensemble", "dice")
    ]
    assert found["sites"]["B"]["global"]["test"]["dice"] == pytest.approx(dice)
    assert found["directions"] == ["axial", "sagittal"]
    page = (run / "report.html").read_text()
    assert "Whole scans" in page
    assert 'href="sagittal/report.html"' in page


def test_masks_lie_in_the_space_of_the_patients_own_scan(run: Path, made: Path) -> None:
    for site in ("A", "B"):
        [mask] = (run / "masks" / site).glob("*.global.nii.gz")
        scan = made / site / mask.name.removesuffix(".global.nii.gz") / "ct.nii.gz"
        ours, theirs = nifti(mask), nifti(scan)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
        assert set(np.unique(voxels(mask))) <= {0, 1}


@pytest.mark.parametrize("site", ["A", "B", "C"])
@pytest.mark.parametrize("model", ["global", "personal"])
def test_prediction_equals_the_masks_of_the_evaluation(
    site: str, model: str, run: Path, made: Path, tmp_path: Path
) -> None:
    [mask] = (run / "masks" / site).glob(f"*.{model}.nii.gz")
    patient = mask.name.removesuffix(f".{model}.nii.gz")
    output = tmp_path / "mask.nii.gz"
    scan = made / site / patient / ("ct" if site == "C" else "ct.nii.gz")
    named = ["--run", str(run), "--site", site, "--model", model]
    assert predict.main([*named, "--input", str(scan), "--output", str(output)]) == 0
    assert np.array_equal(voxels(output), voxels(mask))
    assert voxels(mask).any()


def test_a_dicom_series_becomes_a_dicom_segmentation(run: Path, made: Path, tmp_path: Path) -> None:
    [mask] = (run / "masks" / "C").glob("*.global.nii.gz")
    series = made / "C" / mask.name.removesuffix(".global.nii.gz") / "ct"
    named = ["--run", str(run), "--site", "C", "--model", "global", "--input", str(series)]
    assert predict.main([*named, "--output", str(tmp_path / "mask.dcm")]) == 0
    read = read_mask(tmp_path / "mask.dcm", read_volume(series), ClassNumbers())
    assert read.any()
    np.testing.assert_array_equal(read, voxels(mask))


def test_a_folder_of_patients_becomes_a_folder_of_masks(
    run: Path, made: Path, tmp_path: Path
) -> None:
    named = ["--run", str(run / "axial"), "--site", "A", "--input", str(made / "A")]
    assert predict.main([*named, "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{patient.name}.mask.nii.gz" for patient in sorted((made / "A").iterdir())
    ]


def test_a_finished_run_is_put_together_again_without_training(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lightning_fl")
    weights = run / "axial" / "models" / "global.safetensors"
    before, rows = weights.stat().st_mtime_ns, (run / "volumes.csv").read_text()
    assert train.main(["--resume", str(run)]) == 0
    assert weights.stat().st_mtime_ns == before
    assert (run / "volumes.csv").read_text() == rows
    said = [line for line in caplog.messages if ": " in line]
    assert said[-2].startswith("all directions: segment whole scans: ")
    assert said[-1] == "all directions: write the report"


def test_another_run_into_the_same_folder_is_refused(
    run: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["already holds a run"], capsys, train.main(arguments(made, run)))


def test_a_resumed_run_hands_on_what_may_change(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def stop(arguments: list[str]) -> None:
        asked.append(arguments)
        raise ConfigError("stopped here")

    given = [*arguments(made, tmp_path / "run"), "--min_sites", "3"]
    runs = DirectionRuns(read_settings(given), lambda _: Monitor())
    monkeypatch.setattr("lightning_fl.run.directions.read_settings", stop)
    (tmp_path / "run" / "axial" / "checkpoints" / "round-00000").mkdir(parents=True)
    with pytest.raises(ConfigError, match="stopped here"):
        runs.start()
    [[resume, folder, config, text]] = asked
    assert (resume, folder, config) == ("--resume", str(tmp_path / "run" / "axial"), "--config")
    changed = yaml.safe_load(text)
    assert changed["min_sites"] == 3
    assert changed["trainer"].keys() == {"accelerator", "device", "deterministic", "curves"}
    assert changed["evaluation"].keys() == {"patience"}
    assert changed["data"]["init_args"].keys() == {"root", "cache_dir", "num_workers"}
    assert "seed" not in changed


def test_patients_that_came_after_training_are_refused(
    run: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = made / "A" / "late"
    shutil.copytree(next((made / "A").iterdir()), late)
    try:
        refused(["patients in 'A'"], capsys, train.main(["--resume", str(run)]))
    finally:
        shutil.rmtree(late)


def test_directions_need_whole_scans(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = train.main([*arguments(made, tmp_path / "run"), "--evaluation.volumes", "false"])
    refused(["`evaluation.volumes` is false"], capsys, status)


def test_directions_of_hospitals_elsewhere_are_refused_before_anything_is_trained(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = ["--engine.init_args.kit", str(tmp_path), "--engine.init_args.sites", "[A, B, C]"]
    engine = ["--engine", "lightning_fl.engines.NVFlare", *kit]
    status = train.main([*arguments(made, tmp_path / "run"), *engine])
    refused(["the data are at the hospitals", "a run for each `data.direction`"], capsys, status)


def test_a_mask_never_replaces_a_scan(
    run: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "scan.nii.gz"
    shutil.copy(next((made / "A").glob("*/ct.nii.gz")), scan)
    before = scan.read_bytes()
    named = ["--run", str(run / "axial"), "--site", "A", "--input", str(scan)]
    refused(
        ["would replace", "which is a scan"],
        capsys,
        predict.main([*named, "--output", str(scan)]),
    )
    assert scan.read_bytes() == before
    assert predict.main([*named, "--output", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.mask.nii.gz", "scan.nii.gz"]


def test_the_report_can_be_written_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (run / "report.html").read_text()
    (run / "report.html").unlink()
    monkeypatch.setattr("sys.argv", ["report", str(run)])
    report.main()
    assert (run / "report.html").read_text() == page


def test_one_direction_alone_is_an_ordinary_run_with_whole_scans(
    made: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    assert train.main(arguments(made, output, "[]")) == 0
    rows = read_volumes(output / "volumes.csv")
    assert {row.direction for row in rows} == {"axial"}
    found = read_results(output / "results.json")
    assert set(found["volumes"]["mean"]["personal"]) == {"axial"}
    assert "dice" in found["mean"]["personal"]["test"]  # of slices, as in any run
    assert "Whole scans" in (output / "report.html").read_text()


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str], status: int) -> None:
    assert status == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("directions", "words"),
    [
        ("[axial, axial]", ["Expected different `directions`", "['axial', 'axial']"]),
        ("[axial, diagonal]", ["Unknown `direction` 'diagonal'", "'coronal'"]),
    ],
)
def test_wrong_directions_are_refused_before_anything_is_trained(
    directions: str,
    words: Sequence[str],
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        status = train.main(arguments(made, tmp_path / "run", directions))
    except SystemExit as stopped:  # jsonargparse builds the data module, and ends as it does
        status = int(stopped.code or 0)
    refused(words, capsys, status)
    assert not (tmp_path / "run" / "axial").exists()


def test_directions_need_data_that_have_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(ROOT / "configs" / "quickstart.yaml"), "--directions", "[axial]"]
    status = train.main([*config, "--output", str(tmp_path / "run")])
    refused(["ChestPhantoms has no setting `direction`"], capsys, status)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--site": "Z"}, ["no personal model of site 'Z'", "'A', 'B', 'C'"]),
        ({"--run": "nowhere"}, ["'nowhere' is no folder of a run"]),
        ({"--input": "none.nii.gz"}, ["There is no none.nii.gz"]),
        ({"--output": "one.dcm"}, ["one.dcm", "needs a DICOM series", ".nii.gz or .nii"]),
        ({"--output": "one.nii.gz"}, ["There are 3 scans, but --output is one file"]),
    ],
)
def test_predictions_that_cannot_be_are_refused(
    change: dict[str, str],
    words: Sequence[str],
    run: Path,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {
        "--run": str(run),
        "--site": "A",
        "--input": str(made / "A"),
        "--output": str(tmp_path / "out"),
    }
    status = predict.main([part for pair in (given | change).items() for part in pair])
    refused(words, capsys, status)


def test_a_personal_model_needs_a_site(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.main(["--run", str(run), "--input", ".", "--output", "out"])
    assert "name it with --site" in capsys.readouterr().err


def test_pretrained_weights_are_not_fetched_for_a_model_that_has_its_own() -> None:
    net = {"class_path": "x", "init_args": {"encoder_weights": "imagenet", "depth": 3}}
    assert without_download(net)["init_args"] == {"encoder_weights": None, "depth": 3}
    assert net["init_args"] == {"encoder_weights": "imagenet", "depth": 3}


def test_a_run_without_preprocessing_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((run / "axial" / "config.yaml").read_text())
    with pytest.raises(ConfigError, match=r"has no preprocessing\.yaml"):
        FinishedRun(tmp_path).preprocessing("A")
