"""A folder as MONAI's bundles have it: metadata, the network's settings and its weights."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from lightning_fl.errors import ConfigError
from lightning_fl.export.trained_net import TrainedNet
from lightning_fl.export.writers import Shape, plain_state
from lightning_fl.files import replacing, write_text
from lightning_fl.training.task import without_download


def write_monai_bundle(trained: TrainedNet, folder: Path, shape: Shape | None) -> None:
    """Write configs/metadata.json, configs/inference.json and models/model.pt.

    Raises:
        ConfigError: no shape is given, the weights are of several networks, or the settings of the
            network do not build it.
    """
    trained.check_is_one_net()
    if shape is None:
        raise ConfigError(
            "A bundle says what images its network takes: give channels and size, e.g. --shape 1 "
            "96 96."
        )
    inference = _inference(trained)
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    _write_json(folder / "configs" / "metadata.json", _metadata(trained, shape))
    _write_json(folder / "configs" / "inference.json", inference)
    with replacing(folder / "models" / "model.pt") as unfinished:
        torch.save(plain_state(trained.net), unfinished)  # tensors alone: weights_only reads it


def _inference(trained: TrainedNet) -> dict[str, Any]:
    """Return the settings of the network, tried once, and how to load its weights."""
    if trained.settings is None:
        raise ConfigError(
            "A bundle names the class of its network and the settings, but a run that was started "
            "from Python keeps none. Export it by --to state_dict or torch_export."
        )
    network = _with_targets(without_download(trained.settings))
    try:
        built = ConfigParser({"network_def": network}).get_parsed_content("network_def")
        built.load_state_dict(trained.net.state_dict())
    except Exception as error:  # of any network's constructor
        raise ConfigError(
            f"MONAI cannot build the network from its settings ({error}). Export it by --to "
            "state_dict or torch_export."
        ) from error
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "initialize": [
            "$@network.load_state_dict("
            "torch.load(@checkpoint, map_location=@device, weights_only=True))",
            "$@network.eval()",
        ],
        "inferer": {"_target_": "SimpleInferer"},
    }


def _with_targets(value: Any) -> Any:
    """Return settings in MONAI's form: `_target_` beside the arguments of a class."""
    if isinstance(value, list | tuple):
        return [_with_targets(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    if "class_path" not in value:
        return {name: _with_targets(entry) for name, entry in value.items()}
    return {"_target_": value["class_path"], **_with_targets(value.get("init_args") or {})}


def _metadata(trained: TrainedNet, shape: Shape) -> dict[str, Any]:
    described = trained.describe(shape)
    channels, *size = shape
    classes = described["output"]["channels"]
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "n/a",
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "num_channels": channels,
        "spatial_shape": size,
        "channel_def": {str(n): "image" for n in range(channels)},
    }
    logits = image | {
        "format": "logits",
        "num_channels": classes,
        "channel_def": {str(n): f"class {n}" for n in range(classes or 0)},
    }
    return {
        "version": "0.1.0",
        "changelog": {"0.1.0": "exported from a run of lightning_fl"},
        "name": f"{type(trained.net).__name__} of {trained.name}",
        "task": f"{type(trained.task).__name__} by federated learning",
        "description": f"The network of {trained.name} in a federation.",
        "authors": "",
        "copyright": "",
        "monai_version": version("monai"),
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": _packages(trained),
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": logits}},
        "lightning_fl": described,
    }


def _packages(trained: TrainedNet) -> dict[str, str]:
    """Return the version of the package that the network's class is in, if it has one."""
    package = type(trained.net).__module__.partition(".")[0]
    try:
        return {package: version(package)}
    except ModuleNotFoundError:  # PackageNotFoundError: a module of the user's own
        return {}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
