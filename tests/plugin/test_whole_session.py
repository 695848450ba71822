"""A whole session of a model without configuration: what a new user gets."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from harness.cli.main import main
from harness.plan import load_plan
from harness.store import read_session

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"


def test_it_passes_and_says_so(whole):
    assert whole.returncode == 0, whole.output
    assert "session  PASS" in whole.output
    assert "5 passed, 12 deselected in" in whole.output, whole.output  # no warning either


def test_a_pass_without_budgets_says_what_it_judges(repository):
    done = repository.local("tiny.onnx", "-k", "test_loads")
    assert done.returncode == 0
    assert "session  PASS  (exit code 0): measured, and judged by no budget" in done.output


def test_the_release_says_that_no_budgets_are_set(whole):
    release = whole.summary()["release"]
    assert release["verdict"] == "INVALID"
    assert any("budget" in line for line in release["missing"]), release


def test_the_summary_keeps_its_contract(whole):
    jsonschema.validate(whole.summary(), json.loads(SCHEMA.read_text()))
    summary = whole.summary()
    assert (summary["verdict"], summary["exit_code"]) == ("PASS", 0)
    assert summary["device"]["name"] == "local"


@pytest.mark.parametrize(
    "metric",
    [
        "model_size_bytes",
        "output_max_abs_error",
        "load_time_ns",
        "first_inference_ns",
        "latency_p50_ns",
        "latency_p90_ns",
        "latency_p95_ns",
        "latency_p99_ns",
        "throughput_per_s",
        "peak_rss_bytes",
        "peak_pss_bytes",
    ],
)
def test_every_metric_is_there_with_its_interval(whole, metric):
    rows = whole.results(metric)
    assert rows
    for row in rows:
        assert row["value"] is not None
        assert row["fidelity"] == "measured"
        if row["low"] is not None and row["high"] is not None:
            assert row["low"] <= row["value"] <= row["high"]


def test_a_p99_has_samples_enough_for_an_upper_bound(whole):
    row = whole.results("latency_p99_ns")[0]
    assert row["n"] >= 662
    assert row["high"] is not None


def test_outputs_are_judged_against_the_host(whole):
    assert [r["verdict"] for r in whole.results("output_max_abs_error")] == ["PASS"]


def test_the_report_offers_budgets_that_parse(whole, tmp_path):
    assert "[budgets.local" in (whole.folder / "summary.md").read_text()
    lines = (whole.folder / "summary.md").read_text().split("```toml\n")[1].split("```")[0]
    plan = tmp_path / "release.toml"
    plan.write_text('schema_version = 1\n[release]\ndevice_types = ["local"]\n' + lines)
    budgets = load_plan(plan).budgets
    assert {"latency_p99_ns", "peak_rss_bytes", "model_size_bytes"} <= {b.metric for b in budgets}


def test_pytest_benchmark_shows_device_time(whole):
    data = json.loads((whole.folder.parent / "bench.json").read_text())
    (row,) = data["benchmarks"]
    # of all samples together; the row's own p50 is of processes, which differ by more where others are busy
    (run,) = (r for r in read_session(whole.folder).runs if r.settings["kind"] == "single_stream")
    (samples,) = (s.values for s in run.series if s.name == "latency_ns")
    assert row["stats"]["median"] * 1e9 == pytest.approx(np.median(samples), rel=1e-3)
    assert row["stats"]["rounds"] >= 662
    assert row["extra_info"]["fidelity"] == "measured"
    assert row["group"] == "device clock of local"


def test_junit_tells_each_metric_and_its_test(whole):
    cases = list(ET.parse(whole.folder / "junit.xml").getroot().iter("testcase"))
    assert {"model_size_bytes", "output_max_abs_error", "peak_rss_bytes"} <= {c.get("name") for c in cases}
    text = "".join("".join(case.itertext()) for case in cases)
    for test in ("test_loads", "test_accuracy", "test_peak_memory", "test_single_stream", "test_offline"):
        assert test in text


def test_raw_samples_are_kept(whole):
    import pandas as pd

    frames = [pd.read_parquet(p) for p in whole.folder.glob("runs/*single_stream*/series.parquet")]
    assert sum((f["name"] == "latency_ns").sum() for f in frames) >= 662


def test_the_report_is_rebuilt_without_a_device(whole, capsys):
    html = (whole.folder / "report.html").read_bytes()
    (whole.folder / "report.html").unlink()
    assert main(["report", str(whole.folder)]) == 0
    assert (whole.folder / "report.html").read_bytes() == html
    assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["text", "json", "markdown", "junit"])
def test_the_gate_says_invalid_without_budgets(whole, capsys, form):
    assert main(["gate", str(whole.folder), "--format", form]) == 11
    assert "INVALID" in capsys.readouterr().out
