"""The whole program with a fake train.py."""

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from study.__main__ import main
from tests.processes import children
from tests.study.conftest import WriteStudy, study_settings

pytestmark = pytest.mark.usefixtures("fake_train")


class Program:
    """Calls the program on one study and folder."""

    def __init__(self, write: WriteStudy, folder: Path) -> None:
        self.write = write
        self.folder = folder

    def __call__(self, *arguments: str, name: str = "tiny", **changes: Any) -> int:
        file = self.write(name, **changes)
        return main(["--config", str(file), "--output", str(self.folder), *arguments])

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open() as file:
            return list(csv.DictReader(file))


@pytest.fixture
def program(write_study: WriteStudy, tmp_path: Path) -> Program:
    return Program(write_study, tmp_path / "out")


def test_a_study_from_runs_to_report(program: Program) -> None:
    assert program(conditions={"full": {}, "none": {"data.init_args.shift": "none"}}) == 0
    scores = program.rows("scores.csv")
    first = scores[0]
    assert (first["condition"], first["method"], first["site"]) == ("full", "FedAvg", "A")
    assert float(first["value"]) == 0.6
    assert {row["site"] for row in scores} == {"A", "B", "mean", "worst"}
    assert len(program.rows("costs.csv")) == 8
    assert program.rows("costs.csv")[0]["train_gradients"] == "100"
    report = program.text("report.md")
    assert "python -m study --config" in report
    assert "| FedAvg | 50.5 ± 0.7 | 40.5 | 0 | 0 | 100 | 1 kB | 3.0 s |" in report
    assert "| FedAvg + FT | 60.5 ± 0.7 | 50.5 | +10.0 [+10.0, +10.0] n=2 |" in report
    assert "<svg" in program.text("report.html")
    settings = program.text("none/fedavg/settings.yaml")
    assert "shift: none" in settings
    assert "seed:" not in settings.replace("data_seed:", "")


def test_finished_runs_are_not_run_again_and_seeds_add_up(program: Program) -> None:
    assert program("--seeds", "0") == 0
    log = program.text("all/local/0/run.log")
    assert program("--seeds", "1", "--jobs", "2") == 0
    assert "n=1" in program.text("report.md")
    assert program() == 0
    assert program.text("all/local/0/run.log") == log
    assert "n=2" in program.text("report.md")
    assert {row["seed"] for row in program.rows("costs.csv")} == {"0", "1"}


def test_sigterm_ends_the_workers_and_the_same_command_goes_on(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE", json.dumps({"local/1": "terminate"}))
    before, handler = children(), signal.getsignal(signal.SIGTERM)
    assert program() == 143
    said = capsys.readouterr().err
    assert "interrupted; finished runs stay. Go on with the same command:\npython -m study" in said
    assert children() == before
    assert signal.getsignal(signal.SIGTERM) is handler
    assert (program.folder / "all" / "fedavg" / "0" / "results.json").is_file()
    assert not (program.folder / "all" / "local" / "1" / "results.json").exists()
    monkeypatch.delenv("FAKE")
    assert program() == 0
    assert "n=2" in program.text("report.md")


def test_a_failed_run_is_named_and_tried_again(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = {"fedavg/0": "refuse", "local/1": "nothing"}
    monkeypatch.setenv("FAKE", json.dumps(failing))
    assert program() == 1
    reason = "all: fedavg, seed 0: exit status 2: not like this"
    assert reason in capsys.readouterr().err
    assert reason in program.text("report.md")
    assert reason in program.text("report.html")
    assert "local, seed 1: it ended without results" in program.text("report.md")
    assert len(program.rows("costs.csv")) == 2
    monkeypatch.delenv("FAKE")
    assert program() == 0
    assert "Missing" not in program.text("report.md")


def test_a_run_with_a_checkpoint_is_resumed(program: Program) -> None:
    place = program.folder / "all" / "local" / "1"
    (place / "checkpoints").mkdir(parents=True)
    (place / "checkpoints" / "round-00001.safetensors").touch()
    assert program() == 0
    assert f"arguments: --resume {place}" in program.text("all/local/1/run.log")
    assert "--resume" not in program.text("all/local/0/run.log")


def take_away_the_runs(program: Program) -> None:
    for file in program.folder.glob("all/*/*/results.json"):
        file.unlink()


def test_the_report_can_be_made_of_the_csv_files_alone(program: Program) -> None:
    assert program("--report-only") == 2  # there are none yet
    assert program() == 0
    before = program.text("report.md").split("## ")[1]
    take_away_the_runs(program)
    assert program("--report-only") == 0
    assert program.text("report.md").split("## ")[1] == before
    assert program("--report-only", "--seeds", "0", "8") == 1
    assert "all: local, seed 8: not run yet" in program.text("report.md")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overrides": {"rounds": 9}}, "['rounds'] differ"),
        ({"name": "other"}, "holds the study 'tiny', but this is 'other'"),
    ],
)
def test_a_report_of_other_settings_is_refused(
    program: Program, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    assert program() == 0
    before = program.text("report.md")
    assert program("--report-only", **changes) == 2
    assert said in capsys.readouterr().err
    assert program.text("report.md") == before


def with_tuned(model: str) -> dict[str, dict[str, str]]:
    methods: dict[str, dict[str, str]] = study_settings()["methods"]
    return methods | {"FedAvg + FT": {"run": "fedavg", "model": model}}


def test_a_report_reads_the_runs_again_for_changed_and_new_rows(program: Program) -> None:
    assert program() == 0
    methods = with_tuned("finetuned") | {"new": {"run": "local", "model": "global"}}
    assert program("--report-only", methods=methods) == 0
    report = program.text("report.md")
    assert "| FedAvg + FT | 70.5 ± 0.7 |" in report
    assert "| new | 40.5 ± 0.7 |" in report
    assert program("--report-only", metric="loss") == 0
    assert program("--report-only", metric="dize") == 2


def test_without_its_runs_a_report_lists_changed_and_new_rows_as_missing(program: Program) -> None:
    assert program() == 0
    take_away_the_runs(program)
    methods = with_tuned("finetuned") | {"new": {"run": "local", "model": "global"}}
    assert program("--report-only", methods=methods) == 1
    report = program.text("report.md")
    assert "- all: fedavg, seed 1: FedAvg + FT: not in scores.csv" in report
    assert "- all: local, seed 0: new: not in scores.csv" in report
    assert "| FedAvg | 50.5" in report
    assert "| FedAvg + FT |" not in report
    assert "| new |" not in report


def test_a_row_may_be_a_candidate_of_personalisation(program: Program) -> None:
    name = "FedAvg | <finetune[average]@100>"
    candidate = {"run": "fedavg", "model": "finetune[average]@100"}
    methods = study_settings()["methods"] | {name: candidate}
    worlds = {"full": {}, "none": {"data.init_args.shift": "none"}}
    assert program(methods=methods, conditions=worlds, floor=[name]) == 0
    assert r"| FedAvg \| <finetune[average]@100> | 55.5 ± 0.7 |" in program.text("report.md")
    page = program.text("report.html")
    assert page.count("<td>FedAvg | &lt;finetune[average]@100&gt;</td>") == 5  # twice a world
    assert page.count(">FedAvg | &lt;finetune[average]@100&gt;</text>") == 4  # plots
    assert "<finetune" not in page
    assert program.text("report.md").count("| 120 | 1 kB |") == 6  # with its own gradients


def test_sites_that_dropped_out_are_told(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", json.dumps({"fedavg/0": "lose", "fedavg/1": "lose"}))
    assert program() == 0
    assert [row["losses"] for row in program.rows("costs.csv")] == ["2", "0", "2", "0"]
    words = "Sites dropped out of rounds of fedavg (4); the runs' own reports say why."
    assert words in program.text("report.md")
    assert words.replace("'", "&#39;") in program.text("report.html")
    assert program("--seeds", "1") == 0
    assert "rounds of fedavg (2);" in program.text("report.md")


def test_only_trains_what_some_methods_and_the_reference_need(program: Program) -> None:
    assert program("--only", "FedAvg + FT") == 0
    assert not (program.folder / "all" / "local" / "0").exists()
    assert "| FedAvg + FT |" in program.text("report.md")
    assert "Local" not in program.text("report.md").split("## ")[1]


def test_a_model_that_a_run_lacks_is_missing(program: Program) -> None:
    methods = {"FedAvg": {"run": "fedavg", "model": "global"}}
    methods |= {"BN": {"run": "fedavg", "model": "global_bn"}}
    assert program(methods=methods) == 1
    said = "BN: the run has no model 'global_bn', but global, personal, finetuned"
    assert said in program.text("report.md")


def test_other_settings_are_refused_and_named(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program() == 0
    assert program(overrides={"rounds": 9}) == 2
    said = capsys.readouterr().err
    assert "'fedavg' in condition 'all'" in said
    assert "['rounds'] differ. Choose another folder with --output" in said
    assert program(name="other") == 2
    assert "holds the study 'tiny', but this is 'other'" in capsys.readouterr().err
    assert program(reference="Local", seeds=[1]) == 0  # changes no run


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (["--jobs", "0"], {}, "Expected --jobs to be at least 1"),
        (["--seeds", "1", "1"], {}, "[1] twice"),
        (["--only", "FedSGD"], {}, "`--only` names 'FedSGD'"),
        ([], {"overrides": {"rouns": 1}}, "'rouns' is not accepted"),
        ([], {"metric": "dize"}, "`metric` is 'dize', but the test metrics of"),
    ],
)
def test_bad_calls_are_refused(
    program: Program,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    assert program(*arguments, **changes) == 2
    assert message in capsys.readouterr().err


def test_two_runners_do_not_share_a_folder(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    from study.study_folder import locked

    with locked(program.folder):
        assert program() == 2
    assert "Another study is running in" in capsys.readouterr().err
    assert program() == 0
