"""A soak held against one that a recorded baseline keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import records
from support.soak_tables import a_table

from harness.judging import judge
from harness.metrics import METRICS
from harness.model import Fidelity, Outcome, RecordedBaseline, Run, SoakSettings, SoakStream, Verdict
from harness.recorded import facts_of
from harness.soak.about import About, about_of, about_to_plain
from harness.soak.known_good import known_good, soak_numbers
from harness.soak.observe import observe

T_H = (np.arange(864) + 0.5) / 12


def about(baseline: RecordedBaseline | None = None, **more) -> About:
    device = replace(records.PI, details={**records.PI.details, "ram_bytes": 2_000_000_000})
    given = {
        "model": "m", "artifact_sha256": "a" * 64, "runtime": "onnxruntime", "runtime_version": "1.20.1",
        "threads": 1, "device": device, "fidelity": Fidelity.VIRTUAL,
        "settings": SoakSettings(duration_s=72 * 3600.0, window_s=300.0, compressed=True),
        "streams": (SoakStream("main", "m", "every 300 s", ("m",)),), "started_at": "2026-01-01T00:00:00Z",
        "harness_version": "0.1.0", "baseline": baseline,
    }  # fmt: skip
    return About(**{**given, **more})


def leaking(per_h: float):
    noise = np.random.default_rng(4).normal(0, 0.1e6, 864)
    return a_table(channels={"main/rss_bytes": 60e6 + per_h * T_H + noise})


def stored(per_h: float) -> Run:
    """Return the run of a soak as the store has it."""
    seen, told = observe(leaking(per_h), about(), "id"), about()
    return replace(
        records.run("001-soak-m"), suite="soak", model="m", device=told.device, scenario=seen.scenario,
        measurements=seen.measurements, conditions=seen.conditions, settings=seen.settings,
        runtime="onnxruntime", runtime_version="1.20.1", threads=1, outcome=Outcome.COMPLETED,
    )  # fmt: skip


@pytest.fixture(scope="module")
def good() -> RecordedBaseline:
    recorded = soak_numbers(facts_of([stored(0.5e6)], "release"))
    assert recorded is not None
    return recorded


def test_only_the_slopes_of_a_soak_travel_with_it(good):
    assert {n.measurement.metric for n in good.numbers} == {
        "rss_drift_bytes_per_h", "fds_drift_per_h", "threads_drift_per_h", "latency_p99_drift_ns_per_h",
        "throughput_drift_per_s_per_h",
    }  # fmt: skip
    assert soak_numbers(None) is None
    assert soak_numbers(facts_of([records.run("001-latency")])) is None
    told = about(good)
    assert about_of({"id": "x", "about": about_to_plain(told)}) == told


@pytest.mark.parametrize(("per_h", "verdict"), [(0.5e6, Verdict.PASS), (1.2e6, Verdict.FAIL)])
def test_what_a_soak_leaks_beyond_the_known_good_one_is_judged(good, per_h, verdict):
    found = observe(leaking(per_h), about(good), "id")
    rows = {m.scenario: m for m in found.measurements if m.metric == "rss_drift_bytes_per_h"}
    assert set(rows) == {None, "soak, against the baseline"}
    judged = {scenario: judge(m, None, METRICS[m.metric].direction) for scenario, m in rows.items()}
    assert judged[None].verdict is Verdict.PASS  # there is headroom for 30 days
    assert judged["soak, against the baseline"].verdict is verdict
    assert "the known good soak drifts by 500 kB/h; limit: a tenth of its own" in " ".join(
        judged["soak, against the baseline"].reasons
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 4}, "threads is 4, expected 1"),
        ({"runtime_version": "1.21"}, "runtime is onnxruntime==1.21, expected onnxruntime==1.20.1"),
    ],
)
def test_another_build_is_not_held_against_it_and_says_so(good, change, said):
    measurements, (condition,) = known_good(about(good, **change))
    assert measurements == ()
    assert condition.ok is None
    assert said in condition.observed
    found = observe(leaking(0.5e6), about(good, **change), "id")
    assert not [m for m in found.measurements if "baseline" in (m.scenario or "")]
    assert condition in found.conditions


def test_times_under_another_governor_are_not_held_against_it(good):
    def recorded(governor: str | None) -> RecordedBaseline:
        return replace(good, numbers=tuple(replace(n, governor=governor) for n in good.numbers))

    for theirs, ours in (("ondemand", "ondemand"), (None, "ondemand"), ("ondemand", None)):
        assert known_good(about(recorded(theirs)), ours) == (recorded(theirs).measurements, ())
    kept, (condition,) = known_good(about(recorded("performance")), "ondemand")
    assert {m.metric for m in kept} == {"rss_drift_bytes_per_h", "fds_drift_per_h", "threads_drift_per_h"}
    assert condition.observed == "times not compared: governor ondemand, performance recorded"
    assert condition.ok is None
