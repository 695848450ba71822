"""Quantiles with their bounds, throughput, and how many calls are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import Unsupported
from harness.measure.latency import (
    MEASURED,
    VIRTUAL,
    iterations_for,
    require_clock,
    throughput,
)
from harness.measure.percentiles import between_processes, quantile
from harness.measure.single_stream import _undisturbed
from harness.model import Fidelity
from harness.remote import MeasuredBlock


def test_a_p99_of_few_measured_samples_has_no_upper_bound_and_says_how_many_it_needs():
    m = quantile("latency_p99_ns", np.arange(100), 99, Fidelity.MEASURED, "single_stream")
    assert m.high is None
    assert "100 samples can't bound the p99" in m.reasons[0]


def test_the_default_count_bounds_a_p99():
    n = MEASURED.processes * MEASURED.iterations
    m = quantile("latency_p99_ns", np.arange(n), 99, Fidelity.MEASURED, "single_stream")
    assert m.low is not None
    assert m.high is not None
    assert m.low <= m.value <= m.high
    assert m.reasons == ()


def test_on_a_virtual_clock_the_extremes_stand_in_and_say_so():
    m = quantile("latency_p99_ns", np.arange(10, 74), 99, Fidelity.VIRTUAL, "single_stream")
    assert m.high == 73
    assert "extremes of 64 samples" in m.reasons[0]


def testthroughput_inverts_the_interval():
    p50 = quantile("latency_p50_ns", np.array([1e6] * 30 + [2e6] * 31), 50, Fidelity.MEASURED, "offline", 4)
    t = throughput(p50, 4)
    assert t.value == pytest.approx(4e9 / p50.value)
    assert t.low == pytest.approx(4e9 / p50.high)
    assert t.low <= t.value <= t.high


@pytest.mark.parametrize(
    ("first_s", "scale", "calls"), [(0.01, 1, 32), (6.0, 1, 10), (100.0, 1, 8), (0.01, 8, 8)]
)
def test_a_slow_model_gets_fewer_calls_never_under_eight(first_s, scale, calls):
    assert iterations_for(VIRTUAL, first_s, scale) == calls


def test_no_times_from_a_board_whose_clock_says_nothing():
    class Board:
        class device:
            name = "rpi4-emulated"

    class Bench:
        time_fidelity = None
        board = Board

    with pytest.raises(Unsupported, match=r"functional profile"):
        require_clock(Bench)


def window(cpu_ns, elapsed_ns):
    empty = np.zeros(0, np.int64)
    return MeasuredBlock(
        empty,
        empty,
        0,
        True,
        8,
        "iterations",
        "CLOCK_MONOTONIC",
        elapsed_ns=elapsed_ns,
        usage={"cpu_ns": cpu_ns},
    )


@pytest.mark.parametrize(("cpu_ns", "ok"), [(99, True), (90, True), (80, False)])
def test_a_process_that_shared_its_core_was_disturbed(cpu_ns, ok):
    found = _undisturbed([window(100, 100), window(2 * cpu_ns - 100, 100)], 1)
    assert found.ok is ok


def test_several_threads_say_nothing_of_a_core():
    assert _undisturbed([window(300, 100)], 4) is None


def test_an_interval_spans_what_the_processes_differ_by():
    blocks = [np.full(70, 1e6 * (1 + i / 100)) for i in range(10)]  # alike within, 9% apart
    values = np.concatenate(blocks)
    pooled = quantile("latency_p90_ns", values, 90, Fidelity.MEASURED, "single_stream")
    wide = between_processes(pooled, 90, blocks)
    # s of the logarithms is 0.0291, t(9, 95%) = 1.833, so the half-width is 1.70%
    assert wide.high >= pooled.value * 1.0169
    assert wide.low <= pooled.value / 1.0169
    alike = [np.full(70, 1e6)] * 10
    same = quantile("latency_p90_ns", np.concatenate(alike), 90, Fidelity.MEASURED, "single_stream")
    assert between_processes(same, 90, alike) == same
