"""Site-level privacy in whole runs of toy hospitals."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.algorithms import Algorithm, Centralised, FedAvg, Local, Scaffold
from lightning_fl.errors import ConfigError, TooFewSitesError
from lightning_fl.personalisation import Personalisation
from lightning_fl.privacy import SiteLevelDP
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.site_account import SiteAccount
from lightning_fl.privacy.variances import running_variances
from lightning_fl.run.experiment import Experiment
from lightning_fl.training.layout import make_layout
from tests.toy import ToyModule, toy_experiment, toy_run


def plain_experiment(**settings: Any) -> Experiment:
    """A toy experiment without personalisation."""
    return toy_experiment(personalisation=Personalisation([]), **settings)


def opacus_epsilon(noise: float, rounds: int, rate: float = 1.0) -> float:
    accountant = RDPAccountant()
    for _ in range(rounds):
        accountant.step(noise_multiplier=noise, sample_rate=rate)
    return float(accountant.get_epsilon(1e-5))


def weights_after(folder: Path, round_: int = 2) -> Tensor:
    path = folder / "checkpoints" / f"round-{round_:05d}.safetensors"
    return safetensors.torch.load_file(path)["weights"]


def privacy_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    found: dict[str, Any] = results["privacy"]
    return found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Expected one of `privacy.noise_multiplier` and `privacy.target_epsilon`"),
        ({"noise_multiplier": 1.0, "target_epsilon": 1.0}, "Set the other to null"),
        ({"noise_multiplier": -1.0}, "noise_multiplier` to be at least 0 and finite, but got -1.0"),
        ({"noise_multiplier": math.inf}, "noise_multiplier` to be at least 0 and finite"),
        ({"target_epsilon": 0.0}, "target_epsilon` to be positive and finite, but got 0.0"),
        ({"noise_multiplier": 1.0, "clip": 0.0}, "clip` to be positive and finite, but got 0.0"),
        ({"noise_multiplier": 1.0, "clip": -2.0}, "clip` to be positive and finite, but got -2.0"),
        ({"noise_multiplier": 1.0, "clip": math.inf}, "clip` to be positive and finite"),
        ({"noise_multiplier": 1.0, "delta": 0.0}, "delta` to lie between 0 and 1, but got 0.0"),
        ({"noise_multiplier": 1.0, "delta": 1.0}, "delta` to lie between 0 and 1, but got 1.0"),
        ({"noise_multiplier": 1.0, "colluding": -1}, "colluding` to be at least 0, but got -1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SiteLevelDP(**settings)


@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold()], ids=["FedAvg", "Scaffold"])
def test_zero_noise_and_a_wide_clip_equal_a_run_without_privacy(
    tmp_path: Path, algorithm: Algorithm
) -> None:
    for name, privacy in (("without", None), ("with", SiteLevelDP(clip=1e9, noise_multiplier=0))):
        toy_run(tmp_path / name, plain_experiment(algorithm=algorithm, privacy=privacy)).start()
    assert torch.equal(weights_after(tmp_path / "without"), weights_after(tmp_path / "with"))
    assert privacy_of(tmp_path / "with")["epsilon"] is None  # no noise, no bound


def test_epsilon_of_each_round_is_opacus_number_and_is_in_the_report(tmp_path: Path) -> None:
    privacy = SiteLevelDP(clip=1.0, noise_multiplier=1.5)
    experiment = toy_experiment(privacy=privacy, aggregator=CyclicCKKS())
    toy_run(tmp_path, experiment, report=True).start()
    found = privacy_of(tmp_path)
    expected = [opacus_epsilon(1.5, rounds) for rounds in (1, 2)]
    assert [entry["epsilon"] for entry in found["rounds"]] == pytest.approx(expected)
    assert found["epsilon"] == pytest.approx(expected[1])
    assert found["replaced"] == pytest.approx(opacus_epsilon(0.75, 2))
    assert found["to_another_site"] == pytest.approx(opacus_epsilon(1.5 * math.sqrt(2 / 3), 2))
    report = (tmp_path / "report.html").read_text()
    assert f"each site has epsilon {expected[1]:.3g} at most, at delta 1e-05" in report


def test_scaffolds_controls_are_clipped_with_the_weights(tmp_path: Path) -> None:
    privacy = SiteLevelDP(clip=1e-3, noise_multiplier=0.0)
    before = toy_run(tmp_path, plain_experiment(algorithm=Scaffold(), privacy=privacy))
    first = before.state().weights
    before.start()
    assert 0 < float((weights_after(tmp_path, 2) - first).norm()) <= 2 * 1e-3 + 1e-6


def test_runs_of_one_seed_differ_by_their_noise(tmp_path: Path) -> None:
    for name in "ab":
        toy_run(
            tmp_path / name, plain_experiment(privacy=SiteLevelDP(noise_multiplier=1.0))
        ).start()
    assert not torch.isclose(weights_after(tmp_path / "a"), weights_after(tmp_path / "b")).any()


def test_a_target_is_met_by_the_site_that_is_drawn_most(tmp_path: Path) -> None:
    experiment = plain_experiment(
        privacy=SiteLevelDP(target_epsilon=5.0), rounds=4, sites_per_round=2, seed=1
    )
    run = toy_run(tmp_path, experiment)
    drawn = [site for round_ in range(1, 5) for site in run.blueprint.plan.chosen(round_)]
    most = max(drawn.count(site) for site in "ABC")
    assert most < 4
    run.start()
    found = privacy_of(tmp_path)
    assert 4.9 < found["epsilon"] <= 5.0
    noise = found["noise_multiplier"]
    assert found["epsilon"] == pytest.approx(opacus_epsilon(noise, most))
    assert found["secret_sampling"] == pytest.approx(opacus_epsilon(noise, 4, 2 / 3))


def test_a_target_that_cannot_be_met_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`privacy.target_epsilon` 1e-07 cannot be met"):
        toy_run(tmp_path, plain_experiment(privacy=SiteLevelDP(target_epsilon=1e-7)))


@pytest.mark.parametrize(
    ("algorithm", "why"), [(Local(), "Local shares nothing"), (Centralised(), "pools all data")]
)
def test_methods_that_share_no_updates_are_refused(
    tmp_path: Path, algorithm: Algorithm, why: str
) -> None:
    experiment = plain_experiment(algorithm=algorithm, privacy=SiteLevelDP(noise_multiplier=1.0))
    with pytest.raises(ConfigError, match=f"SiteLevelDP protects what sites share, but .*{why}"):
        toy_run(tmp_path, experiment)


def test_more_colluding_sites_than_a_round_may_have_are_refused(tmp_path: Path) -> None:
    experiment = plain_experiment(privacy=SiteLevelDP(noise_multiplier=1.0, colluding=2))
    with pytest.raises(ConfigError, match=r"colluding` is 2.*Set `min_sites` to at least 3"):
        toy_run(tmp_path, experiment)


def test_a_round_that_is_killed_and_repeated_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = plain_experiment(privacy=SiteLevelDP(noise_multiplier=2.0))
    mean = Plain.mean

    def killed(self: Plain, channel: Any, updates: Any) -> Any:
        found = mean(self, channel, updates)
        if updates.round == 2:  # the sum was made, and nobody heard of it
            raise TooFewSitesError("killed")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Plain, "mean", killed)
        with pytest.raises(TooFewSitesError):
            toy_run(tmp_path, experiment).start()
    toy_run(tmp_path, experiment).start()
    found = privacy_of(tmp_path)
    assert [entry["sums"] for entry in found["rounds"]] == [1, 2]
    assert found["epsilon"] > opacus_epsilon(2.0, 3)  # of the killed sum only two parts are sure


def test_sites_lost_on_the_way_leave_less_noise_in_the_account(tmp_path: Path) -> None:
    noise = SiteNoise(clip=1.0, noise_multiplier=2.0, delta=1e-5, colluding=0, most=4)
    account = SiteAccount(tmp_path, noise, 4)
    account.begin(1, ["A", "B", "C", "D"], 2)
    assert account.summary()["epsilon"] == pytest.approx(opacus_epsilon(math.sqrt(2), 1))
    account.settle(3)
    assert account.summary()["epsilon"] == pytest.approx(opacus_epsilon(math.sqrt(3), 1))
    again = SiteAccount(tmp_path, noise, 4)
    assert again.summary() == account.summary()


def test_noise_cannot_make_a_running_variance_negative(tmp_path: Path) -> None:
    module = ToyModule(batch_norm=True, width=40)
    layout = make_layout(module)
    variances = running_variances(module, layout)
    assert int(variances.sum()) == 40  # so many that one at least would go below 0
    privacy = SiteLevelDP(clip=1.0, noise_multiplier=20.0)
    toy_run(tmp_path, plain_experiment(module=module, privacy=privacy)).start()
    weights = weights_after(tmp_path)
    assert bool(torch.isfinite(weights).all())
    assert float(weights[variances].min()) == pytest.approx(0.01)
    assert float(weights[~variances].min()) < 0.01
