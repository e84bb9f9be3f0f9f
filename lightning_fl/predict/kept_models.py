"""The files that a run leaves for those who use its models; `finished_run` reads them."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path

import safetensors.torch
import torch
import yaml

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.files import write_bytes, write_text
from lightning_fl.run_files import GLOBAL, LOCAL, MODELS, PERSONAL, PREPROCESSING, SITES
from lightning_fl.training.layout import State


def keep_shared_model(folder: Path, template: State, shared: State, round_: int) -> None:
    """Write models/global.safetensors into the folder of a run.

    The template has all entries of the task that are kept, as they were at the start. The sites
    share some of them, which are as they were after a round.
    """
    tensors = {k: v.clone().contiguous() for k, v in (template | shared).items()}
    # what no site ever gave away is as it was at the start
    local = [n for n in tensors if n not in shared and tensors[n].is_floating_point()]
    metadata = {"round": json.dumps(round_), LOCAL: json.dumps(local)}
    _write(folder, f"{GLOBAL}.safetensors", safetensors.torch.save(tensors, metadata))


def keep_models_of(folder: Path, site: str, *, alone: bool = False) -> None:
    """Write models/<site>.safetensors, and the shared model where the site has layers of its own.

    `alone` says that this is a hospital, where nobody else writes the shared model.
    """
    names = (f"{PERSONAL}.safetensors", f"{GLOBAL}.safetensors")
    personal, at_site = (folder / SITES / site / name for name in names)
    if personal.is_file():
        _write(folder, f"{site}.safetensors", personal.read_bytes())
    shared = folder / MODELS / f"{GLOBAL}.safetensors"
    if at_site.is_file() and (alone or (shared.is_file() and _differ(at_site, shared))):
        _write(folder, f"{site}.{GLOBAL}.safetensors", at_site.read_bytes())


def keep_preprocessing(
    folder: Path, data: FederatedDataModule, sites: Iterable[str], seed: int
) -> None:
    """Write down how each site's scans become what its model sees, for predictions.

    The seed is that of the run: it decides which patients train, and so what is measured on them.
    """
    seeded = copy.copy(data)
    seeded.seed = seed
    by_site = {site: seeded.preprocessing(site) for site in sites}
    settings = {site: each.to_settings() for site, each in by_site.items() if each is not None}
    if settings:
        write_text(folder / PREPROCESSING, yaml.safe_dump(settings, sort_keys=False))


def _differ(at_site: Path, shared: Path) -> bool:
    """Return whether a site's state has other values in what the shared model holds."""
    state, entries = (safetensors.torch.load_file(file) for file in (at_site, shared))
    return any(not torch.equal(state[name], value) for name, value in entries.items())


def _write(folder: Path, name: str, content: bytes) -> None:
    (folder / MODELS).mkdir(exist_ok=True)
    write_bytes(folder / MODELS / name, content)
