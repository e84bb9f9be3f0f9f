"""Every YAML file in configs/ runs through train.py with tiny limits."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

import train
from datamodules.examples import __main__ as make_example
from tests.folders import ROOT
from tests.toy import ONE_STEP, TINY_EXAMPLE

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
TINY = {"tiny_covid": "covid_ct", "tiny_rad": "rad_chestct"}
"""Overrides of one config alone."""
ENGINES = {"ray"}
"""Overrides that tests of the engines run, and compare with the Local engine."""
OVERRIDES = [
    path
    for path in sorted((ROOT / "configs" / "overrides").glob("*.yaml"))
    if path.stem not in {*TINY, *ENGINES}
]
LIMITS = ["--rounds", "1", "--trainer.local_steps", "1", "--trainer.accelerator", "cpu"]


EXAMPLES = {"covid_ct": "covid", "rad_chestct": "rad", "deploy_demo": "images"}
"""Configs whose data are made first: what `datamodules.examples.__main__` calls them."""


def example_data(config: Path, cache: Path) -> list[str]:
    """Arguments that give a config small data of its own format."""
    task = EXAMPLES[config.stem]
    assert make_example.main([task, str(cache / task), *TINY_EXAMPLE]) == 0
    root = ["--data.init_args.root", str(cache / task)]
    if task == "images":  # its own engine is tried in tests/lightning_fl/test_deploy_demo.py
        return [*root, "--data.init_args.size", "32", "--engine", "lightning_fl.engines.Local"]
    place = [*root, "--data.init_args.cache_dir", str(cache)]
    if task == "rad":
        return [*place, "--data.init_args.size", "32", "--data.init_args.batch_size", "4"]
    coarse = ["--data.init_args.spacing", "[11, 11, 11]", "--data.init_args.shape", "[32, 32, 32]"]
    small = ["--net.init_args.features", "[4, 4, 8, 8, 8, 4]"]
    return [*place, *coarse, *small, "--directions", "[axial, coronal]"]


def tiny_data(config: Path, cache: Path) -> list[str]:
    """Arguments that make a config's data small."""
    if config.stem in EXAMPLES:
        return example_data(config, cache)
    if config.stem == "lgg_mri":
        if not (ROOT.parent / "shared" / "data" / "lgg_mri").is_dir():
            pytest.skip("needs the brain MRI that lgg_mri.yaml names")
        return ["--data.init_args.size", "32", "--data.init_args.sites", "[CS, DU, FG, EZ]"]
    attack = {"seeds": "1", "trials": "1", "iterations": "3", "distinguishing": "0"}
    audit = [a for k, v in attack.items() for a in (f"--audit.init_args.{k}", v)]
    return [
        *(audit if config.stem == "privacy_audit" else ()),
        *("--data.init_args.size", "32", "--data.init_args.patients", "[3]"),
        *("--data.init_args.slices", "6", "--data.init_args.batch_size", "2"),
        *("--data.init_args.cache_dir", str(cache)),
    ]


def run(config: Path, tmp_path: Path, *arguments: str, extra: Sequence[str] = ()) -> None:
    status = train.main(
        [
            *("--config", str(config), *arguments, "--output", str(tmp_path / "run")),
            *(*LIMITS, *tiny_data(config, tmp_path / "cache")),
            *("--evaluation.gallery", "1", *extra),
        ]
    )
    assert status == 0
    assert (tmp_path / "run" / "report.html").is_file() != ("--validate" in arguments)


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_runs(config: Path, tmp_path: Path) -> None:
    run(config, tmp_path, *ONE_STEP)


NETS = {
    "Unet": "encoder_name: mobilenet_v2",
    "UnetPlusPlus": "encoder_name: resnet18",
    "FPN": "encoder_name: resnet18\n    encoder_depth: 5",
    "DeepLabV3Plus": "encoder_name: resnet18",
    "Segformer": "encoder_name: mit_b0",
}
"""Settings that differ from quickstart's; what both nets know stays as it is there."""


@pytest.mark.parametrize("name", NETS)
def test_the_net_is_swapped_in_yaml_alone(name: str, tmp_path: Path) -> None:
    override = tmp_path / "net.yaml"
    override.write_text(
        f"net:\n  class_path: segmentation_models_pytorch.{name}\n  init_args:\n"
        f"    {NETS[name]}\n    encoder_weights: null\n    in_channels: 1\n"
        "data:\n  init_args:\n    size: 64\ntrainer:\n  local_steps: 1\n"
    )
    method = ["--algorithm", "lightning_fl.algorithms.PerFedAvg"]
    exact = [*method, "--algorithm.init_args.order", "exact", "--data.init_args.size", "64"]
    config = ROOT / "configs" / "quickstart.yaml"
    run(config, tmp_path, "--config", str(override), "--validate", extra=exact)


@pytest.mark.parametrize("name", TINY)
def test_tiny_override_runs_on_its_config(name: str, tmp_path: Path) -> None:
    override = ["--config", str(ROOT / "configs" / "overrides" / f"{name}.yaml"), *ONE_STEP]
    run(ROOT / "configs" / f"{TINY[name]}.yaml", tmp_path, *override, "--validate")


def phases(override: Path) -> list[str]:
    """Arguments that give a round a step of each phase, where a method has two."""
    settings = yaml.safe_load(override.read_text()).get("algorithm", {}).get("init_args", {})
    if "head_steps" not in settings:
        return []
    return ["--algorithm.init_args.head_steps", "1", "--trainer.local_steps", "2"]


def small(override: Path, tmp_path: Path) -> list[str]:
    """Arguments that name an override, with candidates of its own made quick."""
    settings = yaml.safe_load(override.read_text())
    candidates = settings.get("personalisation", {}).get("candidates")
    if candidates is None:
        return ["--config", str(override), *ONE_STEP]
    for candidate in candidates:
        if "steps" in candidate.get("init_args", {}):
            several = candidate["class_path"].endswith("FineTune")
            candidate["init_args"]["steps"] = [1, 2] if several else 1
    quick = tmp_path / override.name
    quick.write_text(yaml.safe_dump(settings))
    return ["--config", str(quick)]


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda path: path.stem)
def test_override_runs_on_quickstart(override: Path, tmp_path: Path) -> None:
    one = ["--personalisation.patients", "[1]"] if override.stem == "new_hospital" else []
    extra = [*phases(override), *one]
    run(ROOT / "configs" / "quickstart.yaml", tmp_path, *small(override, tmp_path), extra=extra)
    assert (tmp_path / "run" / "wandb").exists() == (override.stem == "wandb")
