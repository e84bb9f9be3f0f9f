"""Write one network of a run in one of several formats, with its preprocessing beside it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lightning_fl.errors import ConfigError
from lightning_fl.export.monai_bundle import write_monai_bundle
from lightning_fl.export.trained_net import TrainedNet, trained_net
from lightning_fl.export.writers import Shape, write_onnx, write_state_dict, write_torch_export
from lightning_fl.files import write_text
from lightning_fl.predict.finished_run import FinishedRun


class Format(NamedTuple):
    """Hold how a network is written, and how its file or folder ends."""

    suffix: str
    write: Callable[[TrainedNet, Path, Shape | None], None]


FORMATS = {
    "state_dict": Format(".safetensors", write_state_dict),
    "torch_export": Format(".pt2", write_torch_export),
    "onnx": Format(".onnx", write_onnx),
    "monai_bundle": Format("", write_monai_bundle),
}


def export_model(
    run: FinishedRun,
    site: str | None = None,
    *,
    to: str,
    kind: str | None = None,
    shape: Sequence[int] | None = None,
    output: Path | None = None,
) -> Path:
    """Write the network of a site, or the shared one, and a JSON file about it.

    Args:
        run: that has its models.
        site: whose personal model; None for the shared one.
        to: a name in `FORMATS`.
        kind: "personal" or "global"; see `FinishedRun.model`.
        shape: channels and size of an image; only a state_dict needs none.
        output: file, or folder of a bundle; None is `export/<site>` in the run's folder.

    Returns:
        What was written. The JSON file has the same name but for its suffix, and lies in the folder
        `configs` of a bundle.

    Raises:
        ConfigError: the format is unknown, or the network cannot be written in it.
    """
    if to not in FORMATS:
        raise ConfigError(f"Unknown format {to!r}; known are {', '.join(FORMATS)}.")
    if shape is not None and (len(shape) < 3 or min(shape) < 1):
        raise ConfigError(
            f"Expected --shape to be channels and size, e.g. 1 96 96, but got {list(shape)}."
        )
    trained, sizes = trained_net(run, site, kind), tuple(shape) if shape is not None else None
    suffix, write = FORMATS[to]
    path = output or run.folder / "export" / f"{trained.name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(trained, path, sizes)
    beside = path.with_suffix(".json") if suffix else path / "configs" / "preprocessing.json"
    write_text(beside, json.dumps(trained.describe(sizes), indent=2) + "\n")
    return path
