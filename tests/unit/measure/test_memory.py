"""Memory of fresh processes on a scripted device: limits, batches, turns, and what a kernel doesn't show."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import AgentError, ModelRejected, RuntimeUnavailable, Unsupported
from harness.judging import judge
from harness.margins import judge_alone
from harness.measure.memory import COMPARED, measure_memory, measure_memory_against
from harness.metrics import LOWER, METRICS
from harness.model import Artifact, Method, ModelCase, RuntimeSpec, Verdict
from harness.remote import MemorySample

MB = 1_000_000
OOM = {"oom": True, "cgroup_peak_bytes": 48 * MB, "cgroup_max_bytes": 48 * MB}
Script = Callable[[str, int, Any], Any]  # (name, batch size, cgroup) → sizes in MB, or raises


def sample(rss: float, dirty: float | None = 20, pages: float | None = 3, peak: float | None = None) -> Any:
    def size(number: float | None) -> int | None:
        return None if number is None else int(number * MB)

    rss_bytes = int(rss * MB)
    return MemorySample(
        rss_bytes,
        rss_bytes,
        rss_bytes,
        rss_bytes - MB,
        MB,
        MB,
        MB,
        size(dirty),
        1,
        9,
        1,
        1,
        model_pages_bytes=size(pages),
        cgroup_peak_bytes=size(peak),
    )


def bench(script: Script, *, kind: str = "ssh", limit: int | None = None, name: str = "door") -> Any:
    spawned: list[str] = []

    @contextmanager
    def child(label: str, *, batch_size: int = 1, cgroup: Any = None, **_: Any) -> Any:
        spawned.append(label)
        taken = script(label, batch_size, cgroup)
        nothing = SimpleNamespace()
        yield SimpleNamespace(sample=lambda: taken, first=lambda: 1, measure=lambda **_: nothing), 1

    artifact = Artifact(name, Path(name), "0" * 64, 10, "onnx")
    return SimpleNamespace(
        child=child,
        spawned=spawned,
        case=ModelCase(artifact, RuntimeSpec("onnxruntime"), memory_limit_bytes=limit),
        board=SimpleNamespace(
            device=SimpleNamespace(name="pi", kind=kind),
            facts=SimpleNamespace(details={"ram_bytes": 4000 * MB}),
        ),
        env=SimpleNamespace(packages=()),
        progress=SimpleNamespace(count=lambda *a: None, say=lambda *a: None),
    )


def value_of(seen: Any, metric: str, batch_size: int = 1) -> Any:
    (found,) = [m for m in seen.measurements if (m.metric, m.batch_size) == (metric, batch_size)]
    return found


def test_the_largest_of_fresh_processes_and_pages_of_the_model_apart():
    sizes = {"memory-0": 60, "memory-1": 68, "memory-2": 61}
    seen = measure_memory(bench(lambda label, batch, cgroup: sample(sizes.get(label, 70 + batch))))
    rss = value_of(seen, "peak_rss_bytes")
    assert (rss.value, rss.low, rss.high, rss.n) == (68 * MB, 60 * MB, 68 * MB, 3)
    assert value_of(seen, "model_pages_bytes").value == 3 * MB
    assert value_of(seen, "private_dirty_bytes").value == 20 * MB
    assert seen.settings["peak_rss_bytes_by_batch"] == {
        "1": 68 * MB,
        "2": 72 * MB,
        "4": 74 * MB,
        "8": 78 * MB,
    }
    assert value_of(seen, "peak_rss_bytes", batch_size=8).value == 78 * MB
    assert value_of(seen, "peak_rss_bytes", batch_size=8).high is None


def test_what_the_kernel_does_not_show_has_no_value():
    seen = measure_memory(bench(lambda *_: sample(60, dirty=None, pages=None)))
    for metric in ("private_dirty_bytes", "model_pages_bytes"):
        found = value_of(seen, metric)
        assert (found.value, found.reasons) == (None, ("the device's kernel doesn't show it",))


def test_a_fixed_batch_is_asked_once():
    def script(label: str, batch: int, cgroup: Any) -> Any:
        if batch > 1:
            raise Unsupported("input `x`: the model's batch is fixed to 1, asked for 2.")
        return sample(60)

    made = bench(script)
    seen = measure_memory(made)
    assert seen.settings["peak_rss_bytes_by_batch"] == {"1": 60 * MB}
    assert list(seen.settings["refused_batch_sizes"]) == ["2"]
    assert len(made.spawned) == 4


def test_a_batch_too_large_for_the_device_is_no_failure_of_the_model():
    def script(label: str, batch: int, cgroup: Any) -> Any:
        if batch > 4:
            raise ModelRejected("out of memory: child was killed by the kernel.", details={"oom": True})
        return sample(60)

    seen = measure_memory(bench(script))
    assert list(seen.settings["peak_rss_bytes_by_batch"]) == ["1", "2", "4"]
    assert "out of memory" in seen.settings["refused_batch_sizes"]["8"]


def under_limit(error: Exception | None) -> Script:
    def script(label: str, batch: int, cgroup: Any) -> Any:
        if cgroup == {"memory_max_bytes": 48 * MB}:
            if error is not None:
                raise error
            return sample(60, peak=41)
        return sample(69, peak=52 if cgroup else None)

    return script


@pytest.mark.parametrize("death", [ModelRejected, RuntimeUnavailable])
def test_a_kill_at_the_limit_is_a_fail_with_the_figures(death):
    seen = measure_memory(bench(under_limit(death("out of memory.", details=OOM)), limit=48 * MB))
    kills = value_of(seen, "oom_kills")
    assert (kills.value, kills.limit) == (1.0, 0.0)
    judged = judge(kills, None, LOWER)
    assert judged.verdict is Verdict.FAIL
    said = "killed at its limit of 48.0 MB; without one it needs 52.0 MB (peak RSS 69.0 MB)"
    assert said in judged.reasons
    assert value_of(seen, "cgroup_peak_bytes").value == 48 * MB
    assert seen.settings["needs_bytes"] == 52 * MB


def test_a_process_within_its_limit_passes_with_its_peak():
    seen = measure_memory(bench(under_limit(None), limit=48 * MB))
    assert judge(value_of(seen, "oom_kills"), None, LOWER).verdict is Verdict.PASS
    assert value_of(seen, "cgroup_peak_bytes").value == 41 * MB


def test_a_device_without_cgroups_is_not_judged_and_says_why():
    seen = measure_memory(bench(under_limit(Unsupported("cgroup v2 is not mounted.")), limit=48 * MB))
    kills = value_of(seen, "oom_kills")
    judged = judge(kills, None, LOWER)
    assert judged.verdict is Verdict.NOT_JUDGED
    assert judged.reasons == ("not measured under its limit of 48.0 MB: cgroup v2 is not mounted.",)
    assert seen.settings["memory_limit_not_set"] == "cgroup v2 is not mounted."


@pytest.mark.parametrize(
    "error",
    [ModelRejected("the runtime crashed.", details={"signal": 11}), AgentError("something ended it.")],
)
def test_another_death_under_the_limit_stays_what_it_is(error):
    with pytest.raises(type(error)):
        measure_memory(bench(under_limit(error), limit=48 * MB))


def test_without_a_limit_no_cgroup_is_asked_for():
    asked: list[Any] = []

    def script(label: str, batch: int, cgroup: Any) -> Any:
        asked.append(cgroup)
        return sample(60)

    seen = measure_memory(bench(script))
    assert set(asked) == {None}
    assert "oom_kills" not in {m.metric for m in seen.measurements}


def test_two_models_take_turns_and_drift_drops_out():
    clock = {"turn": 0}

    def growing(base: float) -> Script:
        def script(*_: Any) -> Any:
            clock["turn"] += 1  # every later process takes 1% more, whichever it is
            return sample(base * 1.01 ** clock["turn"], dirty=base, pages=base)

        return script

    seen = measure_memory_against(bench(growing(66)), bench(growing(60), name="old"), "release", seed=5)
    by_metric = {c.metric: c for c in seen.comparisons}
    assert set(by_metric) == set(COMPARED)
    rss = by_metric["peak_rss_bytes"]
    assert rss.method is Method.ABBA
    assert rss.value == pytest.approx(1.1, rel=1e-6)
    assert rss.low == pytest.approx(1.1, rel=1e-5)
    assert rss.df == 1
    order = seen.settings["order"]
    assert len(order) == 8
    assert {order[:4], order[4:]} <= {"ABBA", "BAAB"}
    dirty = by_metric["private_dirty_bytes"]
    assert judge_alone(dirty, 0.05, METRICS["private_dirty_bytes"]).verdict is Verdict.FAIL
    assert judge_alone(dirty, 0.15, METRICS["private_dirty_bytes"]).verdict is Verdict.PASS
    arms = [(s.name, s.arm, len(s.values)) for s in seen.series]
    assert ("peak_rss_bytes", "candidate", 4) in arms
    assert ("peak_rss_bytes", "baseline", 4) in arms


def test_one_quadruple_on_an_emulated_board_spans_what_it_saw():
    sizes = iter([66, 61, 60, 67] * 2)
    given: dict[str, list[float]] = {"new": [], "old": []}

    def script_of(name: str) -> Script:
        def script(*_: Any) -> Any:
            given[name].append(next(sizes))
            return sample(given[name][-1])

        return script

    seen = measure_memory_against(
        bench(script_of("new"), kind="qemu"), bench(script_of("old"), kind="qemu"), "release", seed=5
    )
    rss = seen.comparisons[0]
    assert rss.low == pytest.approx(min(given["new"]) / max(given["old"]))
    assert rss.high == pytest.approx(max(given["new"]) / min(given["old"]))
    assert rss.low <= rss.value <= rss.high
    assert "smallest to largest of 2 fresh processes" in rss.reasons[0]


@pytest.mark.parametrize(
    ("pages", "said"),
    [(0, "neither of the two has its model file mapped"), (None, "the device's kernel doesn't show it")],
)
def test_pages_that_are_not_there_have_no_ratio(pages, said):
    seen = measure_memory_against(
        bench(lambda *_: sample(60, pages=pages)),
        bench(lambda *_: sample(60, pages=pages)),
        "release",
        seed=1,
    )
    (c,) = [c for c in seen.comparisons if c.metric == "model_pages_bytes"]
    assert c.value is None
    assert said in c.reasons[0]
    assert judge_alone(c, None, METRICS["model_pages_bytes"]).verdict is Verdict.NOT_JUDGED


def test_the_order_follows_the_seed():
    def order(seed: int) -> str:
        made = bench(lambda *_: sample(60)), bench(lambda *_: sample(60))
        return str(measure_memory_against(*made, "release", seed=seed).settings["order"])

    assert order(4) == order(4)
    assert len({order(seed) for seed in range(8)}) > 1
