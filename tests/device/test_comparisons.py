"""A session that compares, on the emulated board: what its virtual clock shows, and a limit that kills."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import jsonschema
import pytest
from support.repository import Finished, Repository
from support.tiny import MODELS

from harness.measure.duet import VIRTUAL
from harness.store import read_session

pytestmark = pytest.mark.device
SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"
DEMO = Path(__file__).resolve().parents[2] / "models"
FP32 = str(DEMO / "digits_fp32.onnx")
PLAN = f"""
[release]
device_types = ["rpi4"]
[models.same]
path = "{FP32}"
baseline = "{FP32}"
[models.int8]
path = "{DEMO}/digits_int8.onnx"
baseline = "{FP32}"
[models.limited]
path = "{MODELS}/tiny.onnx"
memory_limit = "24 MB"
"""
# starting a process takes seconds there: what is tested is what happens at the limit
ONE_PROCESS = """
from harness.measure import memory

memory.PROCESSES, memory.EMULATED_BATCH_SIZES = 1, (1,)
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One session on a board that no other session has, and that is asked for a governor it can't have."""
    repository = Repository.make(tmp_path_factory.mktemp("compare") / "theirs")
    repository.write_plan(PLAN)
    name = f"rpi4-{secrets.token_hex(4)}"
    devices = repository.root / "devices.toml"
    text = devices.read_text().replace("rpi4-emulated", name)
    devices.write_text(text.replace("[types.rpi4]\n", '[types.rpi4]\ngovernor = "performance"\n'))
    with (repository.root / "suites" / "conftest.py").open("a") as file:
        file.write(ONE_PROCESS)
    wanted = "(test_latency and against) or (test_peak_memory and limited)"
    return repository.pytest("--device", name, "-k", wanted)


def comparison(done: Finished, model: str, metric: str) -> dict:
    (row,) = (r for r in done.results(metric) if r["model"] == model and r.get("comparison"))
    return row


def test_the_limit_alone_fails(done):
    assert done.returncode == 1, done.output
    assert "2 passed" in done.output
    assert "1 failed" in done.output
    jsonschema.validate(done.summary(), json.loads(SCHEMA.read_text()))


def test_a_model_against_itself_is_the_same_within_a_thousandth(done):
    row = comparison(done, "same", "latency_p50_ns")
    assert (row["verdict"], row["fidelity"], row["margin"]) == ("PASS", "virtual", 0.001), row["reasons"]
    assert row["comparison"]["method"] == "duet"
    assert 0.999 < row["comparison"]["low"] <= row["comparison"]["value"] <= row["comparison"]["high"] < 1.001


def test_few_duets_do_on_a_virtual_clock(done):
    for run in read_session(done.folder).runs:
        if run.settings["kind"] != "duet":
            continue
        for key in ("duets", "looks", "pairs", "settle_ns"):
            assert run.settings[key] == getattr(VIRTUAL, key)
        assert (run.settings["profile"], run.settings["cpus"]) == ("timing", [0])
        duets = VIRTUAL.duets * run.settings["looks_taken"]
        for arm in ("candidate", "baseline"):
            (series,) = (s for s in run.series if (s.name, s.arm) == ("latency_ns", arm))
            assert set(series.process.tolist()) == set(range(duets))
            assert set(series.block.tolist()) == set(range(VIRTUAL.pairs))


def test_the_exact_change_of_instructions_is_shown(done):
    same, int8 = (comparison(done, model, "instructions") for model in ("same", "int8"))
    assert same["comparison"]["value"] == pytest.approx(1, abs=5e-4)
    assert int8["comparison"]["high"] < 0.75
    for row in (same, int8):
        assert row["verdict"] == "NOT_JUDGED"
        assert row["comparison"]["low"] <= row["comparison"]["value"] <= row["comparison"]["high"]
        assert row["comparison"]["high"] / row["comparison"]["low"] < 1.001
        assert f"against `{FP32}`" in row["reasons"][0]


def test_the_quantised_model_is_faster(done):
    row = comparison(done, "int8", "latency_p50_ns")
    assert row["verdict"] == "PASS", row["reasons"]
    assert row["comparison"]["high"] < 0.75
    # each takes as long as its instructions do on this clock
    instructions = comparison(done, "int8", "instructions")["comparison"]["value"]
    assert row["comparison"]["value"] == pytest.approx(instructions, rel=0.01)


def test_too_few_samples_for_a_tail_say_how_many_it_takes(done):
    row = comparison(done, "same", "latency_p99_ns")
    assert (row["verdict"], row["comparison"]["low"]) == ("NOT_JUDGED", None)
    assert any("can't bound the ratio of p99s; " in reason for reason in row["reasons"])


def test_a_governor_that_cannot_be_set_leaves_virtual_times_alone(done):
    for run in read_session(done.folder).runs:
        (line,) = (c for c in run.conditions if c.name == "governor")
        assert (line.expected, line.ok) == ("performance", None)
        assert line.observed.startswith("not set: ")
        assert run.settings["governor_set"]["asked"] == "performance"
        assert all(c.ok is not False for c in run.conditions)


def test_out_of_memory_under_the_plans_limit_is_a_fail_with_figures(done):
    row = next(r for r in done.results("oom_kills"))
    assert (row["verdict"], row["value"], row["model"]) == ("FAIL", 1, "limited")
    (said,) = (reason for reason in row["reasons"] if reason.startswith("killed at its limit of 24.0 MB"))
    assert "without one it needs " in said
    assert f"FAIL: {row['reasons'][0]}; {said}" in done.output
    peak = next(r for r in done.results("cgroup_peak_bytes"))
    assert 20_000_000 < peak["value"] <= 24_000_000
    assert [r["verdict"] for r in done.results("peak_rss_bytes")] == [
        "NOT_JUDGED"
    ]  # it is measured all the same
