import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_fl.errors import ConfigError
from lightning_fl.training.batch_norm import batch_norm_entries
from lightning_fl.training.layout import (
    from_vector,
    make_layout,
    private_entries,
    to_vector,
)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Linear(3, 2)))


def test_vector_round_trip_is_exact() -> None:
    module = net()
    layout = make_layout(module)
    state = from_vector(to_vector(module.state_dict(), layout), layout)
    assert set(state) == {k for k in module.state_dict() if not k.endswith("num_batches_tracked")}
    for name, value in state.items():
        assert torch.equal(value, module.state_dict()[name])


def test_integer_buffers_are_private() -> None:
    layout = make_layout(net())
    assert layout.private == ("1.num_batches_tracked",)
    assert private_entries(net().state_dict(), layout)["1.num_batches_tracked"].dtype == torch.int64


def test_batch_norm_statistics_are_shared_unless_kept_local() -> None:
    module = net()
    assert "1.running_mean" in dict(make_layout(module).shared)
    local = make_layout(module, batch_norm_entries(module))
    assert not [name for name, _ in local.shared if name.startswith("1.")]
    assert len(local.private) == 5


def test_fingerprint_tells_networks_apart() -> None:
    assert make_layout(net()).fingerprint == make_layout(net()).fingerprint
    assert make_layout(net()).fingerprint != make_layout(nn.Linear(3, 2)).fingerprint
    assert make_layout(net()).fingerprint != make_layout(net(), ["0.bias"]).fingerprint


@given(st.lists(st.integers(0, 4), min_size=0, max_size=3), st.integers(0, 3))
def test_any_shapes_round_trip(shape: list[int], count: int) -> None:
    module = nn.Module()
    for i in range(count):
        module.register_buffer(f"b{i}", torch.randn(shape))
    layout = make_layout(module)
    vector = to_vector(module.state_dict(), layout)
    assert vector.shape == (layout.length,)
    for name, value in from_vector(vector, layout).items():
        assert torch.equal(value, module.state_dict()[name])


def test_wrong_length_and_complex_entries_are_refused() -> None:
    layout = make_layout(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"Expected a vector of 8 values, but got shape \(7,\)"):
        from_vector(torch.zeros(7), layout)
    module = nn.Module()
    module.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ConfigError, match="'phase' is complex"):
        make_layout(module)
