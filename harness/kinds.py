"""The kinds of measurement a session can take: which suite each belongs to, and how it is done."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from harness import board as boards
from harness import counting, estimating
from harness.errors import ConfigError, HostSetupError, ModelRejected, Unsupported
from harness.measure.accuracy import measure_accuracy
from harness.measure.against import measure_accuracy_against, measure_size_against
from harness.measure.bench import Bench, Observation
from harness.measure.duet import Undecided, measure_duet
from harness.measure.energy import measure_energy, measure_energy_against
from harness.measure.latency import measure_offline
from harness.measure.load import measure_load
from harness.measure.memory import measure_memory, measure_memory_against
from harness.measure.scenarios import measure_multi_stream, measure_periodic
from harness.measure.server import measure_server
from harness.measure.single_stream import measure_single_stream
from harness.measure.thermal import measure_thermal
from harness.model import Baseline, Measurement
from harness.recorded import compare_recorded
from harness.selection import Target

if TYPE_CHECKING:
    from harness.session import Session


REASON_CHARS = 300  # of a runtime's own words in a message (chosen: what it says first says most)

Load = TypeVar("Load")  # a table `scenarios.…` of the plan


@dataclass(frozen=True)
class Task:
    """One measurement to take. `seed` fixes what is random in it.

    `undecided` judges what it compares, `in_doubt` what it measures, as the plan will: while either says so,
    more is measured, up to a cap.
    """

    session: Session
    bench: Bench
    target: Target
    seed: int
    undecided: Undecided
    in_doubt: Callable[[Sequence[Measurement]], bool] | None = None  # None: no interval is judged

    @property
    def baseline(self) -> Baseline:
        if self.target.baseline is None:
            raise ConfigError("there is no baseline to compare with; add --baseline.", where=self.target.id)
        return self.target.baseline

    def baseline_bench(self) -> Bench:
        """Return the baseline's file made ready on the same board, fed as the candidate is.

        Raises ConfigError, which names it, where the runtime refuses it or the candidate's inputs don't fit:
        that is no fault of the candidate's.
        """
        model = self.baseline.model
        assert model is not None
        try:
            return self.session.workbench.bench(self.target.device, model, self.bench.board.profile)
        except ModelRejected as why:
            said = in_short(why, self.baseline.name)
            raise ConfigError(
                f"the runtime refuses the baseline `{self.baseline.name}`: {said}",
                where=self.target.id,
                next_step="Compare with a file that loads there, or with nothing: --baseline none.",
            ) from why
        except HostSetupError:
            raise
        except ConfigError as why:
            place = f"baseline `{self.baseline.name}`, fed as the candidate is"
            raise ConfigError(
                why.problems,
                where=f"{place}: {why.where}" if why.where else place,
                next_step=why.next_step
                or "Compare with a model of the same inputs, or with nothing: --baseline none.",
            ) from why


def in_short(why: ModelRejected, name: str) -> str:
    """Return a runtime's own words as one message to read, with the model's `name` for its path there."""
    what = re.sub(r"\S*/objects/[0-9a-f]{64}\S*", name, why.what)
    # onnxruntime's messages carry the place in its source and a C++ signature before what they say
    what = re.sub(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])", " ", what)
    return what if len(what) <= REASON_CHARS else f"{what[:REASON_CHARS]} …"


Take = Callable[[Task], Observation]


@dataclass(frozen=True)
class Measure:
    """A kind of measurement: its suite, the profile it needs on an emulated board, and how it is done.

    One that isn't `attended` goes on by itself, in a profile of its own and over a connection of its own: the
    session gives it the target alone (harness/session.py, `_soak`).
    """

    suite: str
    profile: str
    take: Take
    attended: bool = True


def _against(take: Callable[[Task, Bench, str], Observation], kind: str) -> Take:
    """Return how to compare with a baseline: side by side where there is its file, else from memory."""

    def compare(task: Task) -> Observation:
        baseline = task.baseline
        if baseline.model is not None:
            return take(task, task.baseline_bench(), baseline.name)
        return _from_memory(task, kind)

    return compare


def _from_memory(task: Task, kind: str) -> Observation:
    """Compare what this session measured of `kind`, now if it hasn't yet, with the numbers recorded."""
    recorded = task.baseline.recorded
    assert recorded is not None
    run = task.session.completed(kind, task.target) or task.session.sketch(kind, task)
    comparisons = tuple(
        replace(c, baseline_name=task.baseline.name)
        for c in compare_recorded(run, recorded)
        if c.baseline is not None or c.candidate is None
    )
    if not comparisons:
        what = f"baseline `{recorded.name}` has no number of the {MEASURES[kind].suite} suite for this model"
        raise Unsupported(f"{what}.")
    settings = {"baseline": task.baseline.name, "baseline_sha256": recorded.artifact_sha256}
    # what made the candidate's own numbers doubtful makes their comparison so: no other arm met it
    breached = tuple(c for c in run.conditions if c.ok is False)
    return Observation(comparisons=comparisons, conditions=breached, settings=settings, scenario=run.scenario)


def _single_stream(task: Task) -> Observation:
    """Measure, and set beside a virtual median what a real board would take."""
    if not estimating.is_estimated(task.bench):
        return measure_single_stream(task.bench, task.in_doubt)
    # first: a broken file is told before the time for measuring is spent
    known = estimating.known_calibrations(task.session.options.reports_dir)
    seen = measure_single_stream(task.bench, task.in_doubt)
    median_ns = estimating.virtual_median_ns(seen)
    features, why_not = counting.count_features(task.bench, known, median_ns)
    why_not = task.session.workbench.why_no_counts(task.target.device) or why_not
    return estimating.with_estimate(
        seen,
        task.bench,
        known,
        today=datetime.datetime.now(datetime.UTC).date(),
        features=features,
        why_no_features=why_not,
    )


def _server(task: Task) -> Observation:
    load = _asked(task, task.bench.case.server, "server")
    return measure_server(
        task.bench,
        rate_per_s=load.rate_per_s,
        p99_budget_ns=load.p99_ns,
        duration_s=load.duration_s,
        seed=task.seed,
    )


def _periodic(task: Task) -> Observation:
    load = _asked(task, task.bench.case.periodic, "periodic")
    return measure_periodic(task.bench, load.period_ns, load.deadline_ns)


def _multi_stream(task: Task) -> Observation:
    load = _asked(task, task.bench.case.multi_stream, "multi_stream")
    return measure_multi_stream(task.bench, load.samples_per_query)


def _asked(task: Task, load: Load | None, scenario: str) -> Load:
    if load is None:
        raise ConfigError(f"the plan has no table `scenarios.{scenario}` for it.", where=task.target.id)
    return load


def _unattended(task: Task) -> Observation:
    raise AssertionError("a soak is begun by the session, not on its bench")


MEASURES: dict[str, Measure] = {
    "deploy": Measure("deploy", boards.FUNCTIONAL, lambda task: measure_load(task.bench)),
    "size_against": Measure(
        "deploy", boards.FUNCTIONAL, _against(lambda t, b, n: measure_size_against(t.bench, b, n), "deploy")
    ),
    "accuracy": Measure(
        "accuracy",
        boards.FUNCTIONAL,
        lambda task: measure_accuracy(task.bench, task.session.workbench.reference(task.bench)),
    ),
    "accuracy_against": Measure(
        "accuracy",
        boards.FUNCTIONAL,
        _against(lambda t, b, n: measure_accuracy_against(t.bench, b, n), "accuracy"),
    ),
    "memory": Measure("memory", boards.FUNCTIONAL, lambda task: measure_memory(task.bench)),
    "memory_against": Measure(
        "memory",
        boards.FUNCTIONAL,
        _against(lambda t, b, n: measure_memory_against(t.bench, b, n, seed=t.seed), "memory"),
    ),
    "single_stream": Measure("latency", boards.TIMING, _single_stream),
    "duet": Measure(
        "latency",
        boards.TIMING,
        _against(
            lambda t, b, n: measure_duet(t.bench, b, n, seed=t.seed, undecided=t.undecided), "single_stream"
        ),
    ),
    "offline": Measure("latency", boards.TIMING, lambda task: measure_offline(task.bench)),
    "multi_stream": Measure("latency", boards.TIMING, _multi_stream),
    "server": Measure("latency", boards.TIMING, _server),
    "periodic": Measure("latency", boards.TIMING, _periodic),
    "energy": Measure("power", boards.TIMING, lambda task: measure_energy(task.bench)),
    "energy_against": Measure(
        "power",
        boards.TIMING,
        _against(lambda t, b, n: measure_energy_against(t.bench, b, n, seed=t.seed), "energy"),
    ),
    "thermal": Measure("thermal", boards.TIMING, lambda task: measure_thermal(task.bench)),
    "thermal_against": Measure("thermal", boards.TIMING, lambda task: _from_memory(task, "thermal")),
    "soak": Measure("soak", boards.TIMING, _unattended, attended=False),
}
