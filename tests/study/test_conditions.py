from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.errors import ConfigError
from study.conditions import Condition, conditions_of, nested, planned, settings_of
from study.study_file import Study, read_study
from tests.folders import ROOT
from tests.study.conftest import WriteStudy

STUDIES = sorted((ROOT / "configs" / "study").glob("*.yaml"))


def test_dotted_and_nested_keys_are_the_same() -> None:
    assert nested({"a.b": 1, "a": {"c": {"d": None}}}) == {"a": {"b": 1, "c": {"d": None}}}


@pytest.mark.parametrize("twice", [{"a.b": 1, "a": {"b": 2}}, {"a": 1, "a.b": 2}])
def test_a_key_set_twice_is_refused(twice: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="to be set once, but got"):
        nested(twice)


def test_a_grid_is_the_product_of_its_factors(write_study: WriteStudy) -> None:
    grid = {
        "sites": {"4 sites": {}, "8 sites": {"data.init_args.sites": 8, "runs": ["local"]}},
        "shift": {"none": {"data.init_args.shift": "none", "seeds": [7]}, "full": None},
    }
    conditions = conditions_of(read_study(write_study(grid=grid)))
    assert [c.name for c in conditions] == [
        "4 sites / none",
        "4 sites / full",
        "8 sites / none",
        "8 sites / full",
    ]
    assert conditions[2].settings == {"data": {"init_args": {"sites": 8, "shift": "none"}}}
    assert [c.runs for c in conditions[1:3]] == [("fedavg", "local"), ("local",)]
    assert [c.seeds for c in conditions[:2]] == [(7,), (0, 1)]


def test_cells_of_a_grid_do_not_share_a_folder(write_study: WriteStudy) -> None:
    grid: dict[str, Any] = {"net": {"unet": {}, "unet 4": {}}, "sites": {"4 8": {}, "8": {}}}
    study = read_study(write_study(grid=grid))
    with pytest.raises(ConfigError, match="'unet 4 / 8' would have the folder 'unet-4-8'"):
        conditions_of(study)


def test_seeds_of_the_command_line_count_everywhere(write_study: WriteStudy) -> None:
    study = read_study(write_study(conditions={"a": {"seeds": [5]}, "b": None}))
    assert [c.seeds for c in conditions_of(study, [3])] == [(3,), (3,)]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"runs": ["fed"]}, "runs of condition a` names 'fed'"),
        ({"runs": []}, "Condition 'a' has no runs"),
        ({"runs": "local"}, "a list of str, but got 'local'"),
        ({"seeds": [1.5]}, r"a list of int, but got \[1.5\]"),
        ({"seeds": []}, "Condition 'a' has no seeds"),
        ({"seeds": [1, 1]}, r"\[1\] twice"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(
    write_study: WriteStudy, condition: dict[str, Any], message: str
) -> None:
    study = read_study(write_study(conditions={"a": condition}))
    with pytest.raises(ConfigError, match=message):
        conditions_of(study)


def test_seeds_are_outermost_and_other_runs_left_out(write_study: WriteStudy) -> None:
    study = read_study(write_study(conditions={"a": {}, "b": {"runs": ["local"], "seeds": [1]}}))
    conditions = conditions_of(study)
    assert [str(run) for run in planned(conditions, ["fedavg", "local"])] == [
        "a: fedavg, seed 0",
        "a: local, seed 0",
        "a: fedavg, seed 1",
        "a: local, seed 1",
        "b: local, seed 1",
    ]
    assert {run.run for run in planned(conditions, ["local"])} == {"local"}


def test_conditions_stand_above_runs_and_runs_above_overrides(write_study: WriteStudy) -> None:
    file = write_study(
        overrides={"trainer.local_steps": 1, "rounds": 1, "net.init_args.encoder_depth": 3},
        runs={"local": {"trainer.local_steps": 2, "rounds": 2}},
        methods={"L": {"run": "local", "model": "local"}},
        reference="L",
        conditions={"short": {"rounds": 3}},
    )
    study = read_study(file)
    settings = settings_of(study, file, conditions_of(study))["short", "local"]
    assert settings["rounds"] == 3
    assert settings["trainer"]["local_steps"] == 2
    assert settings["net"]["init_args"]["encoder_depth"] == 3
    assert settings["net"]["init_args"]["encoder_weights"] is None
    assert not {"seed", "output"} & settings.keys()


def test_a_typo_names_the_run_and_the_key(write_study: WriteStudy) -> None:
    file = write_study(conditions={"short": {"trainer.local_step": 3}})
    study = read_study(file)
    with pytest.raises(ConfigError, match=r"'fedavg' in condition 'short'.*'local_step'"):
        settings_of(study, file, conditions_of(study))


def example(tmp_path: Path) -> Path:
    """The study file of docs/study.md."""
    text = (ROOT / "docs" / "study.md").read_text()
    file = tmp_path / "example.yaml"
    file.write_text(text.split("```yaml\n")[1].split("```")[0].replace("../", f"{ROOT}/configs/"))
    return file


def test_the_example_of_the_docs_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    file = example(tmp_path)
    study = read_study(file)
    trained = algorithms(study, file)
    assert trained == {"fedavg": "FedAvg", "per_fedavg": "PerFedAvg", "local": "Local"}


def test_the_smoke_study_trains_what_its_runs_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    file = ROOT / "configs" / "study" / "smoke.yaml"
    study = read_study(file)
    assert algorithms(study, file) == {"fedavg": "FedAvg", "per_fedavg": "PerFedAvg"}


def algorithms(study: Study, file: Path) -> dict[str, str]:
    """The class that each run trains with."""
    found = settings_of(study, file, conditions_of(study))
    return {
        run: settings["algorithm"]["class_path"].rpartition(".")[2]
        for (_, run), settings in found.items()
    }


def one_of_each(conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions in which a value of some factor of the grid comes first.

    The factors set different keys, or the grid is refused; so these have all settings of all.
    """
    met: set[tuple[int, str]] = set()
    chosen = []
    for condition in conditions:
        values = set(enumerate(condition.name.split(" / ")))
        if values - met:
            chosen.append(condition)
        met |= values
    return chosen


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.stem)
def test_each_study_in_configs_can_be_read_to_the_last_run(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    study = read_study(file)
    conditions = one_of_each(conditions_of(study))
    settings = settings_of(study, file, conditions)
    assert len(settings) == sum(len(condition.runs) for condition in conditions)
