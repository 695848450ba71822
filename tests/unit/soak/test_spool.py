"""Lines of segments: what is whole is read, what is damaged is told, nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import spools

from harness.soak.spool import count_whole_bytes, encode_record, parse_segment


def test_what_was_written_is_read():
    records = spools.short_soak(5)
    segment = parse_segment(spools.lines(records))
    assert segment.records == records
    assert segment.damage == ()
    assert segment.size_bytes == len(spools.lines(records))


def test_a_line_as_it_is_documented():
    # its CRC as the trailer of `printf … | gzip` has it (RFC 1952, 2.3.1)
    assert encode_record({"seq": 1, "k": "end"}) == b'ad5d132d {"seq":1,"k":"end"}\n'


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"garbage\n", "8 hex digits"),
        (b"0123456z {}\n", "8 hex digits"),
        (b"00000000 {}\n", "CRC"),
        (b"\n", "8 hex digits"),
        (b"\x00" * 4096 + b"\n", "8 hex digits"),
        (encode_record({"seq": 0, "k": "end"}), "no record"),
        (encode_record({"seq": True, "k": "end"}), "no record"),
        (encode_record({"seq": 3}), "no record"),
        (encode_record({"seq": 3, "k": 4}), "no record"),
    ],
)
def test_each_kind_of_damage_is_told_and_the_rest_kept(line: bytes, why: str):
    before, after = spools.short_soak(2)[:2]
    data = encode_record(before) + line + encode_record(after)
    segment = parse_segment(data)
    assert segment.records == [before, after]
    (damage,) = segment.damage
    assert (damage.offset, damage.size_bytes, damage.after) == (len(encode_record(before)), len(line), 1)
    assert why in damage.why


@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes):
    segment = parse_segment(data)
    assert segment.size_bytes == count_whole_bytes(data)


@given(st.data())
def test_one_flipped_bit_costs_at_most_two_records_and_is_told(data: st.DataObject):
    records = spools.short_soak(4)
    good = spools.lines(records)
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    segment = parse_segment(bytes(bad))
    kept = [r for r in segment.records if r in records]
    assert kept == segment.records  # nothing is made up
    # two where the newline between them was hit; a cut last line isn't whole any more
    assert len(records) - 2 <= len(kept) < len(records)
    assert segment.damage or segment.size_bytes < len(good)


@given(st.integers(0, 6000))
def test_what_is_cut_off_is_no_line(size_bytes: int):
    data = spools.lines(spools.short_soak(3))[:size_bytes]
    segment = parse_segment(data)
    assert segment.damage == ()
    assert spools.lines(segment.records) == data[: segment.size_bytes]
