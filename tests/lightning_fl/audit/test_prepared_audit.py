import csv
import gc
import json
import re
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import Dataset

from datamodules import ChestPhantoms, LabelledPhantoms
from lightning_fl.aggregation import CyclicCKKS, Plain
from lightning_fl.aggregation.ring import ckks
from lightning_fl.algorithms import Centralised, Local
from lightning_fl.audit import Audit
from lightning_fl.audit.prepared_audit import PreparedAudit, prepare_audit
from lightning_fl.audit.protection import Protection
from lightning_fl.audit.trial_images import draw_images
from lightning_fl.audit.trials import TrialAttack, TrialRow
from lightning_fl.audit.views.guesses import VIEWS
from lightning_fl.data.module import FederatedDataModule
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.personalisation import Personalisation
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.privacy import SiteLevelDP
from lightning_fl.run.config import read_settings
from lightning_fl.run.experiment import Experiment
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.wire.monitor import Monitor
from models import Classification
from models.lenet import LeNet
from tests.folders import CONFIGS
from tests.lightning_fl.aggregation.ring.test_privacy import SpyGenerator, SpySeal
from tests.lightning_fl.audit.rounds import RATE, sgd
from tests.toy import ToyHospitals, toy_experiment, toy_run


def phantoms(cache: Path, **settings: Any) -> LabelledPhantoms:
    usual = {"sites": 3, "patients": [3], "slices": 6, "size": 32, "cache_dir": str(cache)}
    return LabelledPhantoms(**(usual | settings))


def task(net: nn.Module | None = None, optimizer: Any = None) -> Classification:
    torch.manual_seed(1)
    return Classification(net or LeNet(1, 2, 32), classes=2, optimizer=optimizer or sgd())


def prepared(
    audit: Audit, data: FederatedDataModule, template: pl.LightningModule | None = None
) -> PreparedAudit:
    protection = Protection(CyclicCKKS(bits=22).describe(), sites=3)
    return prepare_audit(audit, template or task(), data, protection, 0)


def short_experiment(**settings: Any) -> Experiment:
    """An experiment of one step, which is all that an audit needs beside it."""
    trainer = TrainerOptions(local_steps=1, accelerator="cpu")
    nothing = Personalisation([])
    return toy_experiment(trainer=trainer, personalisation=nothing, rounds=1, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder after an audit of one trial."""
    path = tmp_path_factory.mktemp("run")
    audit = Audit(trials=1, iterations=60, candidates=12, distinguishing=0, pictures=1)
    attack = prepared(audit, phantoms(tmp_path_factory.mktemp("cache")))
    attack.run(FinishedRun(path), Monitor())
    return path


@pytest.fixture
def views(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "audit.json").read_text())["views"]
    return {view["view"]: view for view in found}


def test_every_view_has_its_place(folder: Path, views: dict[str, Any]) -> None:
    assert list(views) == list(VIEWS)
    rows = list(csv.DictReader((folder / "audit.csv").open()))
    assert len(rows) == len(VIEWS)
    assert [row["view"] for row in rows] == list(VIEWS)


@pytest.mark.parametrize(
    "view", ["plain", "plain_steps", "initiator_none", "initiator_initiator", "other_of_two"]
)
def test_what_is_not_hidden_comes_back(views: dict[str, Any], view: str) -> None:
    assert views[view]["psnr"] >= 20
    assert views[view]["identified"] == 1
    assert views[view]["label_right"] == 1
    assert views[view]["correlation"] > 0.99
    assert views[view]["verdict"] == "comes back"


@pytest.mark.parametrize(
    "view", ["initiator_pairwise", "coordinator", "neighbour", "neighbours", "noise"]
)
def test_what_is_hidden_is_at_the_floor(views: dict[str, Any], view: str) -> None:
    assert views[view]["psnr"] <= views[view]["guess_psnr"]
    assert abs(views[view]["ssim"]) < 0.1
    assert views[view]["correlation"] <= views[view]["chance"] < 0.04
    assert views[view]["protected"]


def test_the_mean_of_more_sites_gives_less_away(views: dict[str, Any]) -> None:
    assert views["mean_2"]["psnr"] > views["mean_8"]["psnr"]
    assert views["mean_8"]["images"] == 8
    assert views["mean_8"]["label_right"] is None


class RepeatedAudit(NamedTuple):
    """A run whose audit failed, and which was then resumed, its secret keys watched.

    Attributes:
        folder: of the run, after the audit that went well.
        error: what the audit that failed said.
        first_report: the report after it.
        first_files: what was in the folder then.
        keys: pieces of all secret keys.
        holders: weak references to all that held one.
    """

    folder: Path
    error: str
    first_report: str
    first_files: set[str]
    keys: tuple[bytes, ...]
    holders: tuple[weakref.ref[Any], ...]


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> RepeatedAudit:
    def broken(*_: Any, **__: Any) -> None:
        raise DataError("The seen gradient is zero everywhere.")

    audit = Audit(trials=1, iterations=2, candidates=8, distinguishing=0, membership=False)
    data = phantoms(tmp_path_factory.mktemp("cache"), batch_size=4)
    experiment = short_experiment(module=task(), data=data, audit=audit)
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as spy:
        spy.setattr(ckks, "sealapi", SpySeal())
        spy.setattr(SpyGenerator, "windows", ())
        spy.setattr(SpyGenerator, "alive", ())
        with pytest.MonkeyPatch.context() as broke:
            broke.setattr(TrialAttack, "attacked", broken)
            with pytest.raises(DataError) as failed:
                toy_run(folder, experiment, report=True).start()
        error = str(failed.value)
        del failed  # its traceback holds the recorded rings
        first_report = (folder / "report.html").read_text()
        first_files = {path.name for path in folder.iterdir()}
        toy_run(folder, experiment, report=True).start()
        keys, holders = SpyGenerator.windows, SpyGenerator.alive
    return RepeatedAudit(folder, error, first_report, first_files, keys, holders)


def test_a_run_has_its_audit_in_the_report_and_no_secret_key_in_any_file(
    repeated: RepeatedAudit,
) -> None:
    assert "<h2>Privacy audit</h2>" in (repeated.folder / "report.html").read_text()
    assert len(repeated.keys) > 1000  # of two audits
    for file in repeated.folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(key in content for key in repeated.keys), file
    gc.collect()
    assert all(holder() is None for holder in repeated.holders)  # gone from memory, too


def test_an_audit_that_fails_leaves_the_report_and_can_be_made_again(
    repeated: RepeatedAudit,
) -> None:
    assert re.search(r"audit failed: Trial 1 .* seed 0: The seen gradient", repeated.error)
    assert "Privacy audit" not in repeated.first_report
    assert "audit.json" not in repeated.first_files
    assert "<h2>Privacy audit</h2>" in (repeated.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "words", "views"),
    [
        ({"aggregator": Plain()}, "its coordinator reads every update", "plain"),
        ({"aggregator": CyclicCKKS(masking="none")}, "no pairwise masks", "initiator_none"),
        ({"aggregator": CyclicCKKS()}, "nobody is meant to read", "initiator_pairwise"),
        (
            {"aggregator": Plain(weights="equal"), "privacy": SiteLevelDP(noise_multiplier=1.0)},
            r"every update. Its differential privacy (SiteLevelDP)",
            "plain",
        ),
        ({"algorithm": Local()}, "sites share nothing", ""),
        ({"algorithm": Centralised()}, "sites share data", ""),
    ],
)
def test_the_record_says_what_hides_updates_in_this_run(
    tmp_path: Path, settings: dict[str, Any], words: str, views: str
) -> None:
    audit = Audit(trials=0, distinguishing=0, membership=False)
    toy_run(tmp_path, short_experiment(audit=audit, **settings)).start()
    found = json.loads((tmp_path / "audit.json").read_text())["run"]
    assert words in found["words"]
    assert views in found["views"] or not (views or found["views"])


def test_settings_are_written_down(folder: Path) -> None:
    settings = json.loads((folder / "audit.json").read_text())["settings"]
    assert (settings["trials"], settings["candidates"], settings["lr"]) == (1, 12, RATE)


CONFIG = CONFIGS / "privacy_audit.yaml"


def test_every_seed_has_the_first_weights_of_a_run_with_that_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked: list[tuple[int, int, dict[str, Any]]] = []

    def trial(self: TrialAttack, number: int, *_: Any, **__: Any) -> tuple[list[TrialRow], Any]:
        attacked.append((self.weights_seed, number, self.template.state_dict()))
        row = TrialRow("plain", self.weights_seed, number, 1, 30, 1, 1, 0, 1, 1, 100, 10, 0, 0)
        return [row], {}

    monkeypatch.setattr(TrialAttack, "trial", trial)
    own = read_settings(["--config", str(CONFIG), "--output", str(tmp_path)])
    own.save()
    first = FinishedRun(tmp_path).fresh_task(0)
    audit = Audit(seeds=2, trials=2, distinguishing=0, pictures=0)
    prepared(audit, phantoms(tmp_path / "cache"), first).run(FinishedRun(tmp_path), Monitor())
    assert [(seed, number) for seed, number, _ in attacked] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    rows = list(csv.DictReader((tmp_path / "audit.csv").open()))
    assert [row["seed"] for row in rows] == ["0", "0", "1", "1"]
    for seed, _, weights in attacked:
        run = read_settings(
            ["--config", str(CONFIG), "--seed", str(seed), "--output", str(tmp_path / "none")]
        ).experiment
        expected = run.task.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in weights.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, r"`audit\.seeds` to be at least 1, but got 0"),
        ({"sites": 2}, r"`audit\.sites` to be at least 3, but got 2: with two"),
        ({"trials": -1}, r"`audit\.trials` to be at least 0, but got -1"),
        ({"local_steps": 1}, r"`audit\.local_steps` to be at least 2, but got 1"),
        ({"iterations": 0}, r"`audit\.iterations` to be at least 1, but got 0"),
        ({"candidates": 7}, r"`audit\.candidates` to be at least 8, but got 7"),
        ({"pictures": -1}, r"`audit\.pictures` to be at least 0, but got -1"),
        ({"distinguishing": 999}, r"`audit\.distinguishing` to be 0 or at least 1000, but got 999"),
        ({"shadows": 5}, "even number of shadow models, at least 4, but got 5"),
        ({"shadows": 4, "membership": False}, r"`audit\.shadows` is 4, but shadow models are for"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Audit(**settings)


def test_a_task_without_labels_is_refused(tmp_path: Path) -> None:
    data = ChestPhantoms(sites=3, patients=[3], slices=6, size=32, cache_dir=str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"ChestPhantoms is \['image', 'mask'\], without image and class number"
    ):
        prepared(Audit(), data)


def test_several_labels_are_refused(tmp_path: Path) -> None:
    class Several(LabelledPhantoms):
        def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
            samples: Any = super().dataset(site, patients, augment=augment)
            labels = torch.tensor([0.0, 1.0])
            return [s | {"label": labels} for s in samples]  # type: ignore[return-value]

    with pytest.raises(ConfigError, match=r"without image and class number.* one label an image"):
        draw_images(Several(sites=3, patients=[3], size=32, cache_dir=str(tmp_path)), 2, 2, 0)


def test_without_trials_any_task_and_optimiser_will_do(tmp_path: Path) -> None:
    data = ChestPhantoms(sites=3, patients=[3], slices=6, size=32, cache_dir=str(tmp_path))
    template = task(optimizer=adam)
    ready = prepared(Audit(trials=0, distinguishing=0, membership=False), data, template)
    ready.run(FinishedRun(tmp_path), Monitor())
    record = json.loads((tmp_path / "audit.json").read_text())
    assert (record["views"], record["distinguishing"], record["membership"]) == ([], [], [])
    assert not (tmp_path / "audit.csv").exists()


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs 8 training images .* together have 6"):
        prepared(Audit(), phantoms(tmp_path, slices=2))


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters)


def with_momentum(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [(adam, "the task's optimiser is Adam"), (with_momentum, "`momentum` is 0.9")],
)
def test_optimisers_that_hide_the_gradient_are_refused(
    tmp_path: Path, optimizer: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(Audit(), phantoms(tmp_path), task(optimizer=optimizer))


def test_a_net_whose_last_layer_shows_no_label_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 8), nn.Tanh(), nn.Linear(8, 2, bias=False))
    with pytest.raises(ConfigError, match="has no bias, and its weight's gradient shows no sign"):
        prepared(Audit(), phantoms(tmp_path), task(net))


def test_a_net_that_does_not_take_the_images_is_refused_in_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(ConfigError, match=r"LeNet cannot take images of shape \(1, 1, 32, 32\)"):
        prepared(Audit(), phantoms(tmp_path), task(LeNet(3, 2, 32)))


def test_a_net_that_cannot_train_on_one_image_is_refused_in_words(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 2), nn.BatchNorm1d(2))
    with pytest.raises(ConfigError, match=r"cannot take images .* more than 1 value per channel"):
        prepared(Audit(), phantoms(tmp_path), task(net))


def test_a_resumed_run_may_have_another_audit_or_none(tmp_path: Path) -> None:
    read_settings(["--config", str(CONFIG), "--output", str(tmp_path)]).save()
    resumed = ["--resume", str(tmp_path)]
    assert read_settings([*resumed, "--audit", "null"]).experiment.audit is None
    other = read_settings([*resumed, "--audit.trials", "0"]).experiment.audit
    assert other is not None
    assert other.trials == 0


def test_a_run_refuses_an_audit_that_cannot_be_before_it_trains(tmp_path: Path) -> None:
    run = toy_run(tmp_path, toy_experiment(audit=Audit(), data=ToyHospitals(), aggregator=Plain()))
    with pytest.raises(ConfigError, match="a sample of ToyHospitals is tuple, without image"):
        run.start()
    assert not list(tmp_path.glob("checkpoints/round-*"))
