"""The smoke study through the real train.py, its runner killed on the way."""

import os
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import yaml

from study.__main__ import main
from tests.folders import ROOT
from tests.waiting import wait_until


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def smoke(tmp_path: Path) -> Path:
    """The smoke study with its data in a folder of the test; one run of some rounds."""
    study = yaml.safe_load((ROOT / "configs" / "study" / "smoke.yaml").read_text())
    study["base"] = [str(ROOT / "configs" / "study" / base) for base in study["base"]]
    study["overrides"]["data.init_args"]["cache_dir"] = str(tmp_path / "cache")
    study["overrides"]["rounds"] = 3
    study["overrides"]["net.init_args"] = {
        "encoder_name": "tu-test_resnet",
        "encoder_depth": 2,
        "decoder_channels": [8, 8],
    }
    file = tmp_path / "smoke.yaml"
    file.write_text(yaml.safe_dump(study))
    return file


def run_in_a_group_of_its_own(words: list[str]) -> None:
    """Run a study as from a shell; the process has the libraries of the test's already."""
    os.setsid()
    sys.exit(main(words))


def test_a_killed_study_leaves_no_process_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder = tmp_path / "out"
    words = ["--config", str(smoke(tmp_path)), "--output", str(folder), "--seeds", "0"]
    words += ["--only", "FedAvg + BN"]  # one run
    runner = get_context("fork").Process(target=run_in_a_group_of_its_own, args=(words,))
    runner.start()
    assert runner.pid is not None
    group = runner.pid
    began = folder / "all" / "fedavg" / "0" / "checkpoints"
    wait_until(lambda: not runner.is_alive() or any(began.glob("round-*")))
    assert runner.is_alive(), runner.exitcode
    runner.kill()
    runner.join()
    wait_until(lambda: group_is_gone(group))
    assert not (folder / "all" / "fedavg" / "0" / "report.html").exists()
    assert main(words) == 0
    log = (folder / "all" / "fedavg" / "0" / "run.log").read_text()
    assert log.count(" to 3 with A, B, C") == 2  # once from the start, once resumed
    assert "n=1" in (folder / "report.md").read_text()


def test_ctrl_c_names_the_command_to_go_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("study.runner.perform_all", interrupted)
    words = ["--config", str(smoke(tmp_path)), "--output", str(tmp_path / "out")]
    assert main(words) == 130
    assert f"python -m study {' '.join(words)}" in capsys.readouterr().err
