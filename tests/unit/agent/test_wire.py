"""Frames survive any cut of the stream; anything that is no frame is refused."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent import wire

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FRAMES = st.builds(
    wire.Frame,
    st.integers(0, 2**53),
    st.sampled_from(wire.TYPES),
    st.text(max_size=20),
    st.dictionaries(st.text(), JSON, max_size=4),
    st.binary(max_size=200),
)


@given(st.lists(FRAMES, max_size=4), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_frames_survive_any_cut(frames: list[wire.Frame], cuts: list[int]) -> None:
    stream = b"".join(wire.encode(frame) for frame in frames)
    decoder, found, at = wire.Decoder(), [], 0
    while at < len(stream):
        step = cuts[at % len(cuts)]
        found += decoder.feed(stream[at : at + step])
        at += step
    decoder.finish()
    assert found == frames


def header(**changes: Any) -> bytes:
    fields = {"v": 1, "id": 1, "type": "request", "op": "hello", "args": {}, "payload_bytes": 0, "crc32": 0}
    fields.update(changes)
    return json.dumps(fields).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        b'{"v":1}\n',
        b"\xff\xfe\n",
        header(v=2),
        header(type="answer"),
        header(id=-1),
        header(id=True),
        header(op=7),
        header(args=[]),
        header(payload_bytes=-1),
        header(payload_bytes=wire.MAX_PAYLOAD_BYTES + 1),
        header(payload_bytes=1.5),
        header(crc32="0"),
        header(crc32=1 << 32),
        header(extra=1),
        header(args={"x": float("nan")}),
        header(crc32=5),  # the CRC of an empty payload is 0
        b"[" * 5000 + b"\n",
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(wire.WireFault):
        wire.Decoder().feed(line)


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    decoder = wire.Decoder()
    decoder.feed(b" " * (wire.MAX_HEADER_BYTES - 1))
    with pytest.raises(wire.WireFault, match="longer than"):
        decoder.feed(b"  ")


def test_a_changed_payload_is_refused() -> None:
    stream = bytearray(wire.encode(wire.Frame(1, "result", "infer", {}, b"samples")))
    stream[-1] ^= 1
    with pytest.raises(wire.WireFault, match="crc32"):
        wire.Decoder().feed(stream)


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_an_early_end_is_noticed(cut: int) -> None:
    decoder = wire.Decoder()
    decoder.feed(wire.encode(wire.Frame(1, "result", "x", {}, b"abc"))[:cut])
    with pytest.raises(wire.WireFault, match="ended inside"):
        decoder.finish()


def test_limits_hold_when_sending() -> None:
    with pytest.raises(wire.WireFault, match="header"):
        wire.encode_header(wire.Frame(1, "result", "x", {"text": "x" * wire.MAX_HEADER_BYTES}))
    with pytest.raises(wire.WireFault, match="payload"):
        wire.encode_header(
            wire.Frame(1, "result", "x", {}, memoryview(bytearray(wire.MAX_PAYLOAD_BYTES + 1)))
        )


def test_tensors_round_trip() -> None:
    tensors = [
        wire.Tensor("a", "int64", (2,), bytes(16)),
        wire.Tensor("b", "float32", (1, 3), b"\x01" * 12),
        wire.Tensor("none", "uint8", (0, 5), b""),
        wire.Tensor("scalar", "bool", (), b"\x01"),
    ]
    entries, payload = wire.pack_tensors(tensors)
    assert [t._replace(data=bytes(t.data)) for t in wire.unpack_tensors(entries, payload)] == tensors


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "object"},
        {"dtype": ["f4"]},
        {"shape": [3]},
        {"shape": [-1]},
        {"shape": "2"},
        {"nbytes": 15},
        {"offset": 8},
        {"offset": -8},
        {"offset": None},
        {"more": 1},
    ],
)
def test_arrays_that_do_not_fit_their_payload_are_refused(change: dict[str, Any]) -> None:
    entry = {"name": "a", "dtype": "int64", "shape": [2], "offset": 0, "nbytes": 16, **change}
    with pytest.raises(wire.WireFault):
        wire.unpack_tensors([entry], bytes(16))


def test_crc_is_zlibs() -> None:
    frame = wire.Frame(3, "event", "child", {}, b"payload")
    assert json.loads(wire.encode_header(frame))["crc32"] == zlib.crc32(b"payload")
