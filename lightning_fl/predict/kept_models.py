"""What a run leaves for those who use its models; `finished_run` reads it."""

import json
from collections.abc import Iterable
from pathlib import Path

import safetensors.torch
import torch
import yaml

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.files import write_bytes, write_text
from lightning_fl.run_files import GLOBAL, LOCAL, MODELS, PREPROCESSING, SITES
from lightning_fl.training.layout import State


def keep_shared_model(folder: Path, template: State, shared: State, round_: int) -> None:
    """Write models/global.safetensors.

    Args:
        folder: of the run.
        template: all entries of the task that are to be kept, as they were at the start.
        shared: those that the sites share, as they are in the end.
        round_: that they come from.
    """
    tensors = {k: v.clone().contiguous() for k, v in (template | shared).items()}
    # what no site ever gave away is as it was at the start
    local = [n for n in tensors if n not in shared and tensors[n].is_floating_point()]
    metadata = {"round": json.dumps(round_), LOCAL: json.dumps(local)}
    _write(folder, f"{GLOBAL}.safetensors", safetensors.torch.save(tensors, metadata))


def keep_models_of(folder: Path, site: str, *, alone: bool = False) -> None:
    """Write models/<site>.safetensors, and the shared model where the site has layers of its own.

    Args:
        folder: of the run.
        site: whose; its own folder lies inside the run's.
        alone: whether this is a hospital, where nobody else writes the shared model.
    """
    own = folder / SITES / site
    personal, came = own / "personal.safetensors", own / f"{GLOBAL}.safetensors"
    if personal.is_file():
        _write(folder, f"{site}.safetensors", personal.read_bytes())
    shared = folder / MODELS / f"{GLOBAL}.safetensors"
    if came.is_file() and (alone or (shared.is_file() and _differ(came, shared))):
        _write(folder, f"{site}.{GLOBAL}.safetensors", came.read_bytes())


def keep_preprocessing(folder: Path, data: FederatedDataModule, sites: Iterable[str]) -> None:
    """Write down how each site's scans become what its model sees, for predictions."""
    found = {site: data.preprocessing(site) for site in sites}
    settings = {site: one.to_settings() for site, one in found.items() if one is not None}
    if settings:
        write_text(folder / PREPROCESSING, yaml.safe_dump(settings, sort_keys=False))


def _differ(own: Path, shared: Path) -> bool:
    """Whether a site's state has other values in what the shared model holds."""
    mine, everyones = (safetensors.torch.load_file(file) for file in (own, shared))
    return any(not torch.equal(mine[name], value) for name, value in everyones.items())


def _write(folder: Path, name: str, content: bytes) -> None:
    (folder / MODELS).mkdir(exist_ok=True)
    write_bytes(folder / MODELS / name, content)
