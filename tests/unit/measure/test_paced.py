"""Schedules, what their percentiles say, and the search for a rate: on a simulated device."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError, Unsupported
from harness.judging import judge
from harness.measure import paced, scenarios
from harness.measure.paced import (
    MEASURED,
    Played,
    count_queries,
    percentile_of,
    periodic_offsets,
    poisson_offsets,
    simulate_latency,
    split_queries,
)
from harness.measure.rate_search import TOLERANCE, highest_rate, search_rate
from harness.metrics import HIGHER
from harness.model import Budget, Fidelity, Verdict
from harness.remote import MeasuredBlock, PacedBlock

CLOCK = "CLOCK_MONOTONIC"


# --- schedules -------------------------------------------------------------------------------------


def test_a_queue_by_hand():
    # due at 0, 10, 20, 100; each takes 15: done at 15, 30, 45, 115
    latency = simulate_latency(np.array([0, 10, 20, 100]), np.array([15, 15, 15, 15]))
    assert latency.tolist() == [15, 20, 25, 15]


@given(st.floats(1, 1e4), st.floats(1.0, 3.0), st.integers(0, 5))
def test_a_lower_rate_never_makes_a_query_wait_longer(rate, factor, seed):
    service = np.full(200, 1_000_000)
    fast = simulate_latency(poisson_offsets(rate * factor, 200, seed), service)
    slow = simulate_latency(poisson_offsets(rate, 200, seed), service)
    assert (slow <= fast + 2).all()  # offsets are whole ns


def test_arrivals_come_at_their_rate_and_from_their_seed():
    offsets = poisson_offsets(1000.0, 20_000, seed=3)
    assert np.diff(offsets).mean() == pytest.approx(1e6, rel=0.03)
    assert np.diff(offsets).std() == pytest.approx(1e6, rel=0.05)  # of exponential gaps: their mean
    assert (poisson_offsets(1000.0, 20_000, seed=3) == offsets).all()
    assert not (poisson_offsets(1000.0, 20_000, seed=3, process=1) == offsets).all()


def test_frames_are_one_period_apart():
    assert periodic_offsets(1e7 / 3, 4).tolist() == [0, 3333333, 6666666, 10000000]


@pytest.mark.parametrize(
    ("rate", "duration_s", "count"),
    [
        (100.0, None, 900),  # more than LoadGen's minimum for a p99
        (1000.0, None, 2000),  # two seconds
        (1e6, None, 20_000),
        (5.0, None, 300),  # a minute at most
        (5.0, 200.0, 1000),
        (0.001, None, 1),
    ],
)
def test_how_many_queries_are_played(rate, duration_s, count):
    assert count_queries(rate, MEASURED, duration_s) == count


def test_few_queries_share_few_processes():
    assert split_queries(662, MEASURED) == [166, 166, 165, 165]
    assert split_queries(130, MEASURED) == [65, 65]
    assert split_queries(5, MEASURED) == [5]


# --- percentiles -----------------------------------------------------------------------------------


def block(due: Any, latency: Any, requested: int | None = None) -> PacedBlock:
    """Return a block whose queries take 1 µs each at most, the rest of their latency was waiting."""
    due, latency = np.asarray(due, dtype=np.int64), np.asarray(latency, dtype=np.int64)
    end = due + latency
    return PacedBlock(
        due,
        end - np.minimum(latency, 1000),
        end,
        4,
        True,
        requested or len(due),
        "schedule",
        CLOCK,
        1,
        {},
        {},
    )


def test_too_few_queries_for_a_percentile_say_how_many_it_needs():
    played = Played((block(np.arange(300) * 10_000, np.full(300, 1000)),))
    m = percentile_of("latency_p99_ns", 99, played.latency_ns, played, Fidelity.MEASURED, "server")
    assert m.value is None
    assert m.reasons == ("too few samples for the percentile asked: 300, LoadGen's minimum for a p99 is 662",)
    p90 = percentile_of("latency_p90_ns", 90, played.latency_ns, played, Fidelity.MEASURED, "server")
    assert p90.value == 1000


def test_queries_that_were_given_up_leave_no_percentile_finite():
    played = Played((block(np.arange(400) * 100, np.arange(400) * 5000, requested=1000),))
    m = percentile_of("latency_p50_ns", 50, played.latency_ns, played, Fidelity.MEASURED, "server")
    assert m.value == m.low == m.high == float("inf")
    assert "600 of 1000 queries were given up" in m.reasons[0]


def test_a_queue_that_only_grows_has_no_upper_bound():
    played = Played((block(np.arange(1000) * 900, 1000 + np.arange(1000) * 100),))
    assert played.busy_ratio > 1
    m = percentile_of("latency_p50_ns", 50, played.latency_ns, played, Fidelity.MEASURED, "server")
    assert m.low is not None
    assert m.high is None
    assert "its queue only grows" in m.reasons[0]


def test_queries_that_wait_for_each_other_count_for_fewer():
    service = np.full(5000, 1_000_000)
    latency = simulate_latency(poisson_offsets(900.0, 5000, 1), service)
    alone = paced.bounded_percentile(np.random.default_rng(1).permutation(latency), 90, Fidelity.MEASURED)
    queued = paced.bounded_percentile(latency, 90, Fidelity.MEASURED)
    assert queued.high - queued.low > 2 * (alone.high - alone.low)
    assert "thinned by" in queued.reasons[0]


# --- the search ------------------------------------------------------------------------------------


@given(st.floats(1.0, 1e5), st.floats(1.0, 1e5), st.floats(1.0, 1e5))
def test_the_bracket_is_around_the_true_rate(true, start, ceiling):
    floor = ceiling / 100
    found = search_rate(lambda rate: rate <= true, start, floor, ceiling)
    if found.held_per_s is None:
        assert true < floor
    else:
        assert found.held_per_s <= true or true >= ceiling
        assert true < found.missed_per_s or found.missed_per_s == ceiling
        assert found.missed_per_s / found.held_per_s <= TOLERANCE * 1.0001


def test_a_good_guess_needs_two_rates():
    tried: list[float] = []

    def try_rate(rate: float) -> bool:
        tried.append(rate)
        return rate <= 505

    found = search_rate(try_rate, 500.0, 10.0, 1000.0)
    assert tried == [500.0, 510.0]
    assert (found.held_per_s, found.missed_per_s) == (500.0, 510.0)


def test_a_simulation_gives_the_guess():
    assert highest_rate(lambda rate: rate <= 300, 10.0, 1000.0) == pytest.approx(300, rel=0.02)


# --- measured on a simulated device ----------------------------------------------------------------


@dataclass
class Simulated:
    """A child whose calls take `service_ns` each, in a world without any noise."""

    service_ns: int
    batch_limit: int = 1000
    batch_size: int = 1
    schedules: list[Any] = field(default_factory=list)

    def first(self) -> int:
        return self.service_ns

    def infer(self, start: int, count: int) -> dict[str, Any]:
        return {}

    def set_inputs(self, *, npz_path: str, batch_size: int = 1) -> None:
        if batch_size > self.batch_limit:
            raise Unsupported(f"the model's batch is fixed to {self.batch_limit}.")
        self.batch_size = batch_size

    def measure(self, *, iterations: int, calls_per_query: int = 1, **_: Any) -> MeasuredBlock:
        wanted = max(iterations, 70)
        took = np.full(wanted, self.service_ns * self.batch_size * calls_per_query)
        return MeasuredBlock(took, np.cumsum(took), 4, True, iterations, "iterations", CLOCK)

    def paced(self, offset_ns: Any, *, max_behind_ns: int, **_: Any) -> PacedBlock:
        self.schedules.append(offset_ns)
        latency = simulate_latency(offset_ns, np.full(len(offset_ns), self.service_ns))
        late = np.flatnonzero(latency - self.service_ns > max_behind_ns)
        got = int(late[0]) if late.size else len(offset_ns)
        due, end = offset_ns[:got], (offset_ns + latency)[:got]
        ended_by = "overload" if late.size else "schedule"
        return PacedBlock(
            due, end - self.service_ns, end, 4, True, len(offset_ns), ended_by, CLOCK, 1, {}, {}
        )


def bench(child: Simulated, fidelity: Fidelity | None = Fidelity.MEASURED) -> Any:
    @contextmanager
    def open_child(name: str, **_: Any) -> Any:
        yield child, 1

    quiet = SimpleNamespace(
        device=SimpleNamespace(name="pi", timeout_s=10.0), connection=SimpleNamespace(quiet=nullcontext)
    )
    said = SimpleNamespace(count=lambda *a: None, say=lambda *a: None)
    return SimpleNamespace(
        child=open_child,
        board=quiet,
        case=SimpleNamespace(name="door"),
        time_fidelity=fidelity,
        progress=said,
        inputs_path="/inputs",
        signature=SimpleNamespace(outputs=(1,)),
    )


def value_of(seen: Any, metric: str) -> Any:
    (found,) = [m for m in seen.measurements if m.metric == metric]
    return found


def test_a_server_at_a_rate_is_the_queue_that_theory_has():
    seen = scenarios.measure_server(bench(Simulated(1_000_000)), rate_per_s=500.0, seed=1)
    # M/D/1 at a load of ½: mean latency is 1.5 service times (Pollaczek–Khinchine)
    assert seen.series[0].values.mean() == pytest.approx(1.5e6, rel=0.1)
    assert seen.settings["kept_up"] is True
    assert seen.settings["busy_ratio"] == pytest.approx(0.5, rel=0.1)
    assert value_of(seen, "throughput_per_s").value == pytest.approx(500, rel=0.1)
    assert {m.scenario for m in seen.measurements} == {"server"}


def test_a_rate_that_no_device_can_reach_is_refused_before_any_schedule():
    child = Simulated(10_000_000)
    with pytest.raises(ConfigError, match=r"100/s \(1 / 10\.0 ms\)"):
        scenarios.measure_server(bench(child), rate_per_s=101.0, seed=1)
    assert child.schedules == []


def test_a_short_duration_leaves_the_p99_without_a_value():
    seen = scenarios.measure_server(bench(Simulated(1_000_000)), rate_per_s=100.0, duration_s=2.0, seed=1)
    p99 = value_of(seen, "latency_p99_ns")
    assert p99.value is None
    assert "200, LoadGen's minimum for a p99 is 662" in p99.reasons[0]


def test_the_highest_rate_that_keeps_a_p99():
    seen = scenarios.measure_server(bench(Simulated(1_000_000)), p99_budget_ns=5e6, seed=1)
    rate = value_of(seen, "server_rate_per_s")
    # M/D/1: the p99 is five service times at a load of 0.56 (simulated, 10^6 queries); its upper bound sooner
    assert 450 < rate.value <= 560
    assert rate.low == rate.value < rate.high <= rate.value * TOLERANCE * 1.0001
    held = [r for r in seen.settings["rates"] if r["met"]]
    missed = [r for r in seen.settings["rates"] if not r["met"]]
    assert max(r["rate_per_s"] for r in held) == rate.value
    assert min(r["rate_per_s"] for r in missed) == rate.high
    assert value_of(seen, "latency_p99_ns").high <= 5e6
    assert len(seen.settings["rates"]) <= 6


def test_a_wider_budget_never_finds_a_lower_rate():
    rates = [
        value_of(
            scenarios.measure_server(bench(Simulated(1_000_000)), p99_budget_ns=budget, seed=1),
            "server_rate_per_s",
        ).value
        for budget in (2e6, 4e6, 8e6)
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_a_model_slower_than_its_budget_has_no_rate():
    seen = scenarios.measure_server(bench(Simulated(52_000_000)), p99_budget_ns=48e6, seed=1)
    (rate,) = seen.measurements
    assert (rate.metric, rate.value, rate.low, rate.high) == ("server_rate_per_s", 0.0, 0.0, 0.0)
    at_least_one = Budget("m", "pi", "server_rate_per_s", 1.0)
    assert judge(rate, at_least_one, HIGHER).verdict is Verdict.FAIL  # shown, not missing
    assert rate.reasons == ("even 1/s misses: a query alone takes 52.0 ms, the p99 budget is 48.0 ms",)


def test_a_search_that_is_too_short_says_how_long_it_must_be():
    seen = scenarios.measure_server(bench(Simulated(10_000_000)), p99_budget_ns=48e6, duration_s=3, seed=1)
    (rate,) = seen.measurements
    assert rate.value is None
    assert "too few samples for the percentile asked: 300" in rate.reasons[0]
    assert "set duration_s to more than 6.62 s" in rate.reasons[0]


def test_a_duration_leaves_out_rates_with_too_few_queries():
    # at 100/s two seconds have too few queries to bound a p99: that says nothing about higher rates
    seen = scenarios.measure_server(bench(Simulated(1_000_000)), p99_budget_ns=50e6, duration_s=2, seed=1)
    rate = value_of(seen, "server_rate_per_s")
    assert 331 < rate.value < 1000
    assert rate.n >= 662


def test_a_duration_too_short_for_a_queue_says_how_many_queries_it_takes():
    seen = scenarios.measure_server(bench(Simulated(1_000_000)), p99_budget_ns=50e6, duration_s=1, seed=1)
    (rate,) = seen.measurements
    assert rate.value is None
    assert rate.reasons == (
        "even 663/s, 66.3% of what it can reach, was not shown to keep it: 663 samples can't bound the p99 "
        "at 90%; 2093 can; lower ones have too few queries in 1.00 s for a p99: set duration_s higher",
    )


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"rate_per_s": 1.0, "p99_budget_ns": 1.0},
        {"rate_per_s": 0.0},
        {"rate_per_s": 1.0, "duration_s": -1.0},
    ],
)
def test_a_load_that_makes_no_sense_is_refused(asked):
    with pytest.raises(ConfigError):
        scenarios.measure_server(bench(Simulated(1000)), seed=1, **asked)


def test_frames_in_time_and_late():
    seen = scenarios.measure_periodic(bench(Simulated(4_000_000)), 10e6)
    ratio = value_of(seen, "deadline_miss_ratio")
    # Clopper–Pearson, none of 900: 1 − 0.05^(1/900)
    assert (ratio.value, ratio.low, ratio.high) == (0.0, 0.0, pytest.approx(1 - 0.05 ** (1 / 900)))
    assert value_of(seen, "start_jitter_p99_ns").value == 0
    assert value_of(seen, "latency_p50_ns").value == 4_000_000
    late = scenarios.measure_periodic(bench(Simulated(4_000_000)), 10e6, 3e6)
    assert value_of(late, "deadline_miss_ratio").value == 1.0


def test_frames_that_come_faster_than_they_go():
    seen = scenarios.measure_periodic(bench(Simulated(20_000_000)), 10e6, 1e9)
    ratio = value_of(seen, "deadline_miss_ratio")
    # frame i ends 20 ms + 10 ms × i after it was due: from the 99th on they are late
    assert ratio.value == pytest.approx(max(0, 225 - 99) * 4 / 900)
    assert seen.settings["kept_up"] is False
    assert value_of(seen, "latency_p99_ns").high is None


def test_a_frame_that_is_never_begun_is_missed():
    seen = scenarios.measure_periodic(bench(Simulated(100_000_000)), 1e4, 1e12)
    ratio = value_of(seen, "deadline_miss_ratio")
    assert ratio.value > 0
    assert "were never begun" in ratio.reasons[1]


@pytest.mark.parametrize(("period", "deadline"), [(0, None), (-1, None), (1e6, 0.0)])
def test_a_period_that_is_none_is_refused(period, deadline):
    with pytest.raises(ConfigError, match=r"periodic: (period|deadline) is"):
        scenarios.measure_periodic(bench(Simulated(1000)), period, deadline)


@pytest.mark.parametrize(("batch_limit", "said"), [(8, "one batch"), (1, "8 calls one after the other")])
def test_several_samples_at_once_are_a_batch_where_the_model_takes_it(batch_limit, said):
    seen = scenarios.measure_multi_stream(bench(Simulated(1_000_000, batch_limit)), 8)
    assert seen.settings["query_is"] == said
    assert value_of(seen, "latency_p99_ns").value == 8_000_000
    assert value_of(seen, "throughput_per_s").value == pytest.approx(1000)
    assert {m.batch_size for m in seen.measurements} == {1}


def test_no_samples_in_a_query_is_refused():
    with pytest.raises(ConfigError, match=r"samples_per_query is 0"):
        scenarios.measure_multi_stream(bench(Simulated(1000)), 0)


def test_no_times_from_a_board_whose_clock_says_nothing():
    for take in (
        lambda b: scenarios.measure_server(b, rate_per_s=1.0, seed=1),
        lambda b: scenarios.measure_periodic(b, 1e6),
        lambda b: scenarios.measure_multi_stream(b, 2),
    ):
        with pytest.raises(Unsupported, match=r"functional profile"):
            take(bench(Simulated(1000), None))


def test_on_a_virtual_clock_few_queries_are_played_and_the_long_run_is_computed():
    child = Simulated(4_000_000)
    seen = scenarios.measure_server(bench(child, Fidelity.VIRTUAL), p99_budget_ns=20e6, seed=1)
    assert {len(s) for s in child.schedules} == {128}
    rate = value_of(seen, "server_rate_per_s")
    assert rate.fidelity is Fidelity.VIRTUAL
    # M/D/1: a p99 of five service times is at a load of 0.56 (simulated, 10^6 queries), 140 a second
    assert rate.value == pytest.approx(140, rel=0.04)
    p99 = value_of(seen, "latency_p99_ns")
    assert "extremes of 128 samples" in str(p99.reasons)
    assert "computed for 20000 arrivals" in str(p99.reasons)
    assert p99.value <= p99.high
    assert p99.high == pytest.approx(20e6, rel=0.1)
