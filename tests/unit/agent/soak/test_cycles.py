"""When calls are due: the same times however often one asks, none lost, none twice."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.faults import Fault
from harness.agent.soak.cycles import Schedule, parse_cycle

S = 10**9
CYCLES: dict[str, dict[str, Any]] = {
    "every": {"kind": "every", "period_ns": 70},
    "poisson": {"kind": "poisson", "rate_per_s": 1e6, "seed": 5},
    "trace": {"kind": "trace", "offsets_ns": [0, 3, 3, 20], "repeat_ns": 50},
    "once": {"kind": "trace", "offsets_ns": [5, 90, 1200]},
}


def until(schedule: Schedule, after_ns: int, last_ns: int) -> list[int]:
    return list(itertools.takewhile(lambda due: due <= last_ns, schedule.due_after(after_ns)))


def test_every() -> None:
    assert until(parse_cycle(CYCLES["every"], "x"), 70, 300) == [140, 210, 280]


def test_a_trace_begins_again() -> None:
    schedule = parse_cycle(CYCLES["trace"], "x")
    assert until(schedule, -1, 103) == [0, 3, 3, 20, 50, 53, 53, 70, 100, 103, 103]
    assert until(schedule, 53, 70) == [70]


def test_a_trace_without_repeat_ends() -> None:
    assert list(parse_cycle(CYCLES["once"], "x").due_after(5)) == [90, 1200]


def test_a_schedule_is_what_it_can_do_and_no_base_that_fails_when_it_runs() -> None:
    with pytest.raises(TypeError):
        Schedule()  # type: ignore[misc]
    closed: dict[str, Any] = {"kind": "closed"}
    made = [parse_cycle(cycle, "x") for cycle in (closed, *CYCLES.values())]
    assert [schedule.is_open for schedule in made] == [False, True, True, True, True]
    assert not any(Schedule in type(schedule).__mro__ for schedule in made)


def test_a_closed_loop_has_no_due_times() -> None:
    schedule = parse_cycle({"kind": "closed"}, "x")
    assert not schedule.is_open
    assert schedule.count(0, 10**15) == 0


@pytest.mark.parametrize("name", CYCLES)
@given(cuts=st.lists(st.integers(0, 100_000), min_size=1, max_size=8), start=st.integers(-1, 200_000))
def test_cut_anywhere_the_times_stay_the_same(name: str, cuts: list[int], start: int) -> None:
    last = start + sum(cuts)
    whole = until(parse_cycle(CYCLES[name], "x"), start, last)
    pieces = []
    at = start
    for cut in cuts:
        schedule = parse_cycle(CYCLES[name], "x")  # as after a restart
        piece = until(schedule, at, at + cut)
        assert schedule.count(at, at + cut) == len(piece)
        pieces += piece
        at += cut
    assert pieces == whole
    assert whole == sorted(whole)


def test_poisson_arrivals_have_their_rate_and_no_memory() -> None:
    schedule = parse_cycle({"kind": "poisson", "rate_per_s": 50.0, "seed": 1}, "x")
    due = until(schedule, -1, 200 * S)
    assert abs(len(due) - 10_000) < 4 * 100  # four standard deviations of a Poisson count
    gaps = [b - a for a, b in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(20e6, rel=0.04)
    # of exponential gaps the share longer than the mean is 1/e, and sd equals the mean
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(1 / math.e, abs=0.02)
    sd = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert sd == pytest.approx(mean, rel=0.05)
    assert parse_cycle({"kind": "poisson", "rate_per_s": 50.0, "seed": 2}, "x").count(-1, S) != 0


def test_a_far_time_is_found_at_once() -> None:
    far = 72 * 3600 * S
    schedule = parse_cycle({"kind": "poisson", "rate_per_s": 100.0, "seed": 1}, "x")
    assert far < next(schedule.due_after(far)) < far + S


@pytest.mark.parametrize(
    ("cycle", "message"),
    [
        ({"kind": "sometimes"}, "valid: closed, every, poisson, trace"),
        ({"kind": "closed", "period_ns": 1}, "`period_ns` is unknown"),
        ({"kind": "every", "period_ns": 0}, "period_ns"),
        ({"kind": "poisson", "rate_per_s": 0, "seed": 1}, "rate_per_s"),
        ({"kind": "trace", "offsets_ns": []}, "ascend"),
        ({"kind": "trace", "offsets_ns": [5, 3]}, "ascend"),
        ({"kind": "trace", "offsets_ns": [5, 9], "repeat_ns": 9}, "more than the last of `offsets_ns`, 9"),
    ],
)
def test_a_cycle_that_makes_no_sense(cycle: dict[str, Any], message: str) -> None:
    with pytest.raises(Fault, match=message):
        parse_cycle(cycle, "stream `x`")
