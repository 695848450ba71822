"""The report's four files over one synthetic session that shows every verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support import records

from harness.gate import release_verdict
from harness.model import Condition, ErrorRecord, Outcome, Run
from harness.report import ReportPaths, release_junit, release_markdown, write_report
from harness.report.data import build_report
from harness.store import read_session

Golden = Callable[..., None]


def every_verdict() -> tuple[Run, ...]:
    """Return runs that pass, fail, can't be decided, are invalid, were lost and retried, or skipped."""
    fp32, int8 = records.model_runs("digits_fp32_onnx"), records.model_runs("digits_int8_onnx", first=6)
    hot = Condition("throttling", "0x0 before, 0x4 after", "no bit set", False, "Cool the board.")
    lost = ErrorRecord("connection-lost", "rpi4-emulated: the peer went away after 12.0 s.", 0)
    size = records.measurement("model_size_bytes", 250_000.0, n=1)
    doubtful = records.measurement("accuracy", 0.953, low=0.94, high=0.965, n=300)
    changed = {
        "deploy": {"measurements": (size,)},
        "accuracy": {"measurements": (doubtful,)},
        "latency": {"conditions": (*records.CONDITIONS, hot)},
    }
    return (
        *fp32,
        *(replace(run, **changed.get(run.suite, {})) for run in int8),  # type: ignore[arg-type]
        records.run("011-deploy", started_at="2026-01-02T03:04:30.000+00:00",
                    outcome=Outcome.INFRA_ERROR, error=lost, measurements=(), model="digits_int8_tflite", log="connecting\n"),
        records.run("012-deploy", started_at="2026-01-02T03:04:40.000+00:00", attempt=2,
                    outcome=Outcome.MODEL_REJECTED, measurements=(), model="digits_int8_tflite",
                    error=ErrorRecord("model-rejected", "litert: op CUSTOM_X is not supported.", 1)),
        records.run("013-soak", started_at="2026-01-02T03:04:50.000+00:00", suite="soak",
                    outcome=Outcome.SKIPPED, reason="the device shows no temperature", measurements=()),
    )  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return write_report(records.write_session(tmp_path_factory.mktemp("golden"), runs=every_verdict()))


def test_html(paths: ReportPaths, golden: Golden) -> None:
    golden("report.html", paths.html.read_text(), ("drawing", "data", "style"))


def test_summary_json(paths: ReportPaths, golden: Golden) -> None:
    golden("summary.json", paths.summary_json.read_text())


def test_summary_md(paths: ReportPaths, golden: Golden) -> None:
    golden("summary.md", paths.summary_md.read_text())


def test_junit_xml(paths: ReportPaths, golden: Golden) -> None:
    golden("junit.xml", paths.junit_xml.read_text())


def test_budgets_are_suggested(tmp_path: Path, golden: Golden) -> None:
    record = records.session(plan={}, plan_path=None)
    folder = records.write_session(tmp_path, record, records.model_runs("digits_int8_tflite"))
    golden("budgets.toml", build_report(read_session(folder)).budgets_toml)


def test_release(paths: ReportPaths, golden: Golden) -> None:
    data = build_report(read_session(paths.html.parent))
    release = release_verdict(data.results, data.runs, data.plan)
    golden("release.md", release_markdown(release, data.results))
    golden("release-junit.xml", release_junit(release, data.results))
