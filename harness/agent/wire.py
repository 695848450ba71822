"""Frames: one JSON header line, then raw payload bytes. Used by agent and host alike; no I/O here.

docs/agent-protocol.md has the format. A frame that is not exactly right raises WireFault: there is no way
back into step on a stream, so either side then gives the stream up.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

PROTOCOL = 1
MAX_HEADER_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 256 << 20
TYPES = ("request", "result", "error", "event")
_KEYS = {"v", "id", "type", "op", "args", "payload_bytes", "crc32"}

# What may travel, by numpy's name, with bytes per item. No objects, so nothing is ever unpickled.
ITEM_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}

Buffer = Union[bytes, bytearray, memoryview]


class WireFault(Exception):
    """Bytes on the stream that are no frame of this protocol."""


class Frame(NamedTuple):
    """One message. `id` is the request's number, `type` one of TYPES."""

    id: int
    type: str
    op: str
    args: Dict[str, Any]
    payload: Buffer = b""


class Tensor(NamedTuple):
    """A named array as it travels: `data` is little-endian and in C order."""

    name: str
    dtype: str
    shape: Tuple[int, ...]
    data: Buffer


def encode_header(frame: Frame) -> bytes:
    """Return the header line of `frame`; its payload follows as it is. Raises WireFault past a size limit."""
    payload_bytes = memoryview(frame.payload).nbytes
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise WireFault("payload of %d bytes, at most %d allowed" % (payload_bytes, MAX_PAYLOAD_BYTES))
    header = {
        "v": PROTOCOL,
        "id": frame.id,
        "type": frame.type,
        "op": frame.op,
        "args": frame.args,
        "payload_bytes": payload_bytes,
        "crc32": zlib.crc32(frame.payload),
    }
    line = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("utf-8") + b"\n"
    if len(line) > MAX_HEADER_BYTES:
        raise WireFault("header of %d bytes, at most %d allowed" % (len(line), MAX_HEADER_BYTES))
    return line


def encode(frame: Frame) -> bytes:
    """Return header and payload in one piece."""
    return encode_header(frame) + bytes(frame.payload)


def _no_constant(name: str) -> Any:
    raise ValueError("%s is not JSON" % name)


def _is_count(value: Any, limit: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def parse_header(line: Buffer) -> Tuple[Frame, int, int]:
    """Return the frame (payload still empty), its payload's size and its CRC. Raises WireFault."""
    try:
        header = json.loads(bytes(line).decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireFault("header is not JSON (%s): %r" % (error, bytes(line[:80]))) from None
    if not isinstance(header, dict) or set(header) != _KEYS:
        found = sorted(header) if isinstance(header, dict) else type(header).__name__
        raise WireFault("header has %s, expected %s" % (found, sorted(_KEYS)))
    if header["v"] != PROTOCOL:
        raise WireFault("protocol version %r, expected %d" % (header["v"], PROTOCOL))
    if header["type"] not in TYPES:
        raise WireFault("type %r, expected one of %s" % (header["type"], ", ".join(TYPES)))
    if not _is_count(header["id"], 1 << 53) or not isinstance(header["op"], str):
        raise WireFault("id %r and op %r, expected a count and a text" % (header["id"], header["op"]))
    if not isinstance(header["args"], dict):
        raise WireFault("args is %s, expected an object" % type(header["args"]).__name__)
    if not _is_count(header["payload_bytes"], MAX_PAYLOAD_BYTES):
        raise WireFault("payload_bytes %r, expected 0 to %d" % (header["payload_bytes"], MAX_PAYLOAD_BYTES))
    if not _is_count(header["crc32"], 0xFFFFFFFF):
        raise WireFault("crc32 %r, expected 32 bits" % (header["crc32"],))
    frame = Frame(header["id"], header["type"], header["op"], header["args"])
    return frame, header["payload_bytes"], header["crc32"]


class Decoder:
    """Turns pieces of a stream, cut anywhere, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # how far the header line was searched for its end
        self._open: Optional[Tuple[Frame, int, int]] = None  # header whose payload is still coming

    def feed(self, data: Buffer) -> List[Frame]:
        """Return the frames that `data` completes. Raises WireFault; the decoder is then of no more use."""
        self._buffer += data
        frames: List[Frame] = []
        while True:
            frame = self._next()
            if frame is None:
                return frames
            frames.append(frame)

    def finish(self) -> None:
        """Raise WireFault if the stream ended inside a frame."""
        if self._buffer or self._open:
            raise WireFault("the stream ended inside a frame, after %d bytes of it" % len(self._buffer))

    def _next(self) -> Optional[Frame]:
        if self._open is None:
            end = self._buffer.find(b"\n", self._scanned)
            if end < 0 and len(self._buffer) < MAX_HEADER_BYTES:
                self._scanned = len(self._buffer)
                return None
            if end < 0 or end >= MAX_HEADER_BYTES:
                raise WireFault("header line longer than %d bytes" % MAX_HEADER_BYTES)
            self._open = parse_header(self._buffer[:end])
            del self._buffer[: end + 1]
            self._scanned = 0
        frame, size, crc = self._open
        if len(self._buffer) < size:
            return None
        payload = bytes(memoryview(self._buffer)[:size])
        if zlib.crc32(payload) != crc:
            raise WireFault(
                "payload of `%s` has crc32 %08x, its header says %08x" % (frame.op, zlib.crc32(payload), crc)
            )
        del self._buffer[:size]
        self._open = None
        return frame._replace(payload=payload)


def pack_tensors(tensors: Sequence[Tensor]) -> Tuple[List[Dict[str, Any]], bytes]:
    """Return the `arrays` entries and the payload that holds `tensors` one after the other."""
    entries = []
    offset = 0
    for tensor in tensors:
        nbytes = memoryview(tensor.data).nbytes
        entries.append(
            {
                "name": tensor.name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "offset": offset,
                "nbytes": nbytes,
            }
        )
        offset += nbytes
    return entries, b"".join(bytes(tensor.data) for tensor in tensors)


def unpack_tensors(entries: Any, payload: Buffer) -> List[Tensor]:
    """Return the tensors that `entries` describe, as views into `payload`. Raises WireFault on any misfit."""
    if not isinstance(entries, list):
        raise WireFault("arrays is %s, expected a list" % type(entries).__name__)
    view = memoryview(payload)
    tensors = []
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"name", "dtype", "shape", "offset", "nbytes"}:
            raise WireFault("array entry %r, expected name, dtype, shape, offset, nbytes" % (entry,))
        shape = entry["shape"]
        if not isinstance(shape, list) or not all(_is_count(size, 1 << 40) for size in shape):
            raise WireFault("array `%s`: shape %r, expected sizes" % (entry["name"], shape))
        expected = ITEM_BYTES.get(entry["dtype"], 0) if isinstance(entry["dtype"], str) else 0
        if not expected:
            raise WireFault("array `%s`: dtype %r can't travel" % (entry["name"], entry["dtype"]))
        for size in shape:
            expected *= size
        offset, nbytes = entry["offset"], entry["nbytes"]
        if nbytes != expected or not _is_count(offset, len(view)) or offset + nbytes > len(view):
            raise WireFault(
                "array `%s`: %r bytes at %r of a payload of %d, its shape needs %d"
                % (entry["name"], nbytes, offset, len(view), expected)
            )
        tensors.append(
            Tensor(str(entry["name"]), entry["dtype"], tuple(shape), view[offset : offset + nbytes])
        )
    return tensors
