"""Lines of a spool: damaged or unfinished ones are told from whole ones."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.soak.records import decode_line, encode_record, find_unfinished, whole_lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
RECORDS = st.dictionaries(st.text(max_size=8), JSON, max_size=5)


@given(RECORDS)
def test_a_record_comes_back(record: dict) -> None:
    line = encode_record(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode_line(line) == decode_line(line[:-1]) == record


def test_the_line_is_as_the_page_says() -> None:
    line = encode_record({"seq": 1, "k": "end"})
    crc, _, text = line.decode().rstrip("\n").partition(" ")
    assert crc == f"{zlib.crc32(text.encode()):08x}"
    assert json.loads(text) == {"seq": 1, "k": "end"}


@given(RECORDS, st.data())
def test_one_flipped_bit_is_damage(record: dict, data: st.DataObject) -> None:
    line = bytearray(encode_record(record))
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= 1 << data.draw(st.integers(0, 7))
    # the case of a hexadecimal digit is the one bit that changes no meaning, so it must be damage as well
    assert decode_line(bytes(line)) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_record({"v": value})


@pytest.mark.parametrize("line", [b"", b"\n", b"00000000 {}\n", b"%08x []\n" % zlib.crc32(b"[]"), b"\0" * 40])
def test_other_lines_are_damaged(line: bytes) -> None:
    assert decode_line(line) is None


ONE, TWO = encode_record({"seq": 1}), encode_record({"seq": 2})


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (ONE + TWO, ONE + TWO),
        (ONE + TWO[:-1], ONE),
        (ONE + b"\0" + TWO[1:], ONE),
        (b"\0" + ONE[1:] + TWO, b""),
        (ONE + b"\0", ONE),
        (b"\0" * 30 + b"\n" + TWO, b"\0" * 30 + b"\n" + TWO),  # a damaged block: kept, and told by its CRC
        (b"", b""),
    ],
)
def test_whole_lines_end_before_an_unfinished_write(data: bytes, whole: bytes) -> None:
    assert whole_lines(data) == whole


def test_an_unfinished_write_is_found_at_the_start_of_a_line_only() -> None:
    assert find_unfinished(ONE + b"\0" + TWO[1:]) == len(ONE)
    assert find_unfinished(b"a\x000\n") == 4
