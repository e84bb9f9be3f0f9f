"""train.py as a user calls it: commands, files, and what it says about bad input."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import train
from lightning_fl.errors import SiteError
from lightning_fl.run.run import Run
from models import Segmentation
from tests.folders import ROOT
from tests.toy import small_quickstart

Train = Callable[..., int]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the phantoms are drawn once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of the smallest federation of chest phantoms."""
    monkeypatch.chdir(ROOT)
    return small_quickstart(tmp_path / "run", cache)


@pytest.fixture(scope="module")
def finished(cache: Path) -> Path:
    """A run that began in a folder whose first try failed its check."""
    folder = cache.parent / "finished"
    arguments = small_quickstart(folder, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert status_of([*arguments, "--data.init_args.patients", "[2]"]) == 2
        assert train.main(arguments) == 0
    return folder


def status_of(arguments: list[str]) -> int:
    """Return the exit status of train.py: jsonargparse exits, we return it."""
    try:
        return train.main(arguments)
    except SystemExit as error:
        return int(str(error.code))


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Return what train.py says when it refuses."""
    assert status_of(arguments) == 2
    return capsys.readouterr().err


def test_a_run_that_failed_its_first_check_may_start_again(finished: Path) -> None:
    assert "<svg" in (finished / "report.html").read_text()


def test_a_run_is_repeated_from_its_own_config(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    again = ["--config", str(finished / "config.yaml"), "--output", str(tmp_path)]
    assert train.main(again) == 0
    first, second = (json.loads((f / "results.json").read_text()) for f in (finished, tmp_path))
    for results in (first, second):
        del results["costs"]["seconds"]
    assert first == second
    assert {"global", "global_bn", "finetuned", "personal"} == set(first["mean"])


def test_validate_tells_of_the_data_and_leaves_a_picture_of_them_alone(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*tiny, "--validate"]) == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["contact_sheet.png"]
    output = capsys.readouterr().out
    for site in "ABC":
        assert f"{site}: 1 patients to train, 1 to validate, 1 to test" in output
    assert output.count("classes by share of pixels: 0 ") == 3


def test_the_folder_is_named_before_anything_is_trained(
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before: list[str] = []
    monkeypatch.setattr(Run, "start", lambda run: before.append(capsys.readouterr().out))
    assert train.main(tiny) == 0
    assert before == [f"Run: {tmp_path / 'run'}\n"]


def test_resume_goes_on_to_more_rounds_and_refuses_other_settings(
    finished: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(shutil.copytree(finished, tmp_path / "run"))
    assert train.main(["--resume", run, "--rounds", "2"]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rounds"] == 2
    message = refused(capsys, ["--resume", run, "--net.init_args.encoder_depth", "3"])
    assert "A resumed run keeps its settings, but ['net'] differ" in message
    message = refused(capsys, ["--resume", run, "--trainer.local_steps", "3"])
    assert "['trainer.local_steps'] differ" in message
    message = refused(capsys, ["--resume", run, "--rounds", "1"])
    assert "has 2 rounds already, but `rounds` is 1" in message
    elsewhere = ["--data.init_args.cache_dir", str(tmp_path / "cache")]
    other_machine = ["--trainer.accelerator", "auto", "--trainer.deterministic", "true"]
    assert train.main(["--resume", run, "--min_sites", "1", *other_machine, *elsewhere]) == 0
    message = refused(capsys, ["--resume", run, "--seed", "5"])
    assert "['seed'] differ" in message
    message = refused(capsys, tiny)
    assert f"already holds a run. Go on with it by --resume {run}" in message
    message = refused(capsys, ["--resume", str(tmp_path / "nothing")])
    assert "There is no run to resume" in message


PER_FEDAVG = ["--algorithm", "lightning_fl.algorithms.PerFedAvg"]
DEEP_NET = [
    *("--net.init_args.encoder_depth", "5"),
    *("--net.init_args.decoder_channels", "[8, 8, 8, 8, 8]"),
]
"""Its last feature map of a small slice is a single pixel."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rouns", "3"], "rouns"),
        (["--round", "3"], "round"),  # no abbreviations
        (["--rounds", "three"], 'Parser key "rounds"'),
        (["--net.init_args.encodr_name", "resnet18"], "Option 'encodr_name' is not accepted"),
        (["--trainer.local_step", "3"], "local_step"),
        (["--config", "configs/missing.yaml"], "configs/missing.yaml"),
        (["--algorithm", "FedMagic"], "FedMagic"),
        (
            [*PER_FEDAVG, "--algorithm.init_args.inner_lr", "0"],
            "Expected `inner_lr` to be positive, but got",
        ),
        ([*PER_FEDAVG, "--algorithm.init_args.inner_lr", "fast"], "fast"),
        (["--sites_per_round", "9"], "`sites_per_round` to be between 1 and 3"),
        (["--data.init_args.sites", "1"], "at least two training sites, but there is 1"),
        (["--data.init_args.patients", "[2]"], "has 2 patients, but its split needs at least 3"),
        (["--net.init_args.classes", "2"], "2 channels"),
        (["--net.init_args.in_channels", "3"], "channels"),
        (
            [*PER_FEDAVG, *DEEP_NET, "--data.init_args.slices", "2"],
            "BatchNorm cannot train on a single value",
        ),
        (["--evaluation.metric", "f1"], "`evaluation.metric` is 'f1', but the task logs"),
        (["--data", "datamodules.ImageFolder", "--data.init_args.root", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_settings_are_refused_before_training(
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert message in refused(capsys, [*tiny, *arguments])
    assert not list(tmp_path.rglob("round-*"))


def test_a_first_step_that_gives_nan_is_refused(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rate = [*PER_FEDAVG, "--algorithm.init_args.inner_lr", "1e30"]
    assert "the very first training step gave NaN or infinity" in refused(capsys, [*tiny, *rate])


def test_an_unreadable_image_is_named(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for site in ("north", "south", "east"):
        for patient in range(6):
            for kind, value in (("images", 90), ("masks", 255)):
                folder = tmp_path / "scans" / site / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.new("L", (32, 32), value).save(folder / f"p{patient}.png")
    broken = tmp_path / "scans" / "south" / "images" / "p1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    config = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    config["data"] = {
        "class_path": "datamodules.ImageFolder",
        "init_args": {"root": str(tmp_path / "scans"), "patient": "file"},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    arguments = ["--config", str(file), "--output", str(tmp_path / "run"), "--rounds", "1"]
    assert str(broken) in refused(capsys, arguments)


def test_validate_with_hidden_counts_names_none(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*tiny, "--validate", "--aggregator.weights", "hidden"]) == 0
    output = capsys.readouterr().out
    assert "A: fits; it keeps its numbers to itself" in output
    assert "images" not in output
    assert not (tmp_path / "run").exists()


def test_two_sites_are_refused_before_anything_is_trained(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, [*tiny, "--sites_per_round", "2"])
    assert "sum gives each of them the other's update" in message
    assert "sites_per_round" in message


def test_a_hospital_that_does_not_host_is_told_in_its_own_words(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(run: Run) -> None:
        raise SiteError("B", "host", "failed", "ConfigError: There is no data folder 'x' here.")

    monkeypatch.setattr(Run, "start", refuse)
    message = refused(capsys, tiny)
    assert message == "error: at site 'B': ConfigError: There is no data folder 'x' here.\n"


def test_a_logger_without_its_package_is_refused_with_the_remedy(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightning_fl.results.run_logger.find_spec", lambda _: None)
    override = str(ROOT / "configs" / "overrides" / "tensorboard.yaml")
    message = refused(capsys, [*tiny, "--config", override])
    assert (
        'tensorboard, which this Python does not have. Install it by `pip install -e ".[tensor'
        in message
    )
    comet = "loggers: [{class_path: pytorch_lightning.loggers.CometLogger}]"
    message = refused(capsys, [*tiny, "--config", comet])
    assert "comet" in message
    assert "Traceback" not in message


def test_ctrl_c_inside_a_fit_names_the_folder_to_resume(
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Segmentation.training_step
    steps = 0

    def interrupted(self: Segmentation, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 8:  # past the rehearsal of the three sites
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Segmentation, "training_step", interrupted)
    assert train.main(tiny) == 130
    assert f"go on with --resume {tmp_path / 'run'}" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    assert train.main(["--resume", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("step", ["training_step", "validation_step"])
def test_sigterm_ends_a_run_like_ctrl_c(
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    original = getattr(Segmentation, step)
    steps = 0

    def terminated(self: Segmentation, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 8:  # past the rehearsal of the three sites
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Segmentation, step, terminated)
    assert train.main(tiny) == 143
    assert f"go on with --resume {tmp_path / 'run'}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_shadowed_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(train, "__file__", str(tmp_path / "train.py"))
    with pytest.raises(SystemExit, match=r"the package 'lightning_fl' should be the folder beside"):
        train.check_packages()
