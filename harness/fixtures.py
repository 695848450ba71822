"""Fixtures of the suites; a user's own suites use the same.

A run is measured in a fixture's set-up, so that a lab failure is pytest's error and a lacking capability its
skip; the test itself only judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from harness import gate as gates
from harness.desk import BUDGETS, DESK, RUN
from harness.errors import HarnessError
from harness.judging import joined
from harness.model import Baseline, Fidelity, Outcome, Result, Run, Verdict
from harness.selection import Target

FAILING = (Verdict.FAIL, Verdict.INFRA_ERROR, Verdict.INVALID, Verdict.INCONCLUSIVE)


@pytest.fixture
def measure(request: pytest.FixtureRequest, target: Target) -> Callable[[str], Run]:
    """A function that measures one kind of `harness.kinds.MEASURES` on the target.

    Used in fixture set-up, so that a lab failure is pytest's error and a lacking capability its skip.
    """
    desk = request.config.stash[DESK]
    if desk.session is None:
        raise RuntimeError("no session: pytest_collection_finish has not run")
    session = desk.session

    def take(kind: str) -> Run:
        try:
            run = session.run(kind, target, request.node.nodeid, request.node.stash.get(BUDGETS, ()))
        except HarnessError as error:  # not of the run, which would keep it: the session can't be stored
            pytest.exit(f"harness: {error}", returncode=error.exit_code)
        request.node.stash[RUN] = True
        if run.outcome is Outcome.SKIPPED:
            pytest.skip(run.reason or "not possible here")
        if run.outcome is Outcome.USAGE_ERROR:
            desk.usage_error = True
            pytest.fail(run.error.message if run.error else "usage error", pytrace=False)
        if run.outcome is Outcome.INFRA_ERROR:
            pytest.fail(f"INFRA_ERROR: {run.error.message if run.error else 'unknown'}", pytrace=False)
        return run

    return take


@pytest.fixture
def deploy_run(measure: Callable[[str], Run]) -> Run:
    """The model deployed, loaded and run once on the device."""
    return measure("deploy")


@pytest.fixture
def accuracy_run(measure: Callable[[str], Run]) -> Run:
    """Its outputs over all inputs against the host's, and the plan's task metric where there are labels."""
    return measure("accuracy")


@pytest.fixture
def memory_run(measure: Callable[[str], Run]) -> Run:
    """Peak RSS and PSS of fresh processes."""
    return measure("memory")


@pytest.fixture
def latency_run(measure: Callable[[str], Run]) -> Run:
    """Load time, first inference and single_stream latency of fresh processes."""
    return measure("single_stream")


@pytest.fixture
def offline_run(measure: Callable[[str], Run]) -> Run:
    """Throughput and latency over batch sizes."""
    return measure("offline")


@pytest.fixture
def multi_stream_run(measure: Callable[[str], Run]) -> Run:
    """Latency of queries of several samples at once; where the plan's model asks for it."""
    return measure("multi_stream")


@pytest.fixture
def server_run(measure: Callable[[str], Run]) -> Run:
    """Latency under Poisson arrivals, or the highest rate within a p99; where the plan asks for it."""
    return measure("server")


@pytest.fixture
def periodic_run(measure: Callable[[str], Run]) -> Run:
    """Deadline misses and jitter at a fixed period; where the plan's model asks for it."""
    return measure("periodic")


@pytest.fixture
def baseline(target: Target) -> Baseline | None:
    """What the target is compared with; a test that uses it is left out where there is none."""
    return target.baseline


@pytest.fixture
def size_against_run(measure: Callable[[str], Run], baseline: Baseline) -> Run:
    """The model file's size against the baseline's."""
    return measure("size_against")


@pytest.fixture
def accuracy_against_run(measure: Callable[[str], Run], baseline: Baseline) -> Run:
    """The task metric against the baseline's, over the same samples."""
    return measure("accuracy_against")


@pytest.fixture
def memory_against_run(measure: Callable[[str], Run], baseline: Baseline) -> Run:
    """Memory of fresh processes against the baseline's."""
    return measure("memory_against")


@pytest.fixture
def duet_run(measure: Callable[[str], Run], baseline: Baseline) -> Run:
    """Latency, load time and first inference beside the baseline's, the two taking turns."""
    return measure("duet")


@pytest.fixture
def energy_run(measure: Callable[[str], Run]) -> Run:
    """Energy per inference by batch size, and the power of idling; where the device shows its power."""
    return measure("energy")


@pytest.fixture
def energy_against_run(measure: Callable[[str], Run], baseline: Baseline) -> Run:
    """Energy per inference beside the baseline's, the two taking turns."""
    return measure("energy_against")


@pytest.fixture
def thermal_run(measure: Callable[[str], Run]) -> Run:
    """Sustained against burst throughput and time to throttling, from a start band until it is steady."""
    return measure("thermal")


@pytest.fixture
def thermal_against_run(measure: Callable[[str], Run], baseline: Baseline) -> Run:
    """The thermal run against recorded numbers of the same ambient temperature."""
    return measure("thermal_against")


@pytest.fixture
def soak_run(measure: Callable[[str], Run]) -> Run:
    """The model at work for as long as --soak says, and what happened meanwhile."""
    return measure("soak")


# a test that uses one of these is left out where the target has nothing for it
NEEDS: Mapping[str, Callable[[Target], object]] = {
    "baseline": lambda target: target.baseline,
    "multi_stream_run": lambda target: target.model.multi_stream,
    "server_run": lambda target: target.model.server,
    "periodic_run": lambda target: target.model.periodic,
    # two thermal runs can't be side by side: one warms the other
    "thermal_against_run": lambda target: target.baseline and target.baseline.recorded,
}


def is_wanted(target: Target | None, fixtures: Iterable[str]) -> bool:
    """Return whether a test with these fixtures has something to measure; without a device, none of NEEDS."""
    needs = [NEEDS[name] for name in fixtures if name in NEEDS]
    return all(target is not None and need(target) is not None for need in needs)


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Callable[[Run], None]:
    """A function that judges a run by the plan's budgets and fails the test with its verdict's word."""
    desk = request.config.stash[DESK]

    def judge(run: Run) -> None:
        results = [r for r in gates.results_of(run, desk.plan.budgets) if r.verdict in FAILING]
        if results:
            pytest.fail("\n".join(told(results)), pytrace=False)

    return judge


def told(results: Iterable[Result]) -> list[str]:
    """Return a line for each result; what an earlier line of the same verdict said isn't said again."""
    lines: list[str] = []
    said: dict[Verdict, set[str]] = {}
    for r in results:
        before = said.setdefault(r.verdict, set())
        new = [reason for reason in r.reasons if reason not in before]
        before.update(r.reasons)
        if new or not r.reasons:
            lines.append(f"{r.verdict}: {joined(new)}")
    return lines


class DeviceClock:
    """A clock that only moves by what the device measured: pytest-benchmark reads it as its timer."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def read(self) -> float:
        return self.now_s


DEVICE_CLOCK = DeviceClock()


@pytest.fixture
def replay(benchmark: Any) -> Callable[[Run], None]:
    """A function that hands a run's latency samples to pytest-benchmark, in device time."""

    def play(run: Run) -> None:
        series = next((s for s in run.series if s.name == "latency_ns"), None)
        if series is None or benchmark is None:
            return
        remaining = iter([float(v) / 1e9 for v in series.values])

        def one_call() -> None:
            DEVICE_CLOCK.now_s += next(remaining)

        # the heading of pytest-benchmark's table: its times are not this host's
        clock = "virtual clock" if run.measurements[0].fidelity is Fidelity.VIRTUAL else "device clock"
        benchmark.group = f"{clock} of {run.device.name}"
        benchmark.extra_info.update(
            model=run.model, device=run.device.name, runtime=f"{run.runtime}=={run.runtime_version}",
            fidelity=run.measurements[0].fidelity.value,
        )  # fmt: skip
        benchmark.pedantic(one_call, rounds=len(series.values), iterations=1)

    return play
