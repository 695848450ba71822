"""The kinds of measurement a session can take: which suite each belongs to, and how it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import board as boards
from harness.measure.accuracy import measure_accuracy
from harness.measure.bench import Bench, Observation
from harness.measure.latency import measure_offline, measure_single_stream
from harness.measure.load import measure_load
from harness.measure.memory import measure_memory
from harness.selection import Target

if TYPE_CHECKING:
    from harness.session import Session

Take = Callable[["Session", Bench, Target], Observation]


@dataclass(frozen=True)
class Measure:
    """A kind of measurement: its suite, the profile it needs on an emulated board, and how it is done."""

    suite: str
    profile: str
    take: Take


MEASURES: dict[str, Measure] = {
    "deploy": Measure("deploy", boards.FUNCTIONAL, lambda session, bench, target: measure_load(bench)),
    "accuracy": Measure(
        "accuracy",
        boards.FUNCTIONAL,
        lambda session, bench, target: measure_accuracy(bench, session.workbench.reference(bench)),
    ),
    "memory": Measure("memory", boards.FUNCTIONAL, lambda session, bench, target: measure_memory(bench)),
    "single_stream": Measure(
        "latency", boards.TIMING, lambda session, bench, target: measure_single_stream(bench)
    ),
    "offline": Measure("latency", boards.TIMING, lambda session, bench, target: measure_offline(bench)),
}
