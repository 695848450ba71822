"""Slices inside a child, on a clock that the test moves; and that many of them keep no memory."""

from __future__ import annotations

import gc
import os
import signal
import tracemalloc
from typing import Any

import pytest

from harness.agent.faults import Fault
from harness.agent.soak.calls import MAX_ERROR_PAUSE_NS, Caller, Stop
from harness.agent.soak.cycles import parse_cycle
from harness.agent.soak.tally import MAX_ERROR_KINDS, OTHER, Tally

MS = 10**6
S = 10**9


class Clock:
    """Stands in for the clock and for `Stop`."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.told = False
        self.waits: list[int] = []

    def read(self) -> int:
        return self.now_ns

    def wait(self, duration_ns: int) -> None:
        self.waits.append(duration_ns)
        self.now_ns += duration_ns


def caller(clock: Clock, cycle: dict[str, Any], call: Any) -> Caller:
    stop: Any = clock
    return Caller(call, parse_cycle(cycle, "x"), 0, clock.read, stop)


def costs(clock: Clock, duration_ns: int) -> Any:
    def call() -> int:
        clock.now_ns += duration_ns
        return duration_ns

    return call


EVERY = {"kind": "every", "period_ns": 10 * MS}


def test_a_slice_ends_when_nothing_more_is_due_before_its_end() -> None:
    clock = Clock()
    it = caller(clock, EVERY, costs(clock, 2 * MS))
    got = it.slice(100 * MS)
    assert (got["calls"], got["late"], got["max_late_ns"]) == (9, 0, 0)
    assert clock.now_ns == 92 * MS  # not at 100: the next slice's call is due then
    assert got["served_ns"] == 100 * MS - 1
    assert got["busy_ns"] == 18 * MS
    assert it.slice(200 * MS)["calls"] == 10


def test_late_calls_are_counted_and_none_is_left_out() -> None:
    clock = Clock()
    slow = iter([35 * MS] + [1 * MS] * 100)
    it = caller(clock, EVERY, lambda: costs(clock, next(slow))())
    got = it.slice(100 * MS)
    assert got["calls"] == 9
    assert got["late"] == 3  # due at 20, 30, 40; began at 45, 46, 47
    assert got["max_late_ns"] == 25 * MS


def test_behind_its_end_a_slice_leaves_the_rest_to_the_next() -> None:
    clock = Clock()
    it = caller(clock, EVERY, costs(clock, 25 * MS))
    first = it.slice(100 * MS)
    assert (first["calls"], first["served_ns"]) == (4, 40 * MS)
    second = it.slice(105 * MS)  # in the past already: at least one call
    assert second["calls"] == 1
    assert second["late"] == 1
    assert it.slice(200 * MS)["calls"] == 3


def test_a_closed_loop_ends_with_the_call_that_passes_the_end() -> None:
    clock = Clock()
    got = caller(clock, {"kind": "closed"}, costs(clock, 30 * MS)).slice(100 * MS)
    assert (got["calls"], clock.now_ns) == (4, 120 * MS)
    assert (got["late"], got["max_late_ns"]) == (0, None)


def test_a_closed_loop_of_failures_does_not_spin() -> None:
    clock = Clock()

    def fail() -> int:
        raise RuntimeError("out of luck\nmore")

    got = caller(clock, {"kind": "closed"}, fail).slice(60 * S)
    assert got["errors"] == {"RuntimeError": got["calls"]}
    assert got["calls"] < 80
    assert max(clock.waits) == MAX_ERROR_PAUSE_NS
    assert got["error_text"] == "RuntimeError: out of luck"
    assert (got["sum_ns"], got["min_ns"], got["h"]) == (0, None, [])


def test_failures_are_counted_by_kind_and_the_rest_goes_on() -> None:
    clock = Clock()
    kinds = iter([None, ValueError("a"), None, Fault("model_rejected", "b"), MemoryError(), None])

    def call() -> int:
        kind = next(kinds, None)
        if kind is not None:
            raise kind
        return 5

    got = caller(clock, EVERY, call).slice(100 * MS)
    assert got["calls"] == 9
    assert got["errors"] == {"ValueError": 1, "model_rejected": 1, "MemoryError": 1}
    assert got["h"] == [[5, 6]]


def test_the_end_of_a_command_is_no_error_of_a_call() -> None:
    clock = Clock()

    def call() -> int:
        raise Fault("child_died", "the command died of signal 11", signal=11)

    with pytest.raises(Fault, match="signal 11"):
        caller(clock, EVERY, call).slice(100 * MS)


def test_told_to_stop_it_answers_at_once() -> None:
    clock = Clock()
    it = caller(clock, EVERY, costs(clock, MS))
    clock.told = True
    assert it.slice(100 * MS)["calls"] == 0
    assert clock.now_ns == 0


def test_the_signal_ends_a_wait() -> None:
    stop = Stop()
    try:
        assert not stop.told
        os.kill(os.getpid(), signal.SIGUSR1)  # before the wait, as it may come
        stop.wait(3600 * S)
        assert stop.told
        stop.wait(3600 * S)  # and every one that follows
    finally:
        stop.close()


def test_the_signal_ends_a_wait_that_has_begun() -> None:
    stop = Stop()
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        stop.wait(3600 * S)
        assert stop.told
    finally:
        signal.signal(signal.SIGALRM, before)
        stop.close()


def test_a_hundred_thousand_calls_keep_no_memory() -> None:
    clock = Clock()
    sizes = iter(range(10**9))

    def call() -> int:
        clock.now_ns += 10_000
        return 1000 + next(sizes) * 7919 % 10**7

    it = caller(clock, {"kind": "closed"}, call)

    def calls(count: int) -> int:
        done = 0
        while done < count:
            done += it.slice(clock.now_ns + 50 * MS)["calls"]
        return done

    calls(10_000)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert calls(100_000) >= 100_000
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4096


def test_kinds_of_errors_stay_few() -> None:
    tally = Tally()
    for i in range(1000):
        tally.failed(f"kind{i}")
    assert len(tally.errors) == MAX_ERROR_KINDS + 1
    assert tally.errors[OTHER] == 1000 - MAX_ERROR_KINDS
    merged = Tally()
    merged.merge(tally.to_args())
    merged.merge(tally.to_args())
    assert merged.calls == 2000 == sum(merged.errors.values())


def test_merged_counts_are_those_of_all_calls() -> None:
    whole, parts = Tally(), [Tally(), Tally()]
    for i, value in enumerate([5, 900, 70, 123456, 5]):
        whole.succeeded(value)
        parts[i % 2].succeeded(value)
        whole.began(value, 100)
        parts[i % 2].began(value, 100)
    merged = Tally()
    for part in parts:
        merged.merge(part.to_args())
    merged.merge(Tally().to_args())
    assert merged.to_args() == whole.to_args()
