"""What `soak status` shows: numbers from the windows, words for every state."""

from __future__ import annotations

import getpass
import socket
from dataclasses import replace

import numpy as np
import pytest

from harness.cli.soak_text import describe, table_row
from harness.model import SoakEvent, SoakLife, SoakTable, SparseHistograms
from harness.soak.glance import Contact, compute_glance
from harness.soak.heard import Heard

HOUR = 3600.0
MB = 1e6
SPEC = {
    "id": "20250101-000000-abcd",
    "duration_ns": int(72 * HOUR * 1e9),
    "window_ns": int(60e9),
    "streams": [
        {"name": "main", "cycle": {"kind": "every", "period_ns": 10**10}, "variants": [{"name": "m"}]}
    ],
    "about": {
        "streams": [{"name": "main", "model": "digits", "cycle": "every 10 s"}],
        "settings": {"warmup_s": HOUR},
    },
}
RUNNING = {
    "state": "running",
    "collector": {"holder": "lab@desk 41", "seen_age_ns": int(12e9)},
    "t_ns": int(10 * HOUR * 1e9),
}


def bucket(ns: int) -> int:
    shift = max(0, ns.bit_length() - 7)
    return 64 * shift + (ns >> shift)


def a_table(hours: float = 10.0, leak_per_h: float = 0.1 * MB, slow_from_h: float = 9.0, **over) -> SoakTable:
    n = int(hours * 60)
    start = np.arange(n) * 60.0
    at_h = (start + 30) / HOUR
    rss = 40 * MB + leak_per_h * at_h + np.where(np.arange(n) % 2, 2000.0, -2000.0)
    rss[0] = 90 * MB  # while it loads
    ns = np.where(at_h < slow_from_h, bucket(2_000_000), bucket(4_000_000))
    fields = dict(
        start_s=start,
        end_s=start + 60,
        life=np.ones(n, dtype=np.int32),
        merged=np.ones(n, dtype=np.int32),
        channels={
            "main/calls": np.full(n, 6.0),
            "main/errors": np.r_[np.zeros(n - 1), 2.0],
            "main/errors.timeout": np.r_[np.zeros(n - 1), 2.0],
            "main/rss_bytes": rss,
            "device/temp_c.cpu-thermal": np.r_[np.full(n - 1, 61.0), 52.5],
            "device/throttled_bits": np.full(n, 0x50000 * 1.0),  # has been, isn't now
        },
        units={},
        latency={
            "main": SparseHistograms(np.arange(n + 1), ns.astype(np.int32), np.full(n, 6, dtype=np.int64))
        },
        variants={"main": ("m",) * n},
        events=tuple(SoakEvent(h * HOUR, "link_back", f"after {h} min", "host") for h in range(1, 8)),
        lives=(SoakLife(1, 0.0, 0.0, "start", "b"),),
        ended=None,
        first_seq=1,
        last_seq=n,
    )
    return SoakTable(**{**fields, **over})


def glance(table=None, contact=None, **options):
    contact = contact or Contact(0.0, None, RUNNING)
    return compute_glance(table or a_table(), SPEC, "rpi4", contact, **options)


def test_its_numbers_are_those_of_the_windows():
    seen = glance()
    (main,) = seen.streams
    assert (seen.windows, seen.observed_s, seen.reached_s) == (600, 36000, 36000)
    assert seen.coverage_ratio == 1.0
    assert (main.calls, main.errors, main.title) == (3600, {"timeout": 2}, "digits")
    assert main.rss_slope_per_h == pytest.approx(0.1 * MB, rel=0.01)
    assert main.first_ns == pytest.approx((2e6, 2e6), rel=1 / 128)
    assert main.now_ns == pytest.approx((4e6, 4e6), rel=1 / 128)
    assert seen.temps_c == {"cpu-thermal": (52.5, 61.0)}
    assert seen.throttled is False
    assert seen.collector_ago_s == 12


def test_one_restart_of_one_window_is_singular():
    channels = {"main/calls": np.ones(1), "main/restarts": np.ones(1)}
    one = {name: getattr(a_table(), name)[:1] for name in ("start_s", "end_s", "life", "merged")}
    text = describe(glance(a_table(**one, channels=channels, latency={}, variants={"main": ("m",)})))
    assert "0, 1 restart " in text
    assert "1 window of 1 min, 1 life of the runner" in text
    channels["main/restarts"] += 1
    text = describe(glance(a_table(**one, channels=channels, latency={}, variants={"main": ("m",)})))
    assert "0, 2 restarts " in text


def test_a_gap_lowers_its_coverage():
    table = a_table()
    later = table.start_s + np.where(np.arange(600) >= 300, HOUR, 0.0)
    seen = glance(replace(table, start_s=later, end_s=later + 60))
    assert seen.coverage_ratio == pytest.approx(10 / 11)
    assert glance(table, whole=False).coverage_ratio is None


def test_one_that_ended_early_covers_little_of_what_was_asked_for():
    table = a_table()
    asked_s = glance(table).duration_s
    assert glance(table).coverage_ratio == 1.0
    ended = a_table(ended="aborted: rss_ratio > 0.85")
    assert glance(ended).coverage_ratio == pytest.approx(float(ended.end_s[-1]) / asked_s)
    assert glance(ended).coverage_ratio < 0.9


def test_one_screen_says_what_a_user_asks():
    text = describe(glance())
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 130
    assert lines[0] == "20250101-000000-abcd  running  digits on rpi4"
    assert "10.0 of 72 h, 14%, coverage 100%, 62 h left" in lines[1]
    assert "3600" in text
    assert "2 timeout" in text
    assert "2.01 ms → 4.01 ms" in text  # of buckets 1/64 wide
    assert "+100 kB/h" in text
    assert "cpu-thermal 52.5 °C (highest 61.0), not throttled" in text
    assert "the last 5 of 7" in text
    assert "7 h  link_back  after 7 min" in text
    assert "lab@desk 41, 12 s ago" in text
    assert "it is being collected" in text
    assert table_row(glance(), Heard(12.0))[5] == "10.0 of 72 h (14%)"


@pytest.mark.parametrize(
    ("contact", "ended", "stored", "words"),
    [
        (
            Contact(7200.0, 7200.0, RUNNING, "rpi4: could not connect."),
            None,
            "",
            ["OUT OF REACH", "known 2 h ago"],
        ),
        (
            Contact(None, None, {}, "rpi4: could not connect."),
            None,
            "",
            ["has never seen it", "check its power"],
        ),
        (
            Contact(0.0, None, {**RUNNING, "state": "dead"}),
            None,
            "",
            ["RUNNER GONE", "starts its runner again"],
        ),
        (
            Contact(0.0, None, {**RUNNING, "state": "ended"}),
            "duration",
            "",
            ["it ended (duration)", "soak attach"],
        ),
        (Contact(0.0, None, RUNNING, "gone"), "duration", "reports/s1", ["ended", "stored in reports/s1"]),
        (
            Contact(0.0, None, {"state": "running"}),
            None,
            "",
            ["nobody has collected", "until `harness soak attach"],
        ),
    ],
)
def test_every_state_says_what_happens_next(contact, ended, stored, words):
    text = describe(glance(a_table(ended=ended), contact, stored=stored))
    assert [word for word in words if word not in text] == []


def test_what_is_stored_without_a_claim_known_was_collected():
    seen = glance(a_table(ended="duration"), Contact(0.0, None, {}), stored="reports/s1")
    assert "nobody has collected" not in describe(seen)


def test_a_collector_of_this_host_that_has_ended_is_told():
    dead = f"{getpass.getuser()}@{socket.gethostname()} pid 999999999"
    status = {**RUNNING, "collector": {"holder": dead, "seen_age_ns": int(12e9)}}
    text = describe(glance(contact=Contact(0.0, None, status)))
    assert "12 s ago; it has ended" in text
    assert "nobody collects" in text


def test_nothing_observed_yet_is_no_error():
    empty = np.empty(0)
    table = a_table(
        start_s=empty, end_s=empty, life=empty.astype(np.int32), merged=empty.astype(np.int32), channels={},
        latency={}, variants={}, events=(), lives=(), last_seq=0, first_seq=0,
    )  # fmt: skip
    seen = glance(table, Contact(1.0, None, {"state": "running", "t_ns": 0}))
    assert seen.coverage_ratio is None
    text = describe(seen)
    assert "too early to say" in text
    assert "0 of 72 h, 0%" in text
