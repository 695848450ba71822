"""The line that a waiting collector shows: counted once, the time left at the pace seen."""

from __future__ import annotations

from support import spools

from harness.remote.soak import SoakStatus
from harness.soak.collector import Visit
from harness.soak.fetch import Fetched
from harness.soak.spool import Segment
from harness.soak.table import TableBuilder
from harness.soak.tally import Tally, reached

HOUR_NS = 3600 * 10**9


def a_visit(t_s: float, ended: str = "") -> Visit:
    status = SoakStatus("s", "running", 1, "b", 1, 1, round(t_s * 1e9), 72 * HOUR_NS, 0, {}, {}, 0)
    return Visit(status, Fetched(1, 1, 0), t_s, 0.1, ended=ended)


def records():
    failing = {**spools.window(2)["streams"]["main"], "errors": {"timeout": 3, "TypeError": 1}}
    return spools.numbered(
        [
            spools.life(),
            spools.window(0),
            spools.window(1, n=2),
            spools.window(2, streams={"main": failing}),
            spools.event("link_back", 3 * HOUR_NS),
        ]
    )


def test_what_is_counted_once_isnt_again():
    tally = Tally({"duration_ns": 72 * HOUR_NS})
    tally.add(records())
    tally.add(records())  # a segment that was read anew
    assert (tally.windows, tally.calls, tally.errors) == (4, 150, 4)
    line = tally.line(a_visit(31.4 * 3600))
    assert line.startswith("31.4 of 72 h, 41 h left, 4 errors, RSS 50")
    assert line.endswith(" MB, 4 windows, last: link_back at 3 h")


def test_a_later_collector_counts_on_from_the_ledger():
    builder = TableBuilder()
    found = records()
    builder.add(Segment(found, [0] * len(found)))
    tally = Tally({"duration_ns": 72 * HOUR_NS}, builder.build())
    tally.add(found)
    assert (tally.windows, tally.calls, tally.errors) == (4, 150, 4)
    assert tally.line(a_visit(3600.0 * 72, "ended")).startswith("72.0 of 72 h, 4 errors")


def test_compressed_time_is_left_at_the_pace_seen():
    now = [100.0]
    tally = Tally({"duration_ns": 72 * HOUR_NS, "compressed": True}, clock=lambda: now[0])
    assert "left" not in tally.line(a_visit(0.0))
    now[0] = 160.0
    assert ", 2 min left," in tally.line(a_visit(24 * 3600.0))


def test_both_in_the_unit_that_was_asked_for():
    assert reached(5.0, 20.0) == "5.00 of 20 s"
    assert reached(0.0, 5400.0) == "0 of 90 min"
    assert reached(80.0 * 3600, 72.0 * 3600) == "72.0 of 72 h"
