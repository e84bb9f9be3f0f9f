"""Membership inference on the models in a run's folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch

import train
from datamodules import LabelledPhantoms
from lightning_fl.audit.membership import shadows
from lightning_fl.audit.membership.model_attacks import LIRA, LOSS, ModelAttacks
from lightning_fl.audit.membership.model_inference import ModelInference
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.run.config import read_settings
from lightning_fl.training.fitting import TrainerOptions, fit
from lightning_fl.training.progress import Progress
from tests.folders import CONFIGS
from tests.toy import SMALL_NET

NET = """
net: {class_path: monai.networks.nets.Classifier, init_args: {
  in_shape: [1, 32, 32], classes: 2, channels: [8, 16], strides: [2, 2]}}
task: {class_path: models.Classification, init_args: {optimizer: {
  class_path: torch.optim.Adam, init_args: {lr: 0.01}}}}
trainer: {local_steps: 30}
rounds: 2
"""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> LabelledPhantoms:
    cache = str(tmp_path_factory.mktemp("cache"))
    return LabelledPhantoms(sites=2, patients=16, slices=6, size=32, test=8, val=2, cache_dir=cache)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, phantoms: LabelledPhantoms) -> FinishedRun:
    """A run whose site A learnt its patients by heart; the other models are as they began."""
    folder = tmp_path_factory.mktemp("run")
    net = folder / "net.yaml"
    net.write_text(NET)
    files = ["--config", str(CONFIGS / "privacy_audit.yaml"), "--config", str(net)]
    read_settings([*files, "--output", str(folder)]).save()
    (folder / "models").mkdir()
    finished = FinishedRun(folder)
    for name in ("global", "B"):
        _save(finished, name, finished.fresh_task(0))
    module = finished.fresh_task(1)
    loader = phantoms.for_site("A", 0).train_loader()
    options = TrainerOptions(local_steps=150, accelerator="cpu")
    fit(module, loader, [], options, Progress())
    _save(finished, "A", module)
    return FinishedRun(folder)


def _save(run: FinishedRun, name: str, module: pl.LightningModule) -> None:
    content = {k: v.clone() for k, v in module.state_dict().items()}
    safetensors.torch.save_file(content, run.folder / "models" / f"{name}.safetensors")


@pytest.fixture(scope="module")
def found(run: FinishedRun, phantoms: LabelledPhantoms) -> dict[tuple[str, str], ModelInference]:
    results = ModelAttacks(phantoms, shadows=4, seed=0).attack(run)
    return {(result.site, result.attack): result for result in results}


def test_every_model_meets_every_attack(found: dict[tuple[str, str], ModelInference]) -> None:
    assert list(found) == [(site, attack) for attack in (LOSS, LIRA) for site in ("", "A", "B")]
    sizes = {site: (r.result.members, r.result.non_members) for (site, _), r in found.items()}
    assert sizes == {
        "": (12, 16),
        "A": (6, 8),
        "B": (6, 8),
    }  # patients, not slices; both hospitals' for all


def test_a_model_that_learnt_by_heart_is_found_and_an_untrained_one_is_not(
    found: dict[tuple[str, str], ModelInference],
) -> None:
    for attack in (LOSS, LIRA):
        assert found["A", attack].result.values["auc"] > 0.85
        assert found["A", attack].detected
    assert not found["", LOSS].detected
    assert not found["B", LOSS].detected


def test_shadow_models_are_trained_on_half_of_the_patients_and_all_steps(
    run: FinishedRun, phantoms: LabelledPhantoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[tuple[int, int | None]] = []

    def count(module: Any, loader: Any, callbacks: Any, options: Any, progress: Any) -> None:
        fits.append((len(loader.dataset), options.local_steps))

    monkeypatch.setattr(shadows, "fit", count)
    attacks = ModelAttacks(phantoms, shadows=4, seed=0)
    losses, inside = attacks.shadow_losses(run)
    assert losses.shape == inside.shape == (4, 28)
    assert fits == [(14 * 6, 60)] * 4  # slices of 14 patients, 30 steps in 2 rounds


def test_layers_that_a_site_kept_are_attacked_with_the_shared_ones(
    run: FinishedRun, phantoms: LabelledPhantoms, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    other = FinishedRun(tmp_path)
    (tmp_path / "config.yaml").write_text((run.folder / "config.yaml").read_text())
    for name in ("global", "A", "B"):
        _save(other, name, run.fresh_task(0))
    _save(other, "A.global", run.model("A", "personal"))
    found = ModelAttacks(phantoms, shadows=0, seed=0).attack(FinishedRun(tmp_path))
    assert [result.site for result in found] == ["", "A", "B"]
    assert found[0].result.values["auc"] > found[1].result.values["auc"]


def test_a_run_without_models_has_nothing_to_attack(
    phantoms: LabelledPhantoms, tmp_path: Path
) -> None:
    assert ModelAttacks(phantoms, shadows=4, seed=0).attack(FinishedRun(tmp_path)) == []


def arguments(tmp_path: Path) -> Sequence[str]:
    audit = {"trials": 0, "distinguishing": 0, "shadows": 4}
    settings = [a for k, v in audit.items() for a in (f"--audit.init_args.{k}", str(v))]
    return [
        *("--config", str(CONFIGS / "quickstart.yaml"), "--output", str(tmp_path / "run")),
        *("--audit", "lightning_fl.audit.Audit", *settings, "--rounds", "1"),
        *("--trainer.local_steps", "1", "--trainer.accelerator", "cpu"),
        *("--data.init_args.size", "32", "--data.init_args.patients", "[4]"),
        *("--data.init_args.sites", "3"),
        *("--data.init_args.slices", "4", "--data.init_args.cache_dir", str(tmp_path / "cache")),
        *("--data.init_args.batch_size", "4", "--evaluation.gallery", "0"),
        *SMALL_NET,
    ]


def test_segmentation_models_are_attacked_in_a_run_and_the_report_says_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert train.main([*arguments(tmp_path), "--personalisation.candidates", "[]"]) == 0
    record = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert {one["site"] for one in record["membership"]} >= {"", "A", "C"}
    report = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Membership inference</h2>" in report
    assert "<h2>Privacy audit</h2>" not in report
