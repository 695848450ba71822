"""Each measurement over the real agent and runtime, on this host. On the emulated board: test_comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny import MODELS

from harness import board as boards
from harness import model_files, runtimes
from harness.errors import ConfigError
from harness.measure import scenarios
from harness.measure.accuracy import infer_all, measure_accuracy
from harness.measure.against import measure_accuracy_against, measure_size_against
from harness.measure.bench import Bench
from harness.measure.memory import measure_memory, measure_memory_against
from harness.measure.prepare import prepare
from harness.model import Device, Fidelity, PlanModel
from harness.progress import Progress

DEMO = Path(__file__).resolve().parents[2] / "models"
SAMPLES = 300  # of digits_test.npz

Ready = Callable[..., Bench]


def demo(name: str, **more: Any) -> PlanModel:
    return PlanModel(
        name, DEMO / f"{name}.onnx", inputs_path=DEMO / "digits_test.npz", task="accuracy", **more
    )


def tiny(name: str = "tiny") -> PlanModel:
    return PlanModel(name, MODELS / f"{name}.onnx")


def make_ready(board: boards.Board, model: PlanModel) -> Bench:
    case = model_files.resolve_case(model)
    found = runtimes.descriptor(case.runtime, case.artifact.format)
    return prepare(board, case, found, threads=1, progress=Progress(None))


@pytest.fixture(scope="module")
def ready(local_device: Device) -> Iterator[Ready]:
    """A function that makes a model ready on this host."""
    board = boards.open_board(local_device, boards.NATIVE, [], Progress(None))
    yield lambda model: make_ready(board, model)
    board.close()


def value_of(seen: Any, metric: str) -> Any:
    return next(m for m in seen.measurements if m.metric == metric)


def test_quantised_against_fp32_sample_by_sample(ready):
    ours, theirs = ready(demo("digits_int8")), ready(demo("digits_fp32"))
    seen = measure_accuracy_against(ours, theirs, "fp32")
    (accuracy,) = seen.comparisons
    counts = [accuracy.settings[k] for k in ("both", "only_candidate", "only_baseline", "neither")]
    assert sum(counts) == accuracy.n == SAMPLES
    assert accuracy.value == pytest.approx((counts[1] - counts[2]) / SAMPLES)
    assert accuracy.low < accuracy.value < accuracy.high
    assert value_of(seen, "baseline_agreement").value > 0.95
    (size,) = measure_size_against(ours, theirs, "fp32").comparisons
    assert size.value == pytest.approx(182030 / 461057)


def test_a_model_against_itself_is_the_same_in_every_sample(ready):
    model = ready(demo("digits_fp32"))
    (accuracy,) = measure_accuracy_against(model, model, "itself").comparisons
    assert accuracy.value == 0.0
    assert accuracy.settings["only_candidate"] == accuracy.settings["only_baseline"] == 0


def test_golden_outputs_of_the_same_runtime(ready, tmp_path):
    model = ready(demo("digits_fp32"))
    outputs = infer_all(model, "golden")
    (name, scores) = next(iter(outputs.items()))
    changed = scores.copy()
    changed[:30] += 1.0
    for array, share in ((scores, 1.0), (changed, 0.9)):
        np.savez(tmp_path / "golden.npz", **{name: array})
        case = replace(model.case, golden_path=tmp_path / "golden.npz")
        seen = measure_accuracy(replace(model, case=case), model)
        assert value_of(seen, "golden_agreement").value == pytest.approx(share)


def test_memory_by_batch_and_in_turns(ready):
    model = ready(tiny())
    seen = measure_memory(model)
    by_batch = seen.settings["peak_rss_bytes_by_batch"]
    assert list(by_batch) == ["1", "2", "4", "8"]
    assert by_batch["1"] == value_of(seen, "peak_rss_bytes").value
    against = measure_memory_against(model, model, "itself", seed=1)
    dirty = next(c for c in against.comparisons if c.metric == "private_dirty_bytes")
    assert dirty.value == pytest.approx(1.0, rel=0.1)
    assert measure_memory(ready(tiny("fixed_batch"))).settings["refused_batch_sizes"].keys() == {"2"}


def test_a_limit_is_kept_or_the_reason_is_told(ready):
    model = ready(tiny())
    model = replace(model, case=replace(model.case, memory_limit_bytes=1 << 30))
    kills = value_of(measure_memory(model), "oom_kills")
    assert kills.value == 0.0 or (kills.value is None and "not measured under its limit" in kills.reasons[0])


@pytest.mark.parametrize(
    ("name", "said"), [("tiny", "one batch"), ("fixed_batch", "8 calls one after the other")]
)
def test_several_samples_at_once(ready, name, said):
    seen = scenarios.measure_multi_stream(ready(tiny(name)), 8)
    assert seen.settings["query_is"] == said
    assert value_of(seen, "latency_p99_ns").high is not None
    assert value_of(seen, "throughput_per_s").value > 0


def test_queries_that_arrive_at_random(ready):
    model = ready(tiny())
    seen = scenarios.measure_server(model, rate_per_s=1000.0, duration_s=1.0, seed=7)
    assert seen.settings["queries"] == len(seen.series[0].values) == 1000
    assert set(seen.series[0].process) == {0, 1, 2, 3}
    assert value_of(seen, "latency_p50_ns").value > 0
    assert {m.fidelity for m in seen.measurements} == {Fidelity.MEASURED}
    with pytest.raises(ConfigError, match=r"beyond what it can reach"):
        scenarios.measure_server(model, rate_per_s=1e9, seed=7)


def test_the_highest_rate_is_shown_by_the_rates_that_were_tried(ready):
    seen = scenarios.measure_server(ready(demo("digits_int8")), p99_budget_ns=500e6, duration_s=0.5, seed=7)
    found = value_of(seen, "server_rate_per_s")
    rates = seen.settings["rates"]
    assert rates
    held = [r for r in rates if r["met"]]
    assert all(r["p99_high_ns"] <= 500e6 for r in held)
    if not held:  # a busy host stalls a process for long enough to leave each rate open
        assert found.value is None
        assert "was not shown to keep it" in found.reasons[0]
        return
    assert found.value == max(r["rate_per_s"] for r in held)
    assert found.low <= found.value < found.high <= seen.settings["capacity_per_s"]


def test_frames_that_come_one_a_period(ready):
    seen = scenarios.measure_periodic(ready(tiny()), 2e6, 10e9)
    assert value_of(seen, "deadline_miss_ratio").value == 0.0
    late = seen.series[1]
    assert (late.name, len(late.values)) == ("start_jitter_ns", seen.settings["queries"])
    assert (late.values >= 0).all()
