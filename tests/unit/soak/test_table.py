"""Segments to a table: values where they belong, losses and doubles found, events of both sides in order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import spools

from harness.errors import DataError
from harness.model import SoakTable
from harness.soak.ledger import Ledger
from harness.soak.spool import Record, encode_record, parse_segment
from harness.soak.table import TableBuilder, read_table


def build(records: list[Record], **options: Any) -> SoakTable:
    builder = TableBuilder()
    for data in spools.segments(records, 4000):
        builder.add(parse_segment(data), where="here", **options)
    return builder.build()


def test_windows_and_their_values():
    records = spools.short_soak(6)
    table = build(records)
    assert table.start_s.tolist() == [0, 1, 2, 3, 4, 5]
    assert table.end_s.tolist() == [1, 2, 3, 4, 5, 6]
    assert table.life.tolist() == [1] * 6
    assert table.merged.tolist() == [1] * 6
    windows = [r for r in records if r["k"] == "window"]
    rss = [w["streams"]["main"]["rss_bytes"] for w in windows]
    assert table.channels["main/rss_bytes"].tolist() == rss
    assert table.units["main/rss_bytes"] == "bytes"
    assert table.channels["device/temp_c.cpu-thermal"].tolist() == [w["v"][0] for w in windows]
    assert table.units["device/temp_c.cpu-thermal"] == "°C"
    assert table.channels["device/disk_free_bytes"].tolist() == [1e9] * 6
    assert table.channels["main/errors"].tolist() == [0] * 6
    assert table.variants["main"] == ("fp32",) * 6
    assert (table.first_seq, table.last_seq, table.missing_seq, table.doubled_seq) == (1, 8, (), ())
    assert table.ended == "duration"
    assert [(x.life, x.start_s, x.gap_from) for x in table.lives] == [(1, 0.0, "start")]


def test_each_window_keeps_its_histogram():
    table = build(records := spools.short_soak(3))
    latency = table.latency["main"]
    for w, record in enumerate(r for r in records if r["k"] == "window"):
        begin, end = latency.offset[w], latency.offset[w + 1]
        pairs = np.column_stack([latency.index[begin:end], latency.count[begin:end]])
        assert pairs.tolist() == record["streams"]["main"]["h"]


def test_what_was_not_seen_is_nan_and_a_stream_may_come_later():
    second = {
        **spools.stream(random.Random(1)),
        "rss_bytes": None,
        "h": [],
        "errors": {"TypeError": 2, "x": 1},
    }
    windows = [
        spools.window(0, v=[None, 3.0]),
        spools.window(1, streams={"main": spools.stream(random.Random(2)), "second": second}),
        spools.window(2),
    ]
    windows[0]["dev"]["freq_hz"] = None
    windows[1]["dev"]["freq_hz"] = {"0": 1.5e9, "1": 0.6e9}  # some boards tell each CPU's
    table = build(spools.numbered([spools.life(), *windows]))
    assert np.isnan(table.channels["device/temp_c.cpu-thermal"]).tolist() == [True, False, False]
    assert np.isnan(table.channels["second/rss_bytes"]).all()
    assert np.isnan(table.channels["second/calls"]).tolist() == [True, False, True]
    assert table.channels["second/errors"][1] == 3
    assert table.channels["second/errors.TypeError"][1] == 2
    freq = table.channels["device/freq_hz"]
    assert np.isnan(freq[0])
    assert freq[1:].tolist() == [0.6e9, 1.5e9]
    assert table.latency["second"].offset.tolist() == [0, 0, 0, 0]
    assert table.variants["second"] == ("", "fp32", "")
    assert table.ended is None


def test_thinned_windows_say_how_many_they_are():
    table = build(spools.numbered([spools.life(), spools.window(0, n=4, t1_ns=4 * 10**9)]))
    assert table.merged.tolist() == [4]
    assert (table.start_s[0], table.end_s[0]) == (0.0, 4.0)


def test_losses_and_doubles_are_found():
    records = spools.short_soak(8)
    table = build([*records[:3], *records[5:7], records[6], records[2], *records[7:]])
    assert table.missing_seq == (4, 5)
    assert table.doubled_seq == (7, 3)
    assert len(table.start_s) == 6


def test_lines_read_again_are_no_doubles_and_fall_into_place():
    records = spools.short_soak(6)
    builder = TableBuilder()
    builder.add(parse_segment(spools.lines([*records[:3], *records[5:]])))
    builder.add(parse_segment(spools.lines(records)), again=True)
    table = builder.build()
    whole = build(records)
    assert (table.missing_seq, table.doubled_seq) == ((), ())
    assert table.start_s.tolist() == whole.start_s.tolist()
    for name, values in whole.channels.items():
        assert table.channels[name].tolist() == values.tolist(), name
    for field in ("offset", "index", "count"):
        assert (
            getattr(table.latency["main"], field).tolist() == getattr(whole.latency["main"], field).tolist()
        )
    assert table.variants == whole.variants


def test_another_record_under_a_used_number_is_kept():
    # a runner that lost the end of its spool goes on counting from what is left
    old, new = spools.window(0), spools.window(7)
    table = build([*spools.numbered([spools.life(), old]), {"seq": 2, **new}])
    assert table.start_s.tolist() == [0, 7]
    assert table.doubled_seq == ()


def test_channels_of_a_later_life_are_its_own():
    other = [{"id": "hwmon/hwmon1/VDD/power_w", "kind": "power_w", "unit": "W"}]
    records = [
        spools.life(),
        spools.window(0, v=[50.0, 2.0]),
        spools.life(2, 2 * 10**9, gap_ns=10**9, gap_from="boottime", channels=other),
        spools.window(2, v=[3.0], life=2),
    ]
    table = build(spools.numbered(records))
    assert table.channels["device/power_w.VDD"].tolist() == [2.0, 3.0]
    assert np.isnan(table.channels["device/temp_c.cpu-thermal"]).tolist() == [False, True]
    assert [(x.life, x.gap_s, x.gap_from) for x in table.lives] == [(1, 0.0, "start"), (2, 1.0, "boottime")]


def test_sensors_of_one_kind_and_site_are_told_apart_by_more_of_their_id():
    ids = ["hwmon/hwmon0/in1/voltage_v", "hwmon/hwmon1/in1/voltage_v", "iio/x/in2/voltage_v"]
    channels = [{"id": i, "kind": "voltage_v", "unit": "V"} for i in ids]
    table = build(spools.numbered([spools.life(channels=channels), spools.window(0, v=[1.0, 2.0, 3.0])]))
    values = {name: v.tolist() for name, v in table.channels.items() if "voltage" in name}
    assert values == {
        "device/voltage_v.hwmon.hwmon0.in1": [1.0],
        "device/voltage_v.hwmon.hwmon1.in1": [2.0],
        "device/voltage_v.in2": [3.0],
    }


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"k": "window", "i": 1}, "t0_ns"),
        ({**spools.window(1), "v": [1.0]}, "1 values in `v`"),
        ({**spools.window(1), "streams": []}, "record 3"),
        ({"k": "event", "event": "crash"}, "t_ns"),
        ({"k": "banana"}, "unknown kind"),
    ],
)
def test_a_record_that_lacks_something_is_an_error_that_names_it(record: Record, what: str):
    with pytest.raises(DataError, match=r"here: record 3") as caught:
        build(spools.numbered([spools.life(), spools.window(0), record]))
    assert what in str(caught.value)


def test_events_of_both_sides_are_in_order(tmp_path: Path):
    records = spools.numbered(
        [
            spools.life(),
            spools.event("crash", 3 * 10**9, "it died", signal=11),
            spools.event("oom", 9 * 10**9),
        ]
    )
    ledger = ledger_of(tmp_path, spools.lines(records))
    ledger.add_event("link_lost", 5 * 10**9, "no route", {"for_s": 4})
    table = read_table(ledger.folder)
    assert [(e.kind, e.source, e.t_s) for e in table.events] == [
        ("crash", "device", 3.0),
        ("link_lost", "host", 5.0),
        ("oom", "device", 9.0),
    ]
    assert table.events[0].details == {"signal": 11}
    assert table.events[1].details == {"for_s": 4}


def test_a_damaged_line_is_told_and_its_window_missing(tmp_path: Path):
    data = bytearray(spools.lines(spools.short_soak(5)))
    at = data.index(encode_record(spools.short_soak(5)[3]))
    data[at + 40] ^= 1
    table = read_table(ledger_of(tmp_path, bytes(data)).folder)
    assert table.missing_seq == (4,)
    assert len(table.start_s) == 4
    (event,) = [e for e in table.events if e.kind == "segment_damaged"]
    assert (event.source, event.details["offset"], event.details["after_seq"]) == ("host", at, 3)
    assert event.t_s == 2.0  # the end of the window before


def test_nothing_collected_yet_is_an_empty_table(tmp_path: Path):
    table = read_table(Ledger.create(tmp_path, {"id": "s"}, {}).folder)
    assert len(table.start_s) == 0
    assert (table.first_seq, table.last_seq, table.missing_seq) == (0, 0, ())


def test_no_ledger_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="holds no soak"):
        read_table(tmp_path)


def ledger_of(root: Path, data: bytes) -> Ledger:
    ledger = Ledger.create(root, {"id": "20250101-000000-abcd"}, {"device": "x"})
    ledger.adopt(1, "me")
    ledger.append(1, 1, ledger.held(1), data)
    return ledger
