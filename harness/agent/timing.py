"""The timed region: the call and two clock reads into preallocated arrays. Nothing else happens inside.

Warm-up runs in blocks until the medians of two successive blocks differ by less than 2%, within a cap.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import time
from array import array
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Tuple

from .instructions import Counter

Invoke = Callable[[], Any]
NextCall = Callable[[], Invoke]  # makes the next call ready, outside the timed region

FLAT_RATIO = 0.02
BLOCK_NS = 5000000  # chosen: a block spans several scheduler ticks, so that one preemption is no median
BLOCK_CALLS = 4  # at least, where the cap allows: the median of one call is noise
MIN_ITERATIONS = 2
MAX_ITERATIONS = 4000000  # two arrays of 8 bytes each: 64 MB
NEVER_NS = 1 << 62
# CLOCK_MONOTONIC through clock_gettime (time.get_clock_info("monotonic"))
CLOCK = "CLOCK_MONOTONIC"
_now_ns = time.monotonic_ns


class Plan(NamedTuple):
    """What `measure` was asked for. `warmup_max` counts iterations; durations are in device ns.

    An iteration is a query of `calls_per_query` calls, timed as one.
    """

    iterations: int
    warmup_max: int
    min_duration_ns: int
    max_duration_ns: int
    calls_per_query: int = 1


def timed_calls(
    next_call: Optional[NextCall],
    invoke: Invoke,
    latency: "array[int]",
    start: "array[int]",
    first: int,
    last: int,
    stop_ns: int,
) -> int:
    """Fill [first, last) of both arrays, one call each; return where it stopped.

    It stops early once the clock passes `stop_ns`, but never before MIN_ITERATIONS calls.
    """
    now_ns = _now_ns
    at_least = first + MIN_ITERATIONS - 1
    for i in range(first, last):
        if next_call is not None:
            invoke = next_call()
        begin = now_ns()
        invoke()
        end = now_ns()
        latency[i] = end - begin
        start[i] = begin
        if end >= stop_ns and i >= at_least:
            return i + 1
    return last


def zeros(count: int) -> "array[int]":
    """Return an int64 array of zeros, its pages touched."""
    return array("q", bytes(8 * count))


def median(values: "array[int]") -> int:
    """Return the middle value (the upper of two)."""
    return sorted(values)[len(values) // 2]


class Warmup(NamedTuple):
    iterations: int
    flat: bool
    last_median_ns: int  # 0 without any warm-up

    def report(self) -> Dict[str, Any]:
        """Return what an answer says of it."""
        return {"warmup_iterations": self.iterations, "warmup_flat": self.flat}


def warm_up(next_call: Optional[NextCall], invoke: Invoke, cap: int, stop_ns: int) -> Warmup:
    """Run until block medians are flat, `cap` calls are done or `stop_ns` has passed.

    A block is 5 ms of calls and at least four, but never more than a quarter of the cap.
    """
    if cap < 1:
        return Warmup(0, False, 0)
    probe, stamps = zeros(1), zeros(1)
    timed_calls(next_call, invoke, probe, stamps, 0, 1, 0)
    block = max(1, min(cap // 4, max(BLOCK_CALLS, BLOCK_NS // max(1, probe[0]) + 1), 1000))
    done, before = 1, 0
    latency, stamps = zeros(block), zeros(block)
    while done + block <= cap:
        timed_calls(next_call, invoke, latency, stamps, 0, block, NEVER_NS)
        done += block
        now = median(latency)
        if before and abs(now - before) < FLAT_RATIO * before:
            return Warmup(done, True, now)
        before = now
        if _now_ns() >= stop_ns:
            break
    return Warmup(done, False, before or probe[0])


class Timed(NamedTuple):
    """Samples in the order they were taken, warm-up excluded, and what else was seen meanwhile."""

    latency_ns: "array[int]"
    start_ns: "array[int]"
    report: Dict[str, Any]


@contextlib.contextmanager
def quiet_heap() -> Iterator[None]:
    """Keep garbage collection off inside the block, and what lives already out of its sight."""
    gc.collect()
    gc.freeze()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


class Window:
    """What clocks and the process went through while samples were taken. Opened when it is made."""

    def __init__(self) -> None:
        self._usage, self._clocks = resource.getrusage(resource.RUSAGE_SELF), clock_triplet()
        self._begin = _now_ns()

    def close(self) -> Dict[str, Any]:
        """Return what an answer says of it."""
        elapsed_ns = _now_ns() - self._begin
        clocks, usage = clock_triplet(), resource.getrusage(resource.RUSAGE_SELF)
        return {
            "clock": CLOCK,
            "clock_check": compare_clocks(self._clocks, clocks),
            "gc_enabled": False,
            "elapsed_ns": elapsed_ns,
            "usage": compare_usage(self._usage, usage),
        }


def queries(next_call: Optional[NextCall], invoke: Invoke, calls: int) -> Tuple[Optional[NextCall], Invoke]:
    """Return the like of `next_call` and `invoke` for queries of `calls` calls.

    All calls of a query are made ready before its first one, outside the timed region. A runtime that holds
    one input at a time then runs the last one made ready, as often.
    """
    if calls == 1:
        return next_call, invoke
    ready = [invoke] * calls

    def query() -> None:
        for call in ready:
            call()

    if next_call is None:
        return None, query
    following = next_call

    def next_query() -> Invoke:
        for i in range(calls):
            ready[i] = following()
        return query

    return next_query, query


def measure(
    next_call: Optional[NextCall], invoke: Invoke, plan: Plan, counter: Optional[Counter] = None
) -> Timed:
    """Warm up, then time. Garbage collection is off throughout and what lives already is frozen.

    `counter` is read before the first and after the last timed call.
    """
    counter = counter or Counter(-1, "nobody asked for a count")
    next_call, invoke = queries(next_call, invoke, plan.calls_per_query)
    with quiet_heap():
        warmup = warm_up(next_call, invoke, plan.warmup_max, _now_ns() + plan.max_duration_ns)
        capacity = max(plan.iterations, MIN_ITERATIONS)
        if plan.min_duration_ns:
            # room for calls a third faster than warm-up's, so that the array never grows
            likely = 3 * plan.min_duration_ns // max(1, 2 * warmup.last_median_ns) + 1
            capacity = max(capacity, min(likely, MAX_ITERATIONS))
        latency, start = zeros(capacity), zeros(capacity)
        window = Window()
        before = counter.read()
        begin = _now_ns()
        stop_ns = begin + plan.max_duration_ns
        got = timed_calls(next_call, invoke, latency, start, 0, max(plan.iterations, MIN_ITERATIONS), stop_ns)
        enough_ns = min(begin + plan.min_duration_ns, stop_ns)
        if got < capacity and _now_ns() < enough_ns:
            got = _until(next_call, invoke, latency, start, got, capacity, enough_ns)
        after = counter.read()
        report = window.close()
    instructions = counter.between(before, after)
    report.update(warmup.report())
    report.update(
        iterations_requested=plan.iterations,
        iterations_got=got,
        ended_by=_ended_by(got, plan, report["elapsed_ns"]),
        instructions=instructions,
        not_counted=counter.reason if instructions is None else None,
    )
    return Timed(latency[:got], start[:got], report)


def _until(
    next_call: Optional[NextCall],
    invoke: Invoke,
    latency: "array[int]",
    start: "array[int]",
    first: int,
    last: int,
    enough_ns: int,
) -> int:
    """Go on from `first` until the clock passes `enough_ns` or the arrays are full."""
    got = first
    while got < last and _now_ns() < enough_ns:
        got = timed_calls(next_call, invoke, latency, start, got, last, enough_ns)
    return got


def _ended_by(got: int, plan: Plan, elapsed_ns: int) -> str:
    if got < plan.iterations:
        return "max_duration"
    return "iterations" if elapsed_ns >= plan.min_duration_ns else "capacity"


def clock_triplet() -> Tuple[int, int, int]:
    """Return CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW and CLOCK_REALTIME in ns, read one after the other."""
    return time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), time.time_ns()


def compare_clocks(before: Any, after: Any) -> Dict[str, int]:
    """Return how far each clock went, in ns. RAW off MONOTONIC: NTP slews; REALTIME off it: a step."""
    names = ("monotonic_ns", "raw_ns", "realtime_ns")
    return {name: after[i] - before[i] for i, name in enumerate(names)}


def compare_usage(before: Any, after: Any) -> Dict[str, int]:
    """Return what the process used meanwhile (getrusage(2))."""
    return {
        "cpu_ns": int((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e9),
        "voluntary_switches": after.ru_nvcsw - before.ru_nvcsw,
        "involuntary_switches": after.ru_nivcsw - before.ru_nivcsw,
        "minor_faults": after.ru_minflt - before.ru_minflt,
        "major_faults": after.ru_majflt - before.ru_majflt,
    }
