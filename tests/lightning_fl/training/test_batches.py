import copy
from collections import namedtuple
from typing import Any

import pytest
import torch

from lightning_fl.errors import ConfigError
from lightning_fl.training.batches import batch_length, cut, replace, to_float64

Pair = namedtuple("Pair", ["image", "mask"])


def tensor(length: int = 6) -> torch.Tensor:
    return torch.arange(length).float()


@pytest.mark.parametrize(
    "batch",
    [
        tensor(),
        [tensor(), tensor()],
        (tensor(), {"m": tensor()}),
        {"image": tensor(), "id": list("abcdef"), "scale": 2.0, "nested": [tensor()]},
        Pair(tensor(), tensor()),
    ],
)
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_parts_are_disjoint_and_whole(batch: Any, parts: int) -> None:
    batch = copy.deepcopy(batch)
    pieces = cut(batch, parts)
    assert [batch_length(piece) for piece in pieces] == [6 // parts] * parts
    seen = [x for piece in pieces for x in first_tensor(piece).tolist()]
    assert sorted(seen) == tensor().tolist()
    replace(batch, pieces[0])
    assert first_tensor(batch).tolist() == tensor()[: 6 // parts].tolist()
    if isinstance(batch, dict) and "id" in batch:
        assert batch["id"] == list("abcdef")[: 6 // parts]
        assert batch["scale"] == 2.0


def first_tensor(batch: Any) -> torch.Tensor:
    if isinstance(batch, torch.Tensor):
        return batch
    return first_tensor(next(iter(batch.values() if isinstance(batch, dict) else batch)))


def test_sizes_differ_by_one_at_most() -> None:
    assert sorted(len(p) for p in cut(tensor(7), 3)) == [2, 2, 3]


def test_replacing_the_batch_leaves_the_parts_alone() -> None:
    batch = [tensor()]
    first, second = cut(batch, 2)
    replace(batch, first)
    batch[0].zero_()
    assert second[0].tolist() == [3, 4, 5]


def test_scalars_go_to_every_part() -> None:
    batch = {"image": tensor(), "weight": torch.tensor(0.5)}
    assert all(p["weight"] == 0.5 for p in cut(batch, 2))


def test_too_small_or_shapeless_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch of 2 samples cannot be cut into 3"):
        cut(tensor(2), 3)
    with pytest.raises(ConfigError, match="no tensor with a batch dimension"):
        cut({"a": 1}, 2)


def test_floats_become_double_and_integers_stay() -> None:
    double = to_float64({"a": [tensor()], "b": Pair(tensor(), torch.arange(3)), "c": "text"})
    assert double["a"][0].dtype == double["b"].image.dtype == torch.float64
    assert double["b"].mask.dtype == torch.int64
    assert double["c"] == "text"
