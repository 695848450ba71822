"""Setting the root properties of a flattened device tree (Devicetree Specification v0.4, chapter 5)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from harness.errors import DataError

_HEADER = struct.Struct(">10I")
_MAGIC = 0xD00DFEED
_BEGIN_NODE, _END_NODE, _PROP, _NOP = 1, 2, 3, 4


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _string_at(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode("ascii")


def root_properties(blob: bytes) -> dict[str, bytes]:
    """Return the root node's own properties. Raises DataError if `blob` is no device tree."""
    return {name: value for name, value, _, _ in _walk_root(blob)}


def _walk_root(blob: bytes) -> list[tuple[str, bytes, int, int]]:
    """Return (name, value, start, end) of the root's properties; offsets within the structure block."""
    try:
        header = _HEADER.unpack_from(blob)
        if header[0] != _MAGIC:
            raise DataError(f"not a device tree: magic {header[0]:#x}, expected {_MAGIC:#x}")
        structure = blob[header[2] : header[2] + header[9]]
        strings = blob[header[3] : header[3] + header[8]]
        if struct.unpack_from(">I", structure)[0] != _BEGIN_NODE:
            raise DataError("not a device tree: it doesn't begin with a node")
        found: list[tuple[str, bytes, int, int]] = []
        at = 8  # the root's name is empty: token, then four zero bytes
        while True:
            (token,) = struct.unpack_from(">I", structure, at)
            if token == _NOP:
                at += 4
                continue
            if token != _PROP:
                return found
            length, name_offset = struct.unpack_from(">II", structure, at + 4)
            end = at + 12 + length
            value = structure[at + 12 : end]
            end += -length % 4
            found.append((_string_at(strings, name_offset), value, at, end))
            at = end
    except (struct.error, ValueError) as error:
        raise DataError(f"not a device tree: {error}") from error


def with_root_strings(blob: bytes, values: Mapping[str, str]) -> bytes:
    """Return `blob` with these string properties set on its root node, replaced where they exist."""
    header = list(_HEADER.unpack_from(blob))
    properties = _walk_root(blob)
    structure = blob[header[2] : header[2] + header[9]]
    strings = blob[header[3] : header[3] + header[8]]
    reserved = blob[header[4] : header[2]]  # dtc, libfdt and QEMU put it right before the structure
    if not header[4] < header[2] < header[3]:
        raise DataError("device tree with its blocks in an unexpected order")
    end_of_root = properties[-1][3] if properties else 8
    body = structure[:8]
    for name, value in values.items():
        data = value.encode() + b"\0"
        body += struct.pack(">III", _PROP, len(data), len(strings)) + _padded(data)
        strings += name.encode("ascii") + b"\0"
    for name, _, start, end in properties:
        if name not in values:
            body += structure[start:end]
    body += structure[end_of_root:]
    header[4] = _HEADER.size + (-_HEADER.size % 8)
    header[2] = header[4] + len(reserved)
    header[3] = header[2] + len(body)
    header[1] = header[3] + len(strings)
    header[8], header[9] = len(strings), len(body)
    padding = b"\0" * (header[4] - _HEADER.size)
    return b"".join((_HEADER.pack(*header), padding, reserved, body, strings))
