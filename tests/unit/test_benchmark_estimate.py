"""The item `estimate`: its rows, their goals, and that the docs hold the tables that it would write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.errors import DeviceError

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks/ is run from here, not installed

from benchmarks import estimate, estimate_collect
from benchmarks.results import DOCS


def test_every_setting_has_its_rows_and_every_goal_is_met():
    rows = estimate.run(quick=True)
    assert len(rows) == 3 * len(list(estimate.settings()))
    with_goals = [row for row in rows if row.goal is not None]
    assert len(with_goals) == len(estimate.GOALS) + 1 + 2  # means, one worst, two coverages
    assert all(row.passed for row in with_goals)


def test_three_terms_leave_less_error_than_one_factor():
    for row in estimate.run(quick=True):
        if row.peer is not None:
            assert row.ours < row.peer, row.what


def test_the_docs_hold_these_tables():
    text = DOCS.read_text(encoding="utf-8")
    _, _, inside = text.partition(estimate.BEGIN)
    assert estimate.render_fits() in inside  # the first table takes ten seconds: it chooses terms anew
    assert estimate.render_networks() in inside
    assert estimate.render_sizes() in inside
    assert estimate.END in inside


class GuestOfTimes:
    """A board whose network takes the given virtual milliseconds, run after run."""

    def __init__(self, times_ms):
        self.times_ms = list(times_ms)

    def run(self, *words, timeout_s):
        now = self.times_ms.pop(0)
        return json.dumps({"times_ns": [int(ms * 1e6) for ms in (now + 2, now, now, now)]})


def a_network():
    found, *_ = next(iter(estimate.settings()))
    return found.networks[0]


def test_a_board_that_has_just_booted_is_given_time():
    guest = GuestOfTimes([16.8, 16.79, 15.7, 15.39, 15.38, 15.37, 99.0])
    estimate_collect._settle(guest, a_network())
    assert guest.times_ms == [99.0]


def test_a_board_that_never_settles_is_an_error():
    with pytest.raises(DeviceError, match="another time in each"):
        estimate_collect._settle(GuestOfTimes(range(10, 40)), a_network())


class GuestThatCounts(GuestOfTimes):
    """Writes what the plugin would: a window for each count, of so many passes of one block."""

    def __init__(self, times_ms, path, passes):
        super().__init__(times_ms)
        self.path, self.passes = path, iter(passes)
        path.write_text("H 1 2\n")

    def run(self, *words, timeout_s):
        with open(self.path, "a", encoding="ascii") as file:
            for passes in next(self.passes):
                file.write(f"W 0\nB 0 1000 d503201fd503201f\nC 0 {passes}{' 0' * 15}\nE\n")
        return super().run(*words, timeout_s=timeout_s)


def test_a_network_is_counted_until_two_counts_agree(tmp_path):
    path = tmp_path / "counts.txt"
    guest = GuestThatCounts([15.0, 14.0, 1.0], path, [(900, 500, 700), (800, 501, 600), ()])
    counted = estimate_collect._count(guest, a_network(), path, "cortex-a72")
    assert counted.features.instructions == 1000
    assert counted.virtual_ms == 14.0
    assert guest.times_ms == [1.0]


def test_a_network_whose_counts_never_agree_is_an_error(tmp_path):
    path = tmp_path / "counts.txt"
    guest = GuestThatCounts([15.0] * 9, path, [(2**n,) for n in range(9)])
    with pytest.raises(DeviceError, match=r"no two counts agree: 2e-06, 4e-06"):
        estimate_collect._count(guest, a_network(), path, "cortex-a72")
