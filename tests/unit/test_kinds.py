"""Kinds of measurement: which suite each belongs to, and how what is compared is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import records

from harness import board as boards
from harness import kinds
from harness.errors import ConfigError, ModelRejected, Unsupported
from harness.kinds import MEASURES, Task
from harness.measure.bench import Observation
from harness.model import (
    Baseline,
    Condition,
    Device,
    DeviceType,
    Fidelity,
    Measurement,
    Method,
    MultiStreamLoad,
    PeriodicLoad,
    PlanModel,
    Run,
    Scope,
    ServerLoad,
)
from harness.plan import SUITES
from harness.recorded import facts_of
from harness.selection import Target

DEVICE = Device("pi-1", DeviceType("rpi4"), "local")
MODEL = PlanModel("door", Path("door.onnx"))
P50 = Measurement("latency_p50_ns", 5e6, 4.9e6, 5.1e6, 700, Fidelity.MEASURED, "single_stream")
BUSY = Condition("other load", "80% of a core", "at most 50%", False, "End it.", Scope.ABSOLUTE)
CALM = Condition("same boot", "yes", "yes", True)


def run_of(*measurements: Measurement, conditions: Sequence[Condition] = ()) -> Run:
    return replace(
        records.run("001-it", measurements=measurements),
        scenario="single_stream",
        conditions=tuple(conditions),
    )


class FakeSession:
    """A session that has measured what it is given, or measures `now` when it is asked."""

    def __init__(self, done: Run | None, now: Run | None = None) -> None:
        self.done, self.now = done, now
        self.asked: list[str] = []
        self.workbench = SimpleNamespace(bench=self._bench)
        self.made_ready: list[tuple[str, str]] = []

    def _bench(self, device: Device, model: PlanModel, profile: str) -> str:
        self.made_ready.append((model.name, profile))
        return "the baseline's bench"

    def completed(self, kind: str, target: Target) -> Run | None:
        self.asked.append(f"completed {kind}")
        return self.done

    def sketch(self, kind: str, task: Task) -> Run:
        self.asked.append(f"measure {kind}")
        assert self.now is not None
        return self.now


def task(session: Any, baseline: Baseline | None, **case: Any) -> Task:
    loads = {"server": None, "periodic": None, "multi_stream": None, **case}
    board = SimpleNamespace(profile="native")
    bench: Any = SimpleNamespace(board=board, case=SimpleNamespace(**loads))
    return Task(session, bench, Target(DEVICE, MODEL, baseline), 7, lambda found: False)


def from_memory(run: Run, name: str = "release") -> Baseline:
    return Baseline(name, None, facts_of([run], "release"))


def test_each_kind_belongs_to_a_suite_and_a_profile():
    assert {measure.suite for measure in MEASURES.values()} <= set(SUITES)
    profiles = {(measure.suite, measure.profile) for measure in MEASURES.values()}
    assert {profile for suite, profile in profiles if suite == "latency"} == {boards.TIMING}
    for suite in ("deploy", "accuracy", "memory"):
        assert (suite, boards.FUNCTIONAL) in profiles
        assert (suite, boards.TIMING) not in profiles


def test_a_baseline_that_the_runtime_refuses_is_no_fault_of_the_candidates():
    session = FakeSession(None)
    said = f"Load model from /tmp/x/objects/{'ab' * 32}.onnx failed: no such operator"

    def refuse(device: Device, model: PlanModel, profile: str) -> str:
        raise ModelRejected(said)

    session.workbench.bench = refuse
    baseline = Baseline("old.onnx", replace(MODEL, name="door.baseline"))
    with pytest.raises(ConfigError) as caught:
        MEASURES["duet"].take(task(session, baseline))
    assert "the runtime refuses the baseline `old.onnx`" in str(caught.value)
    assert "Load model from old.onnx failed" in str(caught.value)
    assert "--baseline none" in str(caught.value)


def test_inputs_that_only_the_candidate_takes_are_told_of_the_baseline():
    session = FakeSession(None)

    def refuse(device: Device, model: PlanModel, profile: str) -> str:
        raise ConfigError(["input `x` is missing", "`image` is no input"], where="door_test.npz")

    session.workbench.bench = refuse
    with pytest.raises(ConfigError) as caught:
        MEASURES["duet"].take(task(session, Baseline("old.onnx", replace(MODEL, name="door.baseline"))))
    said = str(caught.value)
    assert said.startswith("baseline `old.onnx`, fed as the candidate is: door_test.npz: 2 problems")
    assert "with nothing: --baseline none" in said


# --- from memory ------------------------------------------------------------------------------------


def test_what_the_session_has_measured_serves():
    before, now = run_of(P50), run_of(replace(P50, value=5.5e6, low=5.4e6, high=5.6e6))
    session = FakeSession(now)
    seen = MEASURES["duet"].take(task(session, from_memory(before)))
    assert session.asked == ["completed single_stream"]
    (c,) = seen.comparisons
    assert (c.metric, c.method, c.baseline, c.candidate) == ("latency_p50_ns", Method.RECORDED, 5e6, 5.5e6)
    assert c.value == pytest.approx(1.1)
    assert seen.scenario == "single_stream"
    assert seen.settings["baseline_sha256"] == before.artifact_sha256


def test_else_it_is_measured_now():
    session = FakeSession(None, now=run_of(P50))
    seen = MEASURES["duet"].take(task(session, from_memory(run_of(P50))))
    assert session.asked == ["completed single_stream", "measure single_stream"]
    assert [c.value for c in seen.comparisons] == [1.0]


@pytest.mark.parametrize(
    ("kind", "measured"),
    [
        ("size_against", "deploy"),
        ("accuracy_against", "accuracy"),
        ("memory_against", "memory"),
        ("duet", "single_stream"),
    ],
)
def test_each_comparison_has_the_kind_whose_numbers_serve(kind, measured):
    session = FakeSession(run_of(P50))
    MEASURES[kind].take(task(session, from_memory(run_of(P50))))
    assert session.asked == [f"completed {measured}"]


def test_the_baseline_has_the_name_it_was_asked_for_by():
    seen = MEASURES["duet"].take(task(FakeSession(run_of(P50)), from_memory(run_of(P50), "recorded:release")))
    assert [c.baseline_name for c in seen.comparisons] == ["recorded:release"]
    assert seen.settings["baseline"] == "recorded:release"


def test_what_the_baseline_lacks_is_left_out():
    more = replace(P50, metric="latency_p90_ns")
    seen = MEASURES["duet"].take(task(FakeSession(run_of(P50, more)), from_memory(run_of(P50))))
    assert [c.metric for c in seen.comparisons] == ["latency_p50_ns"]


def test_a_number_that_is_now_missing_is_not_left_out():
    gone = replace(P50, value=None, low=None, high=None, reasons=("it hung",))
    (c,) = MEASURES["duet"].take(task(FakeSession(run_of(gone)), from_memory(run_of(P50)))).comparisons
    assert (c.value, c.candidate, c.baseline) == (None, None, 5e6)
    assert "it hung" in c.reasons


def test_a_baseline_without_any_such_number_leaves_nothing_to_compare():
    size = Measurement("model_size_bytes", 9.0, 9.0, 9.0, 1, Fidelity.MEASURED)
    with pytest.raises(Unsupported, match="`release` has no number of the latency suite for this model"):
        MEASURES["duet"].take(task(FakeSession(run_of(P50)), from_memory(run_of(size))))


def test_what_made_the_candidates_numbers_doubtful_goes_with_them():
    for session in (
        FakeSession(run_of(P50, conditions=(CALM, BUSY))),
        FakeSession(None, now=run_of(P50, conditions=(CALM, BUSY))),
    ):
        seen = MEASURES["duet"].take(task(session, from_memory(run_of(P50))))
        assert seen.conditions == (BUSY,)


# --- side by side -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("size_against", "measure_size_against"),
        ("accuracy_against", "measure_accuracy_against"),
        ("memory_against", "measure_memory_against"),
        ("duet", "measure_duet"),
    ],
)
def test_with_its_file_the_baseline_is_made_ready_on_the_same_board(monkeypatch, kind, function):
    taken: list[Any] = []

    def measure(bench: Any, baseline: Any, name: str, **more: Any) -> Observation:
        taken.append((bench, baseline, name, more.get("seed")))
        return Observation()

    monkeypatch.setattr(kinds, function, measure)
    session = FakeSession(None)
    model = replace(MODEL, name="door.baseline")
    recorded = facts_of([run_of(P50)], "release")
    asked = task(session, Baseline("release", model, recorded))
    MEASURES[kind].take(asked)
    assert session.made_ready == [("door.baseline", "native")]
    assert session.asked == []
    ((bench, baseline, name, seed),) = taken
    assert (bench, baseline, name) == (asked.bench, "the baseline's bench", "release")
    assert seed == (7 if kind in ("memory_against", "duet") else None)


def test_without_a_baseline_there_is_nothing_to_compare_with():
    with pytest.raises(ConfigError, match="pi-1-door: there is no baseline to compare with; add --baseline"):
        MEASURES["duet"].take(task(FakeSession(None), None))


# --- scenarios of the plan --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["server", "periodic", "multi_stream"])
def test_a_scenario_that_the_plan_does_not_ask_for(kind):
    with pytest.raises(ConfigError, match=f"the plan has no table `scenarios.{kind}`"):
        MEASURES[kind].take(task(FakeSession(None), None))


def test_scenarios_are_measured_as_the_plan_says(monkeypatch):
    taken: list[Any] = []

    def note(bench: Any, *args: Any, **more: Any) -> Observation:
        taken.append((*args, more))
        return Observation()

    for name in ("measure_server", "measure_periodic", "measure_multi_stream"):
        monkeypatch.setattr(kinds, name, note)
    loads = {
        "server": ServerLoad(50.0, None, 3.0),
        "periodic": PeriodicLoad(1e6, 2e6),
        "multi_stream": MultiStreamLoad(8),
    }
    for kind in loads:
        MEASURES[kind].take(task(FakeSession(None), None, **loads))
    assert taken == [
        ({"rate_per_s": 50.0, "p99_budget_ns": None, "duration_s": 3.0, "seed": 7},),
        (1e6, 2e6, {}),
        (8, {}),
    ]


def test_a_broken_calibration_is_told_before_anything_is_measured(tmp_path, monkeypatch):
    broken = tmp_path / "estimates" / "own.toml"
    broken.parent.mkdir()
    broken.write_text("schema_version = 9\n")
    measured: list[Any] = []
    monkeypatch.setattr(kinds, "measure_single_stream", lambda *args: measured.append(args))
    session: Any = SimpleNamespace(options=SimpleNamespace(reports_dir=tmp_path))
    bench: Any = SimpleNamespace(time_fidelity=Fidelity.VIRTUAL)
    task: Any = SimpleNamespace(bench=bench, session=session, in_doubt=None)
    with pytest.raises(ConfigError, match=r"own\.toml"):
        kinds._single_stream(task)
    assert not measured
