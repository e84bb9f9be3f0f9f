from typing import Any

import pytest

from lightning_fl.errors import ConfigError
from study.study_file import read_study, slug
from tests.study.conftest import WriteStudy


def test_a_class_path_stays_what_it_is_in_the_file(write_study: WriteStudy) -> None:
    study = read_study(write_study())
    assert study.runs["local"] == {"algorithm": {"class_path": "lightning_fl.algorithms.Local"}}
    assert study.methods["FedAvg + FT"].model == "personal"


@pytest.mark.parametrize(
    "model", ["finetuned", "finetune[average]@100", "averaged", "own", "batch_norm"]
)
def test_a_row_may_show_any_model_of_a_run(write_study: WriteStudy, model: str) -> None:
    methods = {"A": {"run": "local", "model": model}}
    assert read_study(write_study(methods=methods, reference="A")).methods["A"].model == model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": {}}, "Expected `runs` to name at least one"),
        ({"runs": None}, "runs"),
        ({"methods": {}}, "Expected `methods` to name at least one"),
        ({"seeds": []}, "Expected `seeds` to name at least one"),
        ({"seeds": [0, 1, 0]}, r"but got \[0\] twice"),
        ({"seeds": [-1]}, r"at least 0, but got \[-1\]"),
        ({"seeds": ["a"]}, "Got value: a"),
        ({"reference": "FedSGD"}, r"`reference` names 'FedSGD'; expected one of \['FedAvg'"),
        ({"floor": ["Lokal"]}, "`floor` names 'Lokal'"),
        ({"methods": {"A": {"run": "fed", "model": "global"}}}, r"`methods.A.run` names 'fed'"),
        ({"methods": {"A": {"run": "local", "model": "globl"}}}, "'globl'; expected one of"),
        ({"methods": {"A": {"run": "local"}}}, "model"),
        ({"methods": {"A": {"run": "local", "modl": "global"}}}, "modl"),
        ({"base": "nowhere.yaml"}, "which is no file; its path is relative to"),
        ({"refrence": "FedAvg"}, "Option 'refrence' is not accepted"),
        ({"overrides": {"seed": 3}}, "`overrides` sets 'seed'"),
        ({"conditions": {"a": {"output": "x"}}}, "`conditions` sets 'output'"),
        ({"conditions": {"a": {}}, "grid": {"b": {"c": {}}}}, "either `conditions` or `grid`"),
        ({"grid": {"sites": {}}}, "Expected `grid.sites` to have levels"),
        ({"conditions": {"A b": {}, "a-b": {}}}, "'a-b' would have the folder 'a-b'"),
    ],
)
def test_what_cannot_be_is_refused(
    write_study: WriteStudy, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_study(write_study(**changes))


def test_a_missing_and_a_broken_file_are_named(write_study: WriteStudy) -> None:
    file = write_study()
    file.write_text("runs: [")
    with pytest.raises(ConfigError, match=r"tiny.yaml is no YAML"):
        read_study(file)
    file.write_text("- runs")
    with pytest.raises(ConfigError, match="to hold keys and values"):
        read_study(file)
    with pytest.raises(ConfigError, match=r"There is no study file .*none.yaml"):
        read_study(file.with_name("none.yaml"))


def test_slugs_are_names_of_folders() -> None:
    assert slug("FedAvg + BN") == "fedavg-bn"
    assert slug("unet / 8 sites") == "unet-8-sites"
    assert slug("../up") == "up"
