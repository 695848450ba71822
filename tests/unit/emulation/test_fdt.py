import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.emulation.fdt import root_properties, with_root_strings
from harness.errors import DataError


def _tree(properties: list[tuple[str, bytes]], child: bytes = b"") -> bytes:
    """A device tree by hand (Devicetree Specification v0.4, 5.4): a root, its properties, one child."""
    strings = b""
    body = struct.pack(">II", 1, 0)
    for name, value in properties:
        body += struct.pack(">III", 3, len(value), len(strings)) + value + b"\0" * (-len(value) % 4)
        strings += name.encode() + b"\0"
    body += child + struct.pack(">II", 2, 9)
    reserved = struct.pack(">QQ", 0, 0)
    at = 40
    offsets = (at + len(reserved), at + len(reserved) + len(body), at)
    total = offsets[1] + len(strings)
    header = (0xD00DFEED, total, *offsets, 17, 16, 0, len(strings), len(body))
    return struct.pack(">10I", *header) + reserved + body + strings


CHILD = struct.pack(">I", 1) + b"cpus\0\0\0\0" + struct.pack(">I", 2)


def test_properties_are_replaced_and_added_and_the_rest_stays():
    blob = _tree([("compatible", b"linux,dummy-virt\0"), ("model", b"old\0")], CHILD)
    out = with_root_strings(blob, {"model": "Raspberry Pi 4 Model B (emulated)", "serial-number": "00ff"})
    assert root_properties(out) == {
        "model": b"Raspberry Pi 4 Model B (emulated)\0",
        "serial-number": b"00ff\0",
        "compatible": b"linux,dummy-virt\0",
    }
    assert CHILD in out
    assert struct.unpack_from(">I", out, 4)[0] == len(out)


NAMES = st.from_regex(r"[a-z]{1,12}", fullmatch=True)


@given(st.dictionaries(NAMES, st.text("abc é", max_size=30), max_size=4))
def test_what_was_set_is_read_back(values):
    out = with_root_strings(_tree([("a", b"1\0"), ("b", b"22\0")], CHILD), values)
    read = root_properties(out)
    for name, value in values.items():
        assert read[name] == value.encode() + b"\0"
    assert set(read) == {"a", "b", *values}


@pytest.mark.parametrize("blob", [b"", b"\0" * 40, b"not a tree" * 10])
def test_anything_else_is_refused(blob):
    with pytest.raises(DataError, match="not a device tree"):
        root_properties(blob)
