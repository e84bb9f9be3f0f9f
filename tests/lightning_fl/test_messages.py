import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fl.messages import Message, MessageError


def message() -> Message:
    tensors = {"w": torch.arange(5.0), "n": torch.tensor(3)}
    return Message("run", 7, "A", 2, {"samples": 3, "nested": {"a": [1.5, None]}}, tensors)


def test_round_trip() -> None:
    back = Message.decode(message().encode())
    assert back.info == message().info
    assert (back.run, back.round, back.sender, back.step) == ("run", 7, "A", 2)
    assert torch.equal(back.tensors["w"], torch.arange(5.0))
    assert back.tensors["n"].shape == ()


def test_message_without_tensors() -> None:
    assert Message.decode(Message("r", 0, "A").encode()) == Message("r", 0, "A")


@pytest.mark.parametrize("payload", [b"", b"x" * 7, b"\x00" * 64, b'{"a": 1}'])
def test_garbage_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError, match="damaged"):
        Message.decode(payload)


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_every_cut_and_every_changed_byte_is_refused(position: int, change: int) -> None:
    payload = bytearray(message().encode())
    cut = position % len(payload)
    with pytest.raises(MessageError):
        Message.decode(bytes(payload[:cut]))
    payload[cut] ^= change
    with pytest.raises(MessageError):
        Message.decode(bytes(payload))


def test_another_version_names_both() -> None:
    payload = bytearray(message().encode())
    payload[7] = 9
    with pytest.raises(MessageError, match="version 9, but this side speaks 1"):
        Message.decode(bytes(payload))
