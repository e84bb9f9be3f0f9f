"""Every YAML file in configs/ runs through train.py with tiny limits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import train
from datamodules.examples import __main__ as make_example
from tests.folders import LGG, ROOT
from tests.toy import ONE_STEP, SMALL_DENSENET, SMALL_NET, TINY_EXAMPLE, small_phantoms

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
TINY = {"tiny_covid": "covid_ct", "tiny_rad": "rad_chestct"}
"""Overrides of one config alone."""
TRACKERS = {"wandb", "tensorboard", "mlflow"}
"""Overrides that write into a folder of that name in the run's."""
ENGINES = {"ray"}
"""Overrides that tests of the engines run, and compare with the Local engine."""
OVERRIDES = [
    path
    for path in sorted((ROOT / "configs" / "overrides").glob("*.yaml"))
    if path.stem not in {*TINY, *ENGINES}
]
LIMITS = ["--rounds", "1", "--trainer.local_steps", "1", "--trainer.accelerator", "cpu"]
AUDIT = {
    **{"seeds": "1", "trials": "1", "iterations": "2", "distinguishing": "0"},
    **{"sites": "3", "local_steps": "2", "candidates": "8", "pictures": "1"},
}
"""Settings of the smallest audit of every view and of the models."""
EXAMPLES = {"covid_ct": "covid", "rad_chestct": "rad", "deploy_demo": "images"}
LAYOUTS = {"images": "folders", "labels": "classes", "volumes": "prostate"}
"""Configs whose data are made first: what `datamodules.examples.__main__` calls them."""


def example_data(config: Path, cache: Path) -> list[str]:
    """Arguments that give a config small data of its own format."""
    task = EXAMPLES[config.stem]
    if not (cache / task).exists():
        assert make_example.main([task, str(cache / task), *TINY_EXAMPLE]) == 0
    root = ["--data.init_args.root", str(cache / task)]
    if task == "images":  # its own engine is tried in tests/examples/deploy_demo
        local = ["--engine", "lightning_fl.engines.Local"]
        return [*root, "--data.init_args.size", "32", *local, *SMALL_NET]
    place = [*root, "--data.init_args.cache_dir", str(cache)]
    if task == "rad":
        few = ["--data.init_args.size", "32", "--data.init_args.batch_size", "4"]
        return [*place, *few, *SMALL_DENSENET]
    coarse = ["--data.init_args.spacing", "[11, 11, 11]", "--data.init_args.shape", "[32, 32, 32]"]
    small = ["--net.init_args.features", "[4, 4, 8, 8, 8, 4]"]
    return [*place, *coarse, *small, "--directions", "[axial]"]


def layout_data(config: Path, cache: Path) -> list[str]:
    """Arguments that give a config for own data a tiny example of the layout that it names."""
    layout = LAYOUTS[config.stem]
    few = ["--size", "32", "--sites", "3", "--patients", "4"]
    assert make_example.main([layout, str(cache / layout), *few]) == 0
    root = ["--data.init_args.index.init_args.root", str(cache / layout)]
    if layout == "prostate":
        return [*root, "--data.init_args.cache_dir", str(cache), *SMALL_NET]
    net = SMALL_DENSENET if layout == "classes" else SMALL_NET
    return [*root, "--data.init_args.size", "32", *net]


def tiny_data(config: Path, cache: Path) -> list[str]:
    """Arguments that make a config's data small."""
    if config.stem in EXAMPLES:
        return example_data(config, cache)
    if config.stem in LAYOUTS:
        return layout_data(config, cache)
    if config.stem == "lgg_mri":
        if not LGG.is_dir():
            pytest.skip("needs the brain MRI that lgg_mri.yaml names")
        smallest = ["--data.init_args.sites", "[CS, FG, EZ]", "--data.init_args.size", "32"]
        return [*smallest, *SMALL_NET, "--aggregator.init_args.allow_two_sites", "true"]
    audit = AUDIT if config.stem == "privacy_audit" else {}
    arguments = [
        part for key, value in audit.items() for part in (f"--audit.init_args.{key}", value)
    ]
    return [*arguments, *small_phantoms(cache)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which data are made once for all configs."""
    return tmp_path_factory.mktemp("cache")


def run(
    config: Path, tmp_path: Path, cache: Path, *arguments: str, extra: Sequence[str] = ()
) -> None:
    status = train.main(
        [
            *("--config", str(config), *arguments, "--output", str(tmp_path / "run")),
            *(*LIMITS, *tiny_data(config, cache), "--evaluation.gallery", "1", *extra),
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
def test_config_runs(config: Path, tmp_path: Path, cache: Path) -> None:
    few = ["--data.init_args.sites", "3"] if config.stem == "quickstart" else []
    run(config, tmp_path, cache, *ONE_STEP, extra=few)


NETS = {
    "Unet": "encoder_name: mobilenet_v2",
    "UnetPlusPlus": "encoder_name: resnet18",
    "FPN": "encoder_name: resnet18\n    encoder_depth: 5",
    "DeepLabV3Plus": "encoder_name: resnet18",
    "Segformer": "encoder_name: mit_b0",
}
"""Settings that differ from quickstart's; what both nets know stays as it is there."""


@pytest.mark.parametrize("name", NETS)
def test_the_net_is_swapped_in_yaml_alone(name: str, tmp_path: Path, cache: Path) -> None:
    override = tmp_path / "net.yaml"
    override.write_text(
        f"net:\n  class_path: segmentation_models_pytorch.{name}\n  init_args:\n"
        f"    {NETS[name]}\n    encoder_weights: null\n    in_channels: 1\n"
        "data:\n  init_args:\n    size: 64\ntrainer:\n  local_steps: 1\n"
    )
    method = ["--algorithm", "lightning_fl.algorithms.PerFedAvg"]
    exact = [*method, "--algorithm.init_args.order", "exact", "--data.init_args.size", "64"]
    config = ROOT / "configs" / "quickstart.yaml"
    extra = [*exact, "--data.init_args.sites", "3"]
    run(config, tmp_path, cache, "--config", str(override), "--validate", extra=extra)


@pytest.mark.parametrize("name", TINY)
def test_tiny_override_runs_on_its_config(name: str, tmp_path: Path, cache: Path) -> None:
    override = ["--config", str(ROOT / "configs" / "overrides" / f"{name}.yaml"), *ONE_STEP]
    run(ROOT / "configs" / f"{TINY[name]}.yaml", tmp_path, cache, *override, "--validate")


def phases(settings: Mapping[str, Any]) -> list[str]:
    """Arguments that give a round a step of each phase, where a method has two."""
    if "head_steps" not in settings.get("algorithm", {}).get("init_args", {}):
        return []
    return ["--algorithm.init_args.head_steps", "1", "--trainer.local_steps", "2"]


def small_net(name: str, settings: Mapping[str, Any]) -> Sequence[str]:
    """Arguments that make the net small: the override's own, or quickstart's."""
    if "net" in settings:
        assert settings["net"]["class_path"] == "monai.networks.nets.BasicUNet"
        return ["--net.init_args.features", "[4, 4, 8, 8, 8, 4]"]
    # not every layer has the second derivatives of `exact`: quickstart's own must
    return [] if name == "per_fedavg_exact" else SMALL_NET


def few(name: str) -> list[str]:
    """Arguments that leave the fewest sites, and the fewest of a new hospital's patients."""
    if name == "new_hospital":
        return ["--personalisation.patients", "[1]"]
    return ["--data.init_args.sites", "3"]


def quick(override: Path, tmp_path: Path) -> list[str]:
    """Arguments that name an override, with candidates of its own made quick."""
    settings = yaml.safe_load(override.read_text())
    candidates = settings.get("personalisation", {}).get("candidates")
    if candidates is None:
        return ["--config", str(override), *ONE_STEP]
    for candidate in candidates:
        if "steps" in candidate.get("init_args", {}):
            several = candidate["class_path"].endswith("FineTune")
            candidate["init_args"]["steps"] = [1, 2] if several else 1
    file = tmp_path / override.name
    file.write_text(yaml.safe_dump(settings))
    return ["--config", str(file)]


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda path: path.stem)
def test_override_runs_on_quickstart(override: Path, tmp_path: Path, cache: Path) -> None:
    name, settings = override.stem, yaml.safe_load(override.read_text())
    no_pictures = ["--evaluation.gallery", "0"]
    extra = [*small_net(name, settings), *phases(settings), *few(name), *no_pictures]
    quickstart = ROOT / "configs" / "quickstart.yaml"
    run(quickstart, tmp_path, cache, *quick(override, tmp_path), extra=extra)
    places = {tracker for tracker in TRACKERS if (tmp_path / "run" / tracker).exists()}
    assert places == TRACKERS & {name}
