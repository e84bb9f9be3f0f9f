import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fl.wire.messages import HEAD, MAGIC, Message, MessageError, digest_of
from tests.lightning_fl.aggregation.hosts import altered, body_of, with_digest

FRAME: dict[str, Any] = {"run": "run", "round": 7, "sender": "A"}
"""The fields that every frame must have."""


def message() -> Message:
    tensors = {"w": torch.arange(5.0), "n": torch.tensor(3)}
    info = {"samples": 3, "nested": {"a": [1.5, None]}}
    return Message(
        "run", 7, "A", 2, info, tensors, recipient="B", ring="3f", context="c0ffee"
    )  # every field differs from its default


def body_with(frame: object, tensors: dict[str, Any] | None = None, data: bytes = b"") -> bytes:
    """A safetensors file by hand, so that it can say what `encode` never would."""
    text = frame if isinstance(frame, str) else json.dumps(frame)
    header = json.dumps({"__metadata__": {"frame": text}, **(tensors or {})}).encode()
    return len(header).to_bytes(8, "little") + header + data


def decode(body: bytes) -> Message:
    return Message.decode(with_digest(body))


def is_well_typed(found: Message) -> bool:
    strings = (found.run, found.sender, found.recipient, found.ring, found.context)
    return (
        all(type(value) is str for value in strings)
        and type(found.round) is type(found.step) is int
        and type(found.info) is dict
        and all(isinstance(value, torch.Tensor) for value in found.tensors.values())
    )


def test_round_trip() -> None:
    back = Message.decode(message().encode())
    assert back.info == message().info
    assert (back.run, back.round, back.sender, back.step) == ("run", 7, "A", 2)
    assert (back.recipient, back.ring, back.context) == ("B", "3f", "c0ffee")
    assert torch.equal(back.tensors["w"], torch.arange(5.0))
    assert back.tensors["n"].shape == ()


@pytest.mark.parametrize(
    "change",
    [{"round": -5}, {"round": 2**31}, {"step": -1}, {"ring": "x" * 256}, {"sender": "x" * 2**21}],
)
def test_fields_out_of_their_range_are_refused(change: dict[str, Any]) -> None:
    [name] = change
    with pytest.raises(MessageError, match=rf"out of their range: \['{name}'\]"):
        decode(body_with(FRAME | change))


def test_message_without_tensors() -> None:
    assert Message.decode(Message("r", 0, "A").encode()) == Message("r", 0, "A")


def test_a_decoded_message_is_passed_on_byte_for_byte() -> None:
    loose = with_digest(body_with(json.dumps(FRAME, indent=3)))
    assert Message.decode(loose).encode() == loose != Message(**FRAME).encode()


def test_the_head_is_magic_with_version_then_length_then_digest() -> None:
    payload = message().encode()
    assert payload[:8] == MAGIC == b"LightFL\x01"
    assert int.from_bytes(payload[8:16], "little") == len(payload) - HEAD
    assert payload == with_digest(body_of(payload))
    assert digest_of(payload) == payload[16:48].hex()


@pytest.mark.parametrize("payload", [b"", b"x" * 7, b"\x00" * 64, b'{"a": 1}', MAGIC, MAGIC * 5])
def test_garbage_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError, match="no message, or a damaged one"):
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


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b * 2])
def test_another_length_than_the_head_says_is_refused(change: Callable[[bytes], bytes]) -> None:
    payload = message().encode()
    size = len(payload) - HEAD
    with pytest.raises(MessageError, match=f"should have {size} bytes after its head, but has"):
        Message.decode(payload[:HEAD] + change(payload[HEAD:]))


def test_a_changed_byte_of_the_right_length_is_refused_by_its_digest() -> None:
    payload = message().encode()
    with pytest.raises(MessageError, match=rf"{len(payload)} bytes is damaged; send it again"):
        Message.decode(payload[:-1] + bytes([payload[-1] ^ 1]))


def test_another_version_names_both() -> None:
    payload = bytearray(message().encode())
    payload[7] = 9
    with pytest.raises(MessageError, match="version 9, but this side speaks 1"):
        Message.decode(bytes(payload))


WRONG: list[Any] = [None, True, 1.5, 3, "3", [3], {"a": 3}]


@pytest.mark.parametrize("name", ["run", "sender", "recipient", "ring", "context"])
@pytest.mark.parametrize("value", [value for value in WRONG if type(value) is not str])
def test_text_of_the_frame_must_be_text(name: str, value: Any) -> None:
    with pytest.raises(MessageError, match=rf"wrong type: \['{name}'\]"):
        decode(body_with(FRAME | {name: value}))


@pytest.mark.parametrize("name", ["round", "step"])
@pytest.mark.parametrize("value", [value for value in WRONG if type(value) is not int])
def test_numbers_of_the_frame_must_be_whole(name: str, value: Any) -> None:
    with pytest.raises(MessageError, match=rf"wrong type: \['{name}'\]"):
        decode(body_with(FRAME | {name: value}))


@pytest.mark.parametrize("value", [value for value in WRONG if type(value) is not dict])
def test_info_must_be_an_object(value: Any) -> None:
    with pytest.raises(MessageError, match=r"wrong type: \['info'\]"):
        decode(body_with(FRAME | {"info": value}))


@pytest.mark.parametrize("name", FRAME)
def test_a_frame_without_one_of_its_fields_is_refused(name: str) -> None:
    with pytest.raises(MessageError, match=f"cannot be read.*'{name}'"):
        decode(body_with({key: value for key, value in FRAME.items() if key != name}))


@pytest.mark.parametrize(
    "frame",
    [
        *(FRAME | {name: "x"} for name in ("payload", "tensors", "encode", "self")),
        *("null", "[]", "3", '"x"', "", "{", "[" * 100_000),
        '{"run": "r", "sender": "A", "round": ' + "9" * 5000 + "}",
    ],
)
def test_a_frame_that_is_none_is_refused(frame: object) -> None:
    with pytest.raises(MessageError, match="cannot be read"):
        decode(body_with(frame))


@pytest.mark.parametrize(
    "body", [b"", bytes(7), bytes(8), b"\xff" * 8 + b"{}", b"\x02" + bytes(7) + b"[]"]
)
def test_a_body_that_is_no_safetensors_file_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError, match="cannot be read"):
        decode(body)


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("F4", [4], 2),  # safetensors knows it, torch does not
        ("F8_E8M0", [4], 4),
        ("F32", [4], 15),
        ("F32", [-1], 4),
        ("F32", [0, 2**63], 0),  # too large for torch's sizes
        ("F32", [0, 2**40, 2**40], 0),  # sizes fit, their product does not
        ("nothing", [4], 16),
    ],
)
def test_a_tensor_that_torch_cannot_hold_is_refused(
    dtype: str, shape: list[int], size: int
) -> None:
    tensor = {"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}
    with pytest.raises(MessageError, match="cannot be read"):
        decode(body_with(FRAME, tensor, bytes(size)))


@settings(max_examples=400)
@given(st.data())
def test_a_damaged_body_with_a_new_digest_is_refused_or_well_typed(data: st.DataObject) -> None:
    body = bytearray(body_of(message().encode()))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        stop = data.draw(st.integers(start, min(start + 8, len(body))))
        body[start:stop] = data.draw(st.binary(max_size=8))
    try:
        found = decode(bytes(body))
    except MessageError:
        return
    assert is_well_typed(found)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_with_a_digest_are_refused(body: bytes) -> None:
    with pytest.raises(MessageError):
        decode(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*vars(message())]), json_values))
def test_any_frame_is_refused_or_well_typed(fields: dict[str, Any]) -> None:
    try:
        found = decode(body_with(FRAME | fields))
    except MessageError:
        return
    assert is_well_typed(found)
    assert {name: getattr(found, name) for name in FRAME} == {
        name: fields.get(name, value) for name, value in FRAME.items()
    }


def test_altered_changes_what_it_is_told_and_nothing_else() -> None:
    found = Message.decode(altered(message().encode(), sender="B", step=3))
    assert (found.sender, found.step) == ("B", 3)
    assert (found.run, found.round, found.info) == ("run", 7, message().info)
