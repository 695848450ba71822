"""The report's four files over one synthetic session that shows every verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import compared, records, soaks

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
    changed: dict[str, dict[str, Any]] = {
        "deploy": {"measurements": (size,)},
        "accuracy": {"measurements": (doubtful,)},
        "latency": {"conditions": (*records.CONDITIONS, hot)},
    }
    tflite: dict[str, Any] = {"model": "digits_int8_tflite", "runtime": "litert", "runtime_version": "2.3.0"}
    refused = ErrorRecord("model-rejected", "litert: op CUSTOM_X is not supported.", 1)
    skipped = replace(fp32[0], suite="soak", reason="the device shows no temperature", measurements=())
    return (
        *fp32,
        *(replace(run, **changed.get(run.suite, {})) for run in int8),
        _later("011-deploy", 30, outcome=Outcome.INFRA_ERROR, error=lost, log="connecting\n", **tflite),
        _later("012-deploy", 40, outcome=Outcome.MODEL_REJECTED, error=refused, attempt=2, **tflite),
        replace(skipped, run_id="013-soak", outcome=Outcome.SKIPPED),
    )


def _later(run_id: str, second: int, **changes: Any) -> Run:
    """Return a run without numbers that started at `second` of the session's minute."""
    return records.run(run_id, started_at=f"2026-01-02T03:04:{second}.000+00:00", measurements=(), **changes)


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


def test_summary_md_of_a_session_that_compares(tmp_path: Path, golden: Golden) -> None:
    folder = records.write_session(tmp_path, compared.session(), compared.comparing_runs())
    golden("compared.md", write_report(folder).summary_md.read_text())


def test_budgets_are_suggested(tmp_path: Path, golden: Golden) -> None:
    record = records.session(plan={}, plan_path=None)
    folder = records.write_session(tmp_path, record, records.model_runs("digits_int8_tflite"))
    golden("budgets.toml", build_report(read_session(folder)).budgets_toml)


def test_section_of_a_soak(tmp_path: Path, golden: Golden) -> None:
    made = soaks.soak_run(30, window_s=300)
    rows = [row for row in made.settings["soak"]["drift"] if row["kind"] == "rss_bytes"]
    run = replace(made, settings={**made.settings, "soak": {**made.settings["soak"], "drift": rows}})
    html = write_report(soaks.write_soak(tmp_path, run)).html.read_text()
    begin = html.index('<section class="soak"')
    golden("soak.html", html[begin : html.index("</section>", begin)], ("drawing", "data"))


def test_release(paths: ReportPaths, golden: Golden) -> None:
    data = build_report(read_session(paths.html.parent))
    release = release_verdict(data.results, data.runs, data.plan)
    golden("release.md", release_markdown(release, data.results))
    golden("release-junit.xml", release_junit(release, data.results))
