"""Whole federations of toy hospitals, against what they should give by hand."""

import copy
import json
import math
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor

from lightning_fl.aggregation import Plain
from lightning_fl.algorithms import Centralised, FedAvg, Local, PerFedAvg
from lightning_fl.data.module import POOLED
from lightning_fl.errors import ConfigError, SiteError, TooFewSitesError
from lightning_fl.personalisation import FineTune, Personalisation
from lightning_fl.results.tables import read_metrics
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.run import Run
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions
from tests.toy import (
    SITES,
    Listener,
    ToyHospitals,
    ToyModule,
    rounds_alone,
    toy_experiment,
    toy_run,
)

ONE_BATCH = ToyHospitals(batch_size=64)
"""Each site's data are one batch, so that the order of samples does not matter."""


NOTHING = Personalisation([])
ENDS = Evaluation("loss", lower_is_better=True, every=100, gallery=0)
"""Scores the global model before the first round and after the last."""


class Done(NamedTuple):
    """A run of the toys, its settings and what it returned."""

    run: Run
    experiment: Experiment
    results: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.run.folder


def finished(folder: Path, experiment: Experiment, *, report: bool = False) -> Done:
    run = toy_run(folder, experiment, report=report)
    return Done(run, experiment, run.start())


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The federation of the toys as it is, with its report."""
    return finished(tmp_path_factory.mktemp("toys"), toy_experiment(), report=True)


def global_weights(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "models" / "global.safetensors")


def comparable(folder: Path) -> dict[str, Any]:
    """results.json without what a clock decides."""
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    del results["costs"]["seconds"]
    return results


def train_by_hand(module: ToyModule, site: str) -> ToyModule:
    """Three SGD steps on all the training data of one site."""
    module = copy.deepcopy(module)
    [batch] = ONE_BATCH.for_site(site, 0).train_loader()
    optimizer = module.configure_optimizers()
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward(module.loss(batch))
        optimizer.step()
    return module


def by_hand(weights: dict[str, float]) -> ToyModule:
    torch.manual_seed(0)
    module = ToyModule()
    for _ in range(2):
        local = {site: train_by_hand(module, site) for site in weights}
        with torch.no_grad():
            for name, value in module.named_parameters():
                parts = [w * local[s].get_parameter(name) for s, w in weights.items()]
                value.copy_(torch.stack(parts).sum(0))
    return module


@pytest.mark.parametrize("weighting", ["samples", "equal"])
def test_fedavg_equals_a_hand_written_federation(tmp_path: Path, weighting: Any) -> None:
    counts = {s: ONE_BATCH.for_site(s, 0).sample_count("train") for s in SITES}
    assert len(set(counts.values())) > 1
    shares = {
        site: count / sum(counts.values()) if weighting == "samples" else 1 / 3
        for site, count in counts.items()
    }
    experiment = toy_experiment(
        data=ONE_BATCH,
        aggregator=Plain(weights=weighting),
        evaluation=Evaluation("loss", False, gallery=0),
    )  # higher loss taken as better cannot change the weights of the last round
    rounds_alone(tmp_path, experiment).start()
    state = safetensors.torch.load_file(tmp_path / "checkpoints" / "round-00002.safetensors")
    expected = torch.cat([p.flatten() for p in by_hand(shares).parameters()])
    torch.testing.assert_close(state["weights"], expected, rtol=0, atol=1e-6)


def test_a_run_leaves_exactly_the_files_it_promises(toys: Done) -> None:
    assert {p.name for p in toys.folder.iterdir()} == {
        *("settings.yaml", "metrics.csv", "costs.csv", "results.json", "report.html"),
        *("transcript.csv", "checkpoints", "models"),
    }
    assert {p.stem for p in (toys.folder / "models").iterdir()} == {"global", *SITES}
    assert not list(toys.folder.rglob("*.tmp"))


@pytest.mark.parametrize("algorithm", [FedAvg(), PerFedAvg(0.01), FedAvg(batch_norm="local")])
def test_every_algorithm_reports_the_three_models_at_every_site(
    tmp_path: Path, algorithm: Any
) -> None:
    module = ToyModule(batch_norm=True)
    experiment = toy_experiment(algorithm=algorithm, module=module, rounds=1)
    results = toy_run(tmp_path, experiment).start()
    for group in (*results["sites"].values(), results["mean"], results["worst"]):
        assert set(group) == {"global", "global_bn", "finetuned", "personal"}
        assert all(set(splits) == {"val", "test"} for splits in group.values())
    assert results["best_round"] in (0, 1)


def test_the_same_seeds_give_the_same_results_whatever_the_order_of_sites(
    toys: Done, tmp_path: Path
) -> None:
    orders = [dict(SITES), dict(reversed(list(SITES.items())))]
    for i, sites in enumerate(orders):
        torch.manual_seed(i + 1)  # whatever the global state is
        toy_run(tmp_path / str(i), toy_experiment(data=ToyHospitals(sites))).start()
    assert comparable(toys.folder) == comparable(tmp_path / "0") == comparable(tmp_path / "1")
    for i in (0, 1):
        for name, value in global_weights(toys.folder).items():
            assert torch.equal(value, global_weights(tmp_path / str(i))[name])


def test_another_seed_gives_another_result(toys: Done, tmp_path: Path) -> None:
    assert toys.experiment.seed == 0
    other = toy_run(tmp_path, toy_experiment(seed=1)).start()
    assert other["mean"] != toys.results["mean"]


def test_drawn_sites_depend_on_seed_and_round(tmp_path: Path) -> None:
    run = toy_run(tmp_path, toy_experiment(sites_per_round=2, rounds=20))
    drawn = [run.blueprint.plan.chosen(round_) for round_ in range(1, 21)]
    assert all(len(set(sites)) == 2 for sites in drawn)
    assert len(set(drawn)) == 3
    assert drawn == [run.blueprint.plan.chosen(round_) for round_ in range(1, 21)]


def test_only_drawn_sites_train(tmp_path: Path) -> None:
    run = rounds_alone(tmp_path, toy_experiment(sites_per_round=2, rounds=1))
    run.start()
    trained = {p.parent.name for p in tmp_path.rglob("update-*.safetensors")}
    assert trained == set(run.blueprint.plan.chosen(1))


def test_best_round_is_the_one_with_the_best_validation_mean(tmp_path: Path) -> None:
    experiment = toy_experiment(rounds=4, module=ToyModule(lr=0.6), personalisation=NOTHING)
    results = toy_run(tmp_path, experiment).start()
    rows = [r for r in read_metrics(tmp_path / "metrics.csv") if r.model == "global"]
    rows = [r for r in rows if r.split == "val" and r.metric == "loss"]
    means = {r: sum(x.value for x in rows if x.round == r) / 3 for r in range(5)}
    assert results["best_round"] == min(means, key=lambda r: means[r])


def test_of_equal_scores_the_later_round_is_the_best(tmp_path: Path) -> None:
    still = toy_experiment(rounds=2, module=ToyModule(lr=0.0), personalisation=NOTHING)
    results = toy_run(tmp_path, still).start()
    assert results["best_round"] == 2


def test_sites_do_not_share_one_network(toys: Done) -> None:
    run, best = toys.run, toys.results["best_round"]
    first, second = (run.make_site(site).state.module(best) for site in ("A", "B"))
    pairs = zip(
        first.parameters(), second.parameters(), run.blueprint.template.parameters(), strict=True
    )
    for tensors in pairs:
        assert len({tensor.data_ptr() for tensor in tensors}) == 3


class Failing(ToyModule):
    """Fails in a hook at the site whose targets are shifted by 7, once told to."""

    hook = ""
    calls = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.fail("validation", batch)
        super().validation_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.fail("test", batch)
        super().test_step(batch, batch_idx)

    def fail(self, hook: str, batch: Any) -> None:
        if hook == Failing.hook and float(batch[1].mean()) > 8:
            Failing.calls += 1
            if Failing.calls == 4 or (hook == "test" and Failing.calls > 1):
                raise RuntimeError("no disk")


def test_a_round_without_all_scores_is_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ToyHospitals({"A": 9, "B": 6, "H": 7})
    monkeypatch.setattr(Failing, "hook", "validation")
    monkeypatch.setattr(Failing, "calls", 0)
    experiment = toy_experiment(module=Failing(), data=data, rounds=3, personalisation=NOTHING)
    results = toy_run(tmp_path, experiment).start()
    [lost] = [d for d in results["dropped"] if d["operation"] == "evaluate"]
    rows = [r for r in read_metrics(tmp_path / "metrics.csv") if r.split == "val"]
    scored = {r.site for r in rows if r.round == lost["round"] and r.model == "global"}
    assert scored == {"A", "B"}
    assert results["best_round"] != lost["round"]


def test_a_failed_final_evaluation_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ToyHospitals({"A": 9, "B": 6, "H": 7})
    monkeypatch.setattr(Failing, "hook", "test")
    monkeypatch.setattr(Failing, "calls", 0)
    settings: dict[str, Any] = {"data": data, "rounds": 1, "personalisation": NOTHING}
    run = toy_run(tmp_path, toy_experiment(module=Failing(), **settings))
    with pytest.raises(TooFewSitesError, match=r"final evaluation failed at \['H'\].*no disk"):
        run.start()
    monkeypatch.setattr(Failing, "hook", "")
    results = toy_run(tmp_path, toy_experiment(module=Failing(), **settings)).start()
    assert set(results["sites"]) == {"A", "B", "H"}


def test_weights_may_travel_in_many_blocks(
    toys: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fl.coordinator.broadcast.BLOCK_BYTES", 12)
    monkeypatch.setattr("lightning_fl.aggregation.plain.BLOCK", 3)
    blocks = toy_run(tmp_path / "blocks", toy_experiment()).start()
    assert blocks["mean"] == toys.results["mean"]
    assert not list(tmp_path.rglob("block-*"))


class BrokenTracker(DummyLogger):
    def log_metrics(self, *arguments: Any, **settings: Any) -> None:
        raise ConnectionError("the tracker is away")

    def finalize(self, *arguments: Any, **settings: Any) -> None:
        raise ConnectionError("the tracker is away")


def test_a_broken_tracker_costs_no_result(tmp_path: Path) -> None:
    experiment = toy_experiment(loggers=[BrokenTracker()], rounds=1, personalisation=NOTHING)
    assert toy_run(tmp_path, experiment, report=True).start()["mean"]["personal"]["test"]
    assert (tmp_path / "report.html").exists()


def test_a_tracker_that_cannot_begin_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    tracker = DummyLogger()
    tracker.log_hyperparams = Mock(side_effect=ConnectionError("no answer"))  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"DummyLogger could not begin: no answer\. Correct"):
        toy_run(tmp_path, toy_experiment(loggers=[tracker])).start()
    assert not list(tmp_path.glob("checkpoints/round-*"))


def test_evaluating_every_second_round_includes_the_last(tmp_path: Path) -> None:
    evaluation = Evaluation("loss", True, every=2)
    rounds_alone(tmp_path, toy_experiment(rounds=3, evaluation=evaluation)).start()
    rounds = {r.round for r in read_metrics(tmp_path / "metrics.csv") if r.split == "val"}
    assert rounds == {0, 2, 3}


def test_validation_may_choose_no_personalisation(tmp_path: Path) -> None:
    wild = Personalisation([FineTune([3], 50.0)])
    experiment = toy_experiment(personalisation=wild, evaluation=ENDS, rounds=1)
    results = toy_run(tmp_path, experiment).start()
    for site in SITES:
        assert results["personalisation"][site]["steps"] == 0
        scores = results["sites"][site]
        assert scores["personal"] == scores["global"]


def test_personalisation_helps_on_validation_and_is_never_worse(tmp_path: Path) -> None:
    settings = Personalisation([FineTune([2, 5, 20], 0.05)])
    experiment = toy_experiment(personalisation=settings, evaluation=ENDS, rounds=1)
    results = toy_run(tmp_path, experiment).start()
    steps = set()
    for site, scores in results["sites"].items():
        gain = results["personalisation"][site]["validation_gain"]
        steps.add(results["personalisation"][site]["steps"])
        change = scores["personal"]["val"]["loss"] - scores["global"]["val"]["loss"]
        assert change == pytest.approx(gain)
        assert gain <= 0
    assert steps - {0}


def test_the_personal_model_that_is_kept_is_the_one_that_was_tested(toys: Done) -> None:
    module = ToyModule()
    module.load_state_dict(safetensors.torch.load_file(toys.folder / "models" / "B.safetensors"))
    data = toys.experiment.data.for_site("B", 0)
    x, y = (torch.cat(part) for part in zip(*data.loader("test"), strict=True))
    loss = float(module.loss((x, y)).detach())
    assert loss == pytest.approx(toys.results["sites"]["B"]["personal"]["test"]["loss"], rel=1e-5)


def test_unseen_hospital_personalises_but_never_trains(tmp_path: Path) -> None:
    with_unseen = toy_experiment(data=ToyHospitals(unseen=["C"]))
    results = toy_run(tmp_path / "a", with_unseen).start()
    without = toy_experiment(data=ToyHospitals({"A": 9, "B": 6}))
    expected = toy_run(tmp_path / "b", without).start()
    assert results["unseen"] == ["C"]
    assert set(results["sites"]["C"]) == {"global", "global_bn", "finetuned", "personal"}
    assert results["mean"] == expected["mean"]
    assert not list((tmp_path / "a" / "checkpoints" / "sites" / "C").glob("update-*"))
    assert list((tmp_path / "a" / "checkpoints" / "sites" / "A").glob("update-*"))


def test_an_unseen_hospital_of_one_patient_is_tested_only(tmp_path: Path) -> None:
    data = ToyHospitals({"A": 9, "B": 6, "C": 1}, unseen=["C"])
    experiment = toy_experiment(data=data, rounds=1, evaluation=ENDS, personalisation=NOTHING)
    results = toy_run(tmp_path, experiment).start()
    assert set(results["sites"]["C"]) == {"global"}
    assert set(results["sites"]["C"]["global"]) == {"test"}


def test_local_shares_nothing_and_each_site_keeps_its_own_best_round(tmp_path: Path) -> None:
    experiment = toy_experiment(algorithm=Local(), rounds=3)
    run = toy_run(tmp_path, experiment)
    results = run.start()
    assert run.blueprint.layout.length == 0
    assert set(results["mean"]) == {"local", "local_bn", "finetuned", "personal"}
    assert {p.stem for p in (tmp_path / "models").iterdir()} == set(SITES)
    updates = [safetensors.torch.load_file(p) for p in tmp_path.rglob("update-*.safetensors")]
    assert updates
    assert all(u["vector"].numel() == 0 for u in updates)
    rows = [r for r in read_metrics(tmp_path / "metrics.csv") if r.split == "val"]
    for site in SITES:
        curve = {r.round: r.value for r in rows if r.site == site and r.model == "local"}
        assert results["personalisation"][site]["round"] == min(curve, key=lambda r: curve[r])


def test_local_equals_training_alone(tmp_path: Path) -> None:
    local = toy_experiment(data=ONE_BATCH, algorithm=Local(), rounds=2, evaluation=ENDS)
    rounds_alone(tmp_path, local).start()
    torch.manual_seed(0)
    module = ToyModule()
    for _ in range(2):
        module = train_by_hand(module, "A")
    kept = safetensors.torch.load_file(
        tmp_path / "checkpoints" / "sites" / "A" / "private-00002.safetensors"
    )
    for name, value in module.state_dict().items():
        torch.testing.assert_close(kept[name], value, rtol=0, atol=1e-6)


def test_centralised_trains_one_model_on_everybodys_patients(tmp_path: Path) -> None:
    experiment = toy_experiment(algorithm=Centralised(), rounds=1, personalisation=NOTHING)
    run = toy_run(tmp_path, experiment)
    results = run.start()
    assert run.blueprint.plan.training == (POOLED,)
    assert set(results["sites"]) == set(SITES)
    samples = sum(ToyHospitals().for_site(s, 0).sample_count("train") for s in SITES)
    assert experiment.data.for_site(POOLED, 0).sample_count("train") == samples


def test_local_batch_norm_stays_at_the_site(tmp_path: Path) -> None:
    module = ToyModule(batch_norm=True)
    algorithm = FedAvg(batch_norm="local")
    experiment = toy_experiment(module=module, algorithm=algorithm, evaluation=ENDS)
    run = rounds_alone(tmp_path, experiment)
    run.start()
    assert not [name for name, _ in run.blueprint.layout.shared if name.startswith("net.1")]
    states = {
        site: safetensors.torch.load_file(
            tmp_path / "checkpoints" / "sites" / site / "private-00002.safetensors"
        )
        for site in SITES
    }
    means = [states[site]["net.1.running_mean"] for site in SITES]
    assert not torch.equal(means[0], means[1])


class Spoiled(ToyModule):
    """Gives NaN where the targets are those of one site, from some step on."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        spoil = self.trainer.max_steps > 1 and float(batch[1].mean()) > 8
        return loss * torch.nan if spoil else loss


def spoiled_experiment(**settings: Any) -> Any:
    data = ToyHospitals({"A": 9, "B": 6, "H": 7})  # H's targets are shifted by 7
    return toy_experiment(module=Spoiled(), data=data, **settings)


def test_a_site_with_nan_is_left_out_and_the_round_goes_on(tmp_path: Path) -> None:
    listener = Listener()
    results = toy_run(tmp_path, spoiled_experiment(personalisation=NOTHING), listener).start()
    assert [(d["round"], d["site"], d["operation"]) for d in results["dropped"]] == [
        (1, "H", "train"),
        (2, "H", "train"),
    ]
    assert "NaN" in results["dropped"][0]["reason"]
    assert [site for _, site, _ in listener.lost] == ["H", "H"]
    assert all(torch.isfinite(v).all() for v in global_weights(tmp_path).values())
    assert "sites/H/private" not in str([p for p in tmp_path.rglob("private-*")])


class Undefined(ToyModule):
    """Logs a score that training lowers, and that is not defined at site H."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.loss(batch)
        self.log("val/loss", loss)
        self.log("val/score", loss * torch.nan if float(batch[1].mean()) > 8 else loss)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({"test/loss": self.loss(batch), "test/score": self.loss(batch)})


def test_a_site_whose_score_is_not_defined_has_no_say_in_the_best_round(tmp_path: Path) -> None:
    experiment = toy_experiment(
        module=Undefined(),
        data=ToyHospitals({"A": 9, "B": 6, "H": 7}),
        evaluation=Evaluation("score"),
        personalisation=NOTHING,
    )
    results = toy_run(tmp_path, experiment).start()
    scores = [r.value for r in read_metrics(tmp_path / "metrics.csv") if r.metric == "score"]
    assert any(math.isnan(score) for score in scores)
    assert results["best_round"] == 0  # where A and B have the highest score


def test_too_few_updates_stop_the_run_saved(tmp_path: Path) -> None:
    run = toy_run(tmp_path, spoiled_experiment(min_sites=3))
    with pytest.raises(TooFewSitesError, match="Round 1 has 2 updates, but `min_sites` is 3"):
        run.start()
    assert (tmp_path / "checkpoints" / "round-00000.safetensors").exists()
    assert (tmp_path / "metrics.csv").exists()
    # with the rule relaxed, the saved run goes on
    toy_run(tmp_path, spoiled_experiment(min_sites=2, personalisation=NOTHING)).start()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sites_per_round": 4}, "`sites_per_round` to be between 1 and 3"),
        ({"sites_per_round": 0}, "`sites_per_round` to be between 1 and 3"),
        ({"min_sites": 4}, "`min_sites` to be between 1 and 3"),
        ({"data": ToyHospitals({"A": 9, "mean": 6})}, r"cannot be called \['mean'\]"),
        ({"rounds": 0}, "`rounds` to be at least 1, but got 0"),
        ({"data": ToyHospitals({"A": 9})}, "at least two training sites, but there is 1"),
        ({"data": ToyHospitals(unseen=["B", "C"])}, "at least two training sites"),
        ({"evaluation": Evaluation(every=0)}, "`evaluation.every`"),
        ({"personalisation": Personalisation(margin=-1)}, "`personalisation.margin`"),
        ({"personalisation": Personalisation([FineTune(), FineTune()])}, "called 'finetune'"),
        ({"trainer": TrainerOptions()}, "`trainer.local_steps`"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        toy_run(tmp_path, toy_experiment(**settings))
    assert not list(tmp_path.iterdir())


def test_a_metric_that_is_not_logged_stops_the_run_at_once(tmp_path: Path) -> None:
    experiment = toy_experiment(evaluation=Evaluation("dice"))
    with pytest.raises(SiteError, match=r"metric` is 'dice', but the task logs \['loss'\]"):
        toy_run(tmp_path, experiment).start()


def test_a_hospital_with_too_few_patients_stops_the_run_at_once(tmp_path: Path) -> None:
    experiment = toy_experiment(data=ToyHospitals({"A": 9, "B": 2}))
    with pytest.raises(SiteError, match="Site 'B' has 2 patients, but its split needs"):
        toy_run(tmp_path, experiment).start()


def test_validate_trains_nothing(tmp_path: Path) -> None:
    answers = toy_run(tmp_path, toy_experiment()).validate()
    assert {site: a.info["patients"]["train"] for site, a in answers.items()} == {
        "A": 5,
        "B": 4,
        "C": 3,
    }
    assert not list(tmp_path.rglob("round-*"))
