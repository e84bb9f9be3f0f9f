"""Which models a folder of a run keeps, by whose folder it is."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from lightning_fl.predict.kept_models import keep_models_of
from lightning_fl.run_files import SITES


def write(file: Path, value: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({"w": torch.full((2,), value)}, file)


@pytest.mark.parametrize(
    ("shared", "alone", "kept"),
    [
        (1.0, False, {"A", "global"}),  # as everybody has it
        (2.0, False, {"A", "A.global", "global"}),  # the site has layers of its own
        (None, False, {"A"}),  # nothing is shared
        (None, True, {"A", "A.global"}),  # a hospital has it from nobody else
    ],
)
def test_the_shared_model_is_kept_for_a_site_where_it_is_nowhere_else(
    tmp_path: Path, shared: float | None, alone: bool, kept: set[str]
) -> None:
    write(tmp_path / SITES / "A" / "personal.safetensors", 3.0)
    write(tmp_path / SITES / "A" / "global.safetensors", 1.0)
    if shared is not None:
        write(tmp_path / "models" / "global.safetensors", shared)
    keep_models_of(tmp_path, "A", alone=alone)
    names = {f.name.removesuffix(".safetensors") for f in (tmp_path / "models").iterdir()}
    assert names == kept
