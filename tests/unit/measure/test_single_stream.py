"""How long single_stream goes on, and what its rows say of that; the processes are scripted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness import stats
from harness.measure import single_stream
from harness.measure.single_stream import LOOKS, measure_single_stream
from harness.model import Fidelity
from harness.progress import Progress
from harness.remote import MeasuredBlock

PROCESSES = 10  # on a measured clock
SAMPLES = 100


def window(process: int, instructions: int | None = None) -> MeasuredBlock:
    rng = np.random.default_rng(process)
    latency_ns = rng.integers(1_000_000, 1_010_000, SAMPLES) + 1000 * process
    return MeasuredBlock(
        latency_ns=latency_ns,
        start_ns=np.cumsum(latency_ns),
        warmup_iterations=8,
        warmup_flat=True,
        iterations_requested=SAMPLES,
        ended_by="iterations",
        clock="CLOCK_MONOTONIC",
        instructions=instructions,
    )


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bench whose processes each give SAMPLES samples; `counts` are their instructions."""
    bench = SimpleNamespace(time_fidelity=Fidelity.MEASURED, progress=Progress(None), threads=1, counts=None)

    def take(seen: single_stream.Processes, bench: Any, settings: Any) -> None:
        number = len(seen.windows)
        seen.load_ns.append(5_000_000 + number)
        seen.first_ns.append(2_000_000 + number)
        seen.windows.append(window(number, bench.counts[number] if bench.counts else None))

    monkeypatch.setattr(single_stream, "_take", take)
    return bench


def said(observation: Any) -> set[str]:
    return {reason for m in observation.measurements for reason in m.reasons if "look" in reason}


def test_without_an_interval_to_judge_there_is_one_look(board):
    seen = measure_single_stream(board)
    assert seen.settings["looks_taken"] == 1
    assert len(seen.series[1].values) == PROCESSES
    assert not said(seen)


def test_it_goes_on_while_undecided_and_ends_at_the_cap(board):
    seen = measure_single_stream(board, lambda measurements: True)
    assert seen.settings["looks_taken"] == LOOKS
    assert len(seen.series[1].values) == LOOKS * PROCESSES
    level = 100 * stats.pocock_confidences(LOOKS, per_look=PROCESSES)[0]
    assert said(seen) == {f"look 3 of at most 3, declared beforehand: its interval is at {level:.1f}%"}


def test_it_stops_once_decided(board):
    asked: list[int] = []

    def undecided(measurements: Any) -> bool:
        asked.append(measurements[0].n)
        return len(asked) < 2

    seen = measure_single_stream(board, undecided)
    assert asked == [PROCESSES, 2 * PROCESSES]
    assert seen.settings["looks_taken"] == 2


def test_looking_often_makes_each_interval_wider(board):
    plain = measure_single_stream(board)
    several = measure_single_stream(board, lambda measurements: False)
    for one, other in zip(plain.measurements, several.measurements, strict=True):
        assert one.value == other.value
        assert None in (one.low, other.low) or other.low <= one.low
        assert None in (one.high, other.high) or other.high >= one.high


def test_on_a_virtual_clock_one_look_does(board):
    board.time_fidelity = Fidelity.VIRTUAL
    seen = measure_single_stream(board, lambda measurements: True)
    assert seen.settings["looks_taken"] == 1
    assert not said(seen)


def test_instructions_are_per_call_and_left_out_where_one_process_has_none(board):
    board.counts = [SAMPLES * (1000 + n) for n in range(PROCESSES)]
    found = {m.metric: m for m in measure_single_stream(board).measurements}["instructions"]
    assert (found.value, found.low, found.high, found.n) == (1004, 1000, 1009, PROCESSES)
    board.counts[3] = None
    assert "instructions" not in {m.metric for m in measure_single_stream(board).measurements}
