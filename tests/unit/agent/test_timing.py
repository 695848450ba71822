"""Timing: warm-up, early ends and counts, on a clock that the test moves."""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterator

import pytest

from harness.agent import external, timing
from harness.agent.instructions import Counter, Reading


class FakeClock:
    """Each call of `model` takes what `costs` gives next; reading the clock takes nothing."""

    def __init__(self, costs: Iterator[int]) -> None:
        self.now = 1_000
        self.costs = costs
        self.calls = 0

    def read(self) -> int:
        return self.now

    def model(self) -> None:
        self.calls += 1
        self.now += next(self.costs)


def settle(slow: int, slow_ns: int, fast_ns: int) -> Iterator[int]:
    yield from [slow_ns] * slow
    while True:
        yield fast_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock(settle(0, 0, 1_000_000))
    monkeypatch.setattr(timing, "_now_ns", fake.read)
    return fake


def plan(iterations: int = 10, warmup_max: int = 0, minimum: int = 0, maximum: int = 10**12) -> timing.Plan:
    return timing.Plan(iterations, warmup_max, minimum, maximum)


def test_samples_are_the_calls_alone(clock: FakeClock) -> None:
    clock.costs = iter(range(100, 200))
    timed = timing.measure(None, clock.model, plan(5))
    assert list(timed.latency_ns) == [100, 101, 102, 103, 104]
    assert list(timed.start_ns) == [1000, 1100, 1201, 1303, 1406]
    assert timed.report["iterations_got"] == 5
    assert timed.report["ended_by"] == "iterations"
    assert clock.calls == 5


def test_making_the_next_call_ready_is_not_timed(clock: FakeClock) -> None:
    def next_call() -> timing.Invoke:
        clock.now += 77
        return clock.model

    timed = timing.measure(next_call, clock.model, plan(4))
    assert set(timed.latency_ns) == {1_000_000}


def test_warm_up_ends_when_medians_are_flat(clock: FakeClock) -> None:
    clock.costs = (max(1_000_000, int(9_000_000 * 0.8**n)) for n in range(100))
    warmup = timing.warm_up(None, clock.model, 80, 1 << 62)
    assert warmup.flat
    assert 10 < warmup.iterations < 80
    assert warmup.last_median_ns == 1_000_000


def test_warm_up_that_never_settles_says_so(clock: FakeClock) -> None:
    clock.costs = (1_000_000 * 2**n for n in range(60))
    warmup = timing.warm_up(None, clock.model, 20, 1 << 62)
    assert not warmup.flat
    assert clock.calls == warmup.iterations <= 20


def test_warm_up_keeps_to_its_time(clock: FakeClock) -> None:
    clock.costs = (1_000_000 * 2**n for n in range(60))
    warmup = timing.warm_up(None, clock.model, 50, clock.now + 50_000_000)
    assert clock.calls < 10
    assert not warmup.flat


@pytest.mark.parametrize(("cap", "most"), [(0, 0), (1, 1), (2, 2), (4, 4), (7, 7)])
def test_warm_up_never_passes_its_cap(clock: FakeClock, cap: int, most: int) -> None:
    assert timing.warm_up(None, clock.model, cap, 1 << 62).iterations <= most
    assert clock.calls <= most


def test_a_long_call_ends_early_but_not_before_two(clock: FakeClock) -> None:
    clock.costs = settle(0, 0, 10**9)
    timed = timing.measure(None, clock.model, plan(100, maximum=10**9 // 2))
    assert len(timed.latency_ns) == len(timed.start_ns) == 2
    assert timed.report["ended_by"] == "max_duration"
    assert timed.report["iterations_got"] == 2
    assert timed.report["iterations_requested"] == 100


def test_it_ends_after_the_call_that_passes_the_maximum(clock: FakeClock) -> None:
    timed = timing.measure(None, clock.model, plan(100, maximum=7_500_000))
    assert len(timed.latency_ns) == 8


def test_a_minimum_duration_adds_calls(clock: FakeClock) -> None:
    timed = timing.measure(None, clock.model, plan(5, warmup_max=40, minimum=50_000_000))
    assert len(timed.latency_ns) == 50
    assert timed.report["ended_by"] == "iterations"


def test_a_minimum_never_passes_the_maximum(clock: FakeClock) -> None:
    timed = timing.measure(None, clock.model, plan(5, 40, minimum=50_000_000, maximum=20_000_000))
    assert len(timed.latency_ns) <= 21


def test_full_arrays_say_so(clock: FakeClock) -> None:
    """Calls that get much faster than warm-up foretold fill the arrays before the time is up."""
    clock.costs = settle(9, 5_000_000, 1_000)
    timed = timing.measure(None, clock.model, plan(5, warmup_max=20, minimum=50_000_000))
    assert timed.report["ended_by"] == "capacity"
    assert len(timed.latency_ns) >= 5


def test_garbage_collection_is_off_and_comes_back() -> None:
    seen = []
    timing.measure(None, lambda: seen.append((gc.isenabled(), gc.get_freeze_count() > 0)), plan(2))
    assert seen == [(False, True), (False, True)]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_garbage_collection_comes_back_after_a_failure() -> None:
    def fail() -> None:
        raise RuntimeError("model broke")

    with pytest.raises(RuntimeError):
        timing.measure(None, fail, plan(2))
    assert gc.isenabled()


def test_real_clocks_agree() -> None:
    checks = [timing.measure(None, lambda: None, plan(100)).report["clock_check"] for _ in range(20)]
    assert all(check["monotonic_ns"] > 0 for check in checks)
    # a busy host may take the CPU away between two clocks, but not each time
    apart = [abs(check["raw_ns"] - check["monotonic_ns"]) - 0.01 * check["monotonic_ns"] for check in checks]
    assert min(apart) < 100_000


def test_median_is_the_upper_of_two() -> None:
    assert timing.median(array("q", [4, 1, 3, 2])) == 3
    assert timing.median(array("q", [9])) == 9


class SelfTimed:
    """A command that times itself."""

    clock = "a clock of its own"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def timed_run(self, count: int) -> list[int]:
        self.asked.append(count)
        return [500] * count


def test_a_command_gives_its_own_samples() -> None:
    session = SelfTimed()
    timed = external.measure(session, plan(100, warmup_max=40))
    assert list(timed.latency_ns) == [500] * 100
    assert list(timed.start_ns) == []
    assert timed.report["clock"] == "a clock of its own"
    assert timed.report["warmup_flat"] is True
    assert timed.report["warmup_iterations"] == 20
    assert sum(session.asked) == 120


def test_a_query_is_timed_as_one(clock: FakeClock) -> None:
    clock.costs = iter(range(100, 200))
    timed = timing.measure(None, clock.model, plan(3)._replace(calls_per_query=4))
    assert list(timed.latency_ns) == [100 + 101 + 102 + 103, 4 * 105 + 2, 4 * 109 + 2]
    assert clock.calls == 12


def test_all_calls_of_a_query_are_made_ready_before_it(clock: FakeClock) -> None:
    fed: list[int] = []
    made = iter(range(100))

    def next_call() -> timing.Invoke:
        clock.now += 77
        number = next(made)
        return lambda: (fed.append(number), clock.model())

    timed = timing.measure(next_call, clock.model, plan(2)._replace(calls_per_query=3))
    assert list(timed.latency_ns) == [3_000_000, 3_000_000]
    assert fed == [0, 1, 2, 3, 4, 5]


def test_one_call_is_no_query(clock: FakeClock) -> None:
    assert timing.queries(None, clock.model, 1) == (None, clock.model)


class Counted(Counter):
    """Counts 10 instructions a clock reading's worth of work, as the fake clock goes."""

    def __init__(self, clock: FakeClock, running: int = 1) -> None:
        super().__init__(-1)
        self.clock = clock
        self.running = running

    def read(self) -> Reading:
        return Reading(10 * self.clock.now, self.clock.now, self.running * self.clock.now)


def test_instructions_are_those_of_the_timed_calls(clock: FakeClock) -> None:
    timed = timing.measure(None, clock.model, plan(5, warmup_max=20), Counted(clock))
    assert timed.report["instructions"] == 10 * 5_000_000
    assert timed.report["not_counted"] is None


def test_no_instructions_have_a_reason(clock: FakeClock) -> None:
    for counter, reason in ((Counted(clock, running=2), "others used"), (None, "nobody asked")):
        timed = timing.measure(None, clock.model, plan(5), counter)
        assert timed.report["instructions"] is None
        assert reason in timed.report["not_counted"]
