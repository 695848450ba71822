"""Calls on a schedule, on a clock that the test moves: waits, late calls, overload, what is refused."""

from __future__ import annotations

import time
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent import paced, timing
from harness.agent.args import Args
from harness.agent.faults import Fault
from harness.agent.wire import Tensor, pack_tensors

SPIN_NS = 100


class Clock:
    """Reading it takes 1 ns, a call what `costs` says, a sleep a little longer than asked."""

    def __init__(self, costs: list[int]) -> None:
        self.now = 0
        self.costs = iter(costs)
        self.slept_ns = 0

    def read(self) -> int:
        self.now += 1
        return self.now

    def sleep(self, duration_s: float) -> None:
        self.now += round(duration_s * 1e9) + 60  # a late wake-up, within the busy loop's share
        self.slept_ns += round(duration_s * 1e9)

    def call(self) -> None:
        self.now += next(self.costs)


def play(
    monkeypatch: pytest.MonkeyPatch, offsets: list[int], costs: list[int], max_behind_ns: int = paced.NEVER_NS
) -> tuple[int, list[int], list[int], Clock]:
    clock = Clock(costs)
    monkeypatch.setattr(timing, "_now_ns", clock.read)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    start, end = timing.zeros(len(offsets)), timing.zeros(len(offsets))
    got = paced.paced_calls(None, clock.call, array("q", offsets), 0, start, end, SPIN_NS, max_behind_ns)
    return got, list(start), list(end), clock


def test_calls_begin_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = [1000, 2000, 3000]
    got, start, end, clock = play(monkeypatch, offsets, [50, 50, 50])
    assert got == 3
    assert [s - due for s, due in zip(start, offsets, strict=True)] == [0, 0, 0]
    assert [e - s for s, e in zip(start, end, strict=True)] == [51, 51, 51]
    assert clock.slept_ns > 2000  # most of the waits cost no CPU time


def test_a_slow_call_shows_in_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    got, start, end, _ = play(monkeypatch, [1000, 2000, 3000, 9000], [3500, 100, 100, 100])
    assert got == 4
    assert start[1] > end[0] > 4000  # at once, not when the next slot comes
    assert start[2] > end[1]
    assert start[3] == 9000  # and the queue is empty again
    assert [e - due for e, due in zip(end, [1000, 2000, 3000, 9000], strict=True)] == sorted(
        [end[0] - 1000, end[1] - 2000, end[2] - 3000, end[3] - 9000], reverse=True
    )


def test_it_ends_when_it_falls_too_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    got, start, _, _ = play(monkeypatch, list(range(0, 10_000, 100)), [300] * 100, max_behind_ns=1000)
    assert 4 <= got <= 7
    assert start[got] == 0


@given(
    gaps=st.lists(st.integers(0, 2000), min_size=1, max_size=30),
    costs=st.lists(st.integers(0, 3000), min_size=30, max_size=30),
)
def test_first_in_first_out_and_none_early(gaps: list[int], costs: list[int]) -> None:
    offsets = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    with pytest.MonkeyPatch.context() as patch:
        got, start, end, _ = play(patch, offsets, costs)
    assert got == len(offsets)
    for i, due in enumerate(offsets):
        ready = max(due, end[i - 1]) if i else due
        assert ready <= start[i] <= ready + SPIN_NS + 4  # idle only while nothing is due
        assert end[i] >= start[i]


def request(name: str, dtype: str, values: Any, shape: tuple[int, ...] | None = None) -> tuple[Any, bytes]:
    data = array({"int64": "q", "int32": "i"}[dtype], values)
    return pack_tensors([Tensor(name, dtype, shape or (len(values),), data.tobytes())])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (request("offset_ns", "int32", [1, 2]), "expected `offset_ns` int64"),
        (request("offset", "int64", [1, 2]), "expected `offset_ns` int64"),
        (request("offset_ns", "int64", [1, 2], (1, 2)), "expected `offset_ns` int64"),
        (request("offset_ns", "int64", [2, 1]), "must ascend"),
        (request("offset_ns", "int64", [-1, 1]), "must ascend from 0"),
        (request("offset_ns", "int64", [0, 1 << 60]), "must ascend"),
        (request("offset_ns", "int64", []), "holds 0 times"),
        (([{"name": "offset_ns"}], b""), "paced: array entry"),
    ],
)
def test_a_schedule_that_makes_no_sense(entries: tuple[Any, bytes], message: str) -> None:
    with pytest.raises(Fault, match=message) as caught:
        paced.paced(None, Args("paced", {"arrays": entries[0]}), entries[1])  # type: ignore[arg-type]
    assert caught.value.kind == "bad_request"
