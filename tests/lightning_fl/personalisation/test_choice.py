"""The choice of a site: by validation, by cross-validation, among its own and the shared model."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lightning_fl.algorithms import FedAvg
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import FineTune, LocalModel, Personalisation
from lightning_fl.personalisation.choice import Choice, patients_curve, personalise, split_folds
from lightning_fl.results.tables import read_metrics
from lightning_fl.run.run import Run
from lightning_fl.site.local_state import LocalState
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import fit
from lightning_fl.training.layout import from_vector
from lightning_fl.training.progress import Progress
from tests.lightning_fl.personalisation.benches import assert_same, toy_module, toy_site
from tests.toy import ToyHospitals, ToyModule, toy_experiment, toy_run


class Watched(ToyHospitals):
    """Remembers whose samples were asked for."""

    asked: list[tuple[str, ...]] = []  # noqa: RUF012  shared by the copies that belong to sites

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        self.asked.append(tuple(patients))
        return super().dataset(site, patients, augment=augment)


class Centred(ToyHospitals):
    """Subtracts the mean of the inputs of those patients whom a model sees."""

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        (x, y), seen = self._tensors(site, patients), self.seen(site)
        return TensorDataset(x - self._tensors(site, seen)[0].mean(0) if seen else x, y)

    def _tensors(self, site: str, patients: Sequence[str]) -> tuple[Tensor, Tensor]:
        samples: Any = super().dataset(site, patients, augment=False)
        x, y = zip(*samples, strict=True)
        return torch.stack(x), torch.stack(y)


def loss_of(
    module: pl.LightningModule,
    site: LocalState,
    patients: Sequence[str],
    seen: Sequence[str] | None = None,
) -> float:
    """The loss of a model that has seen all training patients, or those named."""
    assert isinstance(module, ToyModule)
    module.eval()
    data = site.data if seen is None else site.data.for_patients(seen)
    parts = list(data.patient_loader(patients))
    x, y = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    with torch.no_grad():
        return float(module.loss((x, y)))


def chosen_at(site: LocalState, start: pl.LightningModule) -> Choice:
    return personalise(site.task, site.setup.personalisation, start, start)


def test_default_snapshots_are_separate_plain_fits_and_the_choice_is_strict(
    tmp_path: Path,
) -> None:
    start = toy_module(batch_norm=True)
    site = toy_site(tmp_path, module=start, data=ToyHospitals(), personalisation=Personalisation())
    val = site.data.split("A").val
    losses = {"none": loss_of(start, site, val)}
    for steps in (10, 25, 50, 100):
        tuned = copy.deepcopy(start)
        tuned.lr = 0.001
        loader = site.train_loader("personalise", 0, batches=1)
        fit(tuned, loader, [], site.setup.trainer.for_steps(steps), Progress())
        losses[f"finetune@{steps}"] = loss_of(copy.deepcopy(tuned), site, val)
    choice = chosen_at(site, start)
    assert choice.scores == pytest.approx(losses, rel=1e-5)
    assert choice.variant.name == min(losses, key=lambda name: losses[name])
    assert choice.gradients == 100
    assert choice.finetuned is not None
    assert_same(choice.finetuned.state_dict(), tuned.state_dict())


def test_few_validation_patients_call_for_folds_and_many_do_not(tmp_path: Path) -> None:
    settings = Personalisation([FineTune([2], 0.01)], few=3, folds=4)
    small = chosen_at(toy_site(tmp_path / "a", personalisation=settings), toy_module())
    assert (small.by, small.gradients) == ("cross-validation", 2 * (1 + 4))
    large = Personalisation([FineTune([2], 0.01)], few=2, folds=4)  # A validates on two patients
    choice = chosen_at(toy_site(tmp_path / "b", personalisation=large), toy_module())
    assert (choice.by, choice.gradients) == ("validation", 2)


def test_folds_hold_every_training_patient_once() -> None:
    folds = split_folds([*"abcdefg"], 3)
    assert sorted(map(len, folds)) == [2, 2, 3]
    assert sorted(p for fold in folds for p in fold) == [*"abcdefg"]
    assert split_folds(["a", "b"], 5) == [("a",), ("b",)]


@pytest.mark.parametrize("data", [ToyHospitals(batch_size=64), Centred(batch_size=64)])
def test_cross_validation_pools_folds_and_validation_by_patients(
    tmp_path: Path, data: ToyHospitals
) -> None:
    settings = Personalisation([FineTune([3], 0.01)], few=9, folds=2)
    site = toy_site(tmp_path, personalisation=settings, data=data)
    start, split = toy_module(), site.data.split("A")
    choice = chosen_at(site, start)
    fits = [(split.val, split.train)]
    fits += [
        (fold, tuple(p for p in split.train if p not in fold))
        for fold in split_folds(split.train, 2)
    ]
    total = {"none": 0.0, "finetune@3": 0.0}
    for held_out, fitted in fits:
        tuned = copy.deepcopy(start)
        [batch] = site.data.for_patients(fitted).train_loader(patients=fitted)
        optimizer = torch.optim.SGD(tuned.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            torch.autograd.backward(tuned.loss(batch))
            optimizer.step()
        total["none"] += len(held_out) * loss_of(start, site, held_out, fitted)
        total["finetune@3"] += len(held_out) * loss_of(tuned, site, held_out, fitted)
        if fitted == split.train:
            refit = tuned
    patients = len(split.val) + len(split.train)
    mean = {name: value / patients for name, value in total.items()}
    assert choice.scores == pytest.approx(mean, rel=1e-5)
    if choice.variant.name == "finetune@3":
        assert_same(choice.variant.module.state_dict(), refit.state_dict())


def test_weights_that_are_not_finite_score_nan_and_are_not_used(tmp_path: Path) -> None:
    settings = Personalisation([FineTune([40], 1e6)])
    site = toy_site(tmp_path, personalisation=settings)
    choice = chosen_at(site, toy_module())
    assert math.isnan(choice.scores["finetune@40"])
    assert choice.variant.name == "none"
    assert choice.summary()["validation_gain"] == 0


def test_no_candidates_leave_the_model_as_it_came(tmp_path: Path) -> None:
    site = toy_site(tmp_path, personalisation=Personalisation([]))
    start = toy_module()
    choice = chosen_at(site, start)
    assert choice.variant.module is start
    assert (choice.gradients, choice.finetuned) == (0, None)


def test_the_sites_own_model_is_personalised_and_the_shared_one_may_still_win(
    tmp_path: Path,
) -> None:
    site, settings = toy_site(tmp_path), Personalisation([FineTune([2], 0.01)])
    came, own = toy_module(), toy_module()
    nn.init.constant_(own.get_parameter("net.3.bias"), 50.0)  # worse than anything
    choice = personalise(site.task, settings, came, own)
    assert list(choice.scores) == ["none", "own", "finetune@2"]
    assert choice.variant.module is came
    choice = personalise(site.task, settings, own, came)
    assert choice.variant.name in ("own", "finetune@2")
    assert choice.summary()["validation_gain"] < -100


class OwnModel(LocalState):
    """State of a site whose algorithm has trained a model of its own."""

    def personal_module(self, round_: int) -> pl.LightningModule:
        module = self.module(round_)
        if self.name == "A":
            nn.init.constant_(module.get_parameter("net.3.bias"), 50.0)
        return module


def test_the_final_evaluation_starts_from_the_sites_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_fl.site.site.LocalState", OwnModel)
    results = toy_run(tmp_path, toy_experiment(rounds=1)).start()
    found = {s: [*c["candidates"]] for s, c in results["personalisation"].items()}
    assert found["A"] == ["none", "own", "finetune@2", "finetune@4"]
    assert found["B"] == ["none", "finetune@2", "finetune@4"]
    assert results["personalisation"]["A"]["choice"] == "none"


def test_never_worse_than_the_local_model_whatever_the_margin(tmp_path: Path) -> None:
    candidates = [FineTune([2], 0.01), LocalModel(30, 0.05)]
    settings = Personalisation(candidates, margin=1e6)
    results = toy_run(tmp_path, toy_experiment(personalisation=settings, rounds=1)).start()
    chosen = {choice["choice"] for choice in results["personalisation"].values()}
    assert chosen <= {"none", "local@30"}
    assert "local@30" in chosen
    for choice in results["personalisation"].values():
        scores = choice["candidates"]
        assert scores[choice["choice"]] == min(scores["none"], scores["local@30"])


def late_run(folder: Path, *, test_candidates: bool) -> tuple[Run, dict[str, Any]]:
    settings = toy_experiment(
        module=toy_module(lr=0.05),
        algorithm=FedAvg(personal=["net.3"], shared_rounds=1),
        evaluation=Evaluation("loss", lower_is_better=True, test_candidates=test_candidates),
    )
    run = toy_run(folder, settings)
    return run, run.start()


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    return late_run(tmp_path_factory.mktemp("late"), test_candidates=False)


def test_layers_that_turned_local_leave_their_mean_as_one_more_model(
    late: tuple[Run, dict[str, Any]],
) -> None:
    run, results = late
    best = results["best_round"]
    assert best == 2  # after the switch
    shared = from_vector(run.state().best_weights, run.blueprint.layout)
    for name in run.blueprint.plan.training:
        assert [*results["personalisation"][name]["candidates"]][:2] == ["none", "averaged"]
        site = run.make_site(name).state
        averaged = site.averaged_module(best)
        assert averaged is not None
        own, mean = site.module(best).state_dict(), averaged.state_dict()
        assert all(torch.equal(mean[entry], shared[entry]) for entry in shared)
        assert all(not torch.equal(mean[e], own[e]) for e in ("net.3.weight", "net.3.bias"))


def test_without_such_layers_there_is_no_such_model(tmp_path: Path) -> None:
    run = toy_run(tmp_path, toy_experiment(rounds=1))
    results = run.start()
    assert run.make_site("A").state.averaged_module(results["best_round"]) is None
    assert "averaged" not in results["personalisation"]["A"]["candidates"]


def test_every_candidate_is_tested_when_asked_for_and_changes_no_choice(
    late: tuple[Run, dict[str, Any]], tmp_path: Path
) -> None:
    _, plain = late
    _, tested = late_run(tmp_path, test_candidates=True)
    assert tested["personalisation"] == plain["personalisation"]
    for site, choice in tested["personalisation"].items():
        names = {*choice["candidates"]} - {"none"}
        assert names == tested["sites"][site].keys() - plain["sites"][site].keys()
        chosen = "global" if choice["choice"] == "none" else choice["choice"]
        assert tested["sites"][site][chosen] == plain["sites"][site]["personal"]


def new_hospital(**settings: Any) -> Any:
    data = ToyHospitals({"A": 9, "B": 6, "C": 9}, unseen=["C"], batch_size=64)
    return {"data": data, "module": toy_module(batch_norm=True)} | settings


def test_a_new_hospital_is_tested_by_its_number_of_patients(tmp_path: Path) -> None:
    settings = Personalisation([FineTune([2], 0.01)], patients=[4, 1])
    experiment = toy_experiment(**new_hospital(personalisation=settings, rounds=1))
    results = toy_run(tmp_path, experiment, report=True).start()
    assert results["new_hospital"].keys() == {"C"}
    curve = results["new_hospital"]["C"]
    assert list(curve) == ["0", "1", "4"]
    assert curve["0"] == results["sites"]["C"]["global"]["test"]
    rows = read_metrics(tmp_path / "metrics.csv")
    found = {r.model: r.value for r in rows if r.model.startswith("personal@")}
    assert found == {f"personal@{k}": curve[k]["loss"] for k in ("1", "4")}
    assert json.loads((tmp_path / "results.json").read_text())["new_hospital"]["C"] == curve
    assert "A new hospital" in (tmp_path / "report.html").read_text()


def test_k_patients_are_all_that_a_new_hospital_uses_before_its_test(tmp_path: Path) -> None:
    data = Watched({"A": 9, "B": 6, "C": 9}, unseen=["C"], batch_size=64)
    settings = Personalisation([FineTune([2], 0.01)], patients=[1, 3])
    site = toy_site(tmp_path, "C", **new_hospital(data=data, personalisation=settings))
    split = site.data.split("C")
    Watched.asked.clear()
    patients_curve(site.task, settings, toy_module(batch_norm=True))
    asked = [patient for patients in Watched.asked for patient in patients]
    first_test = next(n for n, patient in enumerate(asked) if patient in split.test)
    assert set(asked[:first_test]) == set(split.train[:3])
    assert set(asked[first_test:]) == set(split.test)


def test_test_images_of_a_new_hospital_are_prepared_by_its_first_patients(tmp_path: Path) -> None:
    data = Centred({"A": 9, "B": 6, "C": 9}, unseen=["C"], batch_size=64)
    settings = Personalisation([], patients=[1, 3])
    site = toy_site(tmp_path, "C", **new_hospital(data=data, personalisation=settings))
    start, split = toy_module(), site.data.split("C")
    curve = patients_curve(site.task, settings, start)
    losses = {str(k): loss_of(start, site, split.test, split.train[:k]) for k in (0, 1, 3)}
    assert {k: metrics["loss"] for k, metrics in curve.items()} == pytest.approx(losses, rel=1e-5)
    assert len(set(losses.values())) == 3


def test_with_one_patient_batch_norm_is_reestimated_and_nothing_is_fitted(
    tmp_path: Path,
) -> None:
    settings = Personalisation([FineTune([2], 0.01)], patients=[1])
    site = toy_site(tmp_path, "C", **new_hospital(personalisation=settings))
    start = toy_module(batch_norm=True)
    curve = patients_curve(site.task, settings, start)
    by_hand = copy.deepcopy(start)
    x = torch.cat([x for x, _ in site.data.patient_loader(site.data.split("C").train[:1])])
    hidden: Tensor = by_hand.net[0](x).detach()
    norm = by_hand.net[1]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.running_mean, norm.running_var = hidden.mean(0), hidden.var(0)
    expected = loss_of(by_hand, site, site.data.split("C").test)
    assert curve["1"]["loss"] == pytest.approx(expected, rel=1e-5)


def test_more_patients_than_a_new_hospital_has_are_refused_before_round_1(
    tmp_path: Path,
) -> None:
    settings = Personalisation(patients=[2, 8])
    run = toy_run(tmp_path, toy_experiment(**new_hospital(personalisation=settings)))
    with pytest.raises(Exception, match="asks for 8 patients, but 'C' has 5 beside"):
        run.start()
    assert not list(tmp_path.rglob("round-*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"few": -1}, "`personalisation.few` to be 0 or more, but got -1"),
        ({"folds": 1}, "`personalisation.folds` to be at least 2, but got 1"),
        ({"patients": [0, 2]}, r"numbers from 1 on, but got \[0, 2\]"),
        ({"patients": [2]}, "there is none in this run. Name one in `data.unseen`"),
        ({"margin": math.nan}, "`personalisation.margin` to be 0 or more, but got nan"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        toy_run(tmp_path, toy_experiment(personalisation=Personalisation(**settings)))
