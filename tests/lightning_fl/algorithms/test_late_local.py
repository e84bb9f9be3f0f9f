from pathlib import Path

import pytest
import yaml

from lightning_fl.algorithms import FedAvg, LateLocal
from lightning_fl.errors import ConfigError
from lightning_fl.run.config import read_settings
from tests.folders import ROOT
from tests.lightning_fl.algorithms.by_hand import assert_equal, toy_states


@pytest.mark.parametrize(
    ("share", "rounds", "shared"), [(0.5, 4, 2), (0.75, 4, 3), (0.1, 3, 1), (0.9, 3, 2)]
)
def test_it_is_fedavg_with_layers_that_stay_after_a_share_of_the_rounds(
    tmp_path: Path, share: float, rounds: int, shared: int
) -> None:
    late = LateLocal(share, personal=["3"])
    same = FedAvg(personal=["3"], batch_norm="local", shared_rounds=shared)
    _, found = toy_states(tmp_path / "late", late, rounds=rounds)
    _, expected = toy_states(tmp_path / "same", same, rounds=rounds)
    assert_equal(found, expected)


def test_in_a_run_of_one_round_nothing_turns_local(tmp_path: Path) -> None:
    _, found = toy_states(tmp_path / "late", LateLocal(personal=["3"]), rounds=1)
    _, expected = toy_states(tmp_path / "fedavg", FedAvg(), rounds=1)
    assert_equal(found, expected)


def test_a_run_that_goes_on_with_more_rounds_keeps_its_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    quickstart = ["--config", "configs/quickstart.yaml", "--output", str(tmp_path)]
    read_settings([*quickstart, "--rounds", "4"]).save()
    resumed = read_settings(["--resume", str(tmp_path), "--rounds", "10"])
    assert resumed.experiment.algorithm.for_rounds(10).shared_rounds == 2
    assert yaml.safe_load(resumed.text)["algorithm"]["init_args"]["shared_rounds"] == 2
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del config["algorithm"]["init_args"]["shared_rounds"]  # as version 0.1.0 wrote it
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    resumed = read_settings(["--resume", str(tmp_path), "--rounds", "10"])
    assert resumed.experiment.algorithm.shared_rounds == 2


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_that_leaves_one_half_out_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=f"`share` to lie between 0 and 1, but got {share}"):
        LateLocal(share)
