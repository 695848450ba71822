"""JUnit and Markdown: each verdict in the shape that CI understands, names from outside kept harmless."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from support import records

from harness.model import ErrorRecord, Outcome, Release, Run, SessionRecord, Verdict
from harness.report import release_junit, release_markdown, write_report
from harness.report.markdown import escaped

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>|`$x$`@team\x00\x1b[31m\n# h'


def _junit(tmp_path: Path, *runs: Run, record: SessionRecord | None = None) -> ET.Element:
    return ET.parse(write_report(records.write_session(tmp_path, record, runs)).junit_xml).getroot()


def _markdown(tmp_path: Path, *runs: Run) -> str:
    return write_report(records.write_session(tmp_path, None, runs)).summary_md.read_text()


@pytest.mark.parametrize(
    ("changes", "tag", "word"),
    [
        ({"measurements": (records.measurement("model_size_bytes", 9e9),)}, "failure", "FAIL: "),
        ({"outcome": Outcome.MODEL_REJECTED, "error": ErrorRecord("x", "op")}, "failure", "FAIL: op"),
        ({"outcome": Outcome.INVALID, "reason": "throttled"}, "failure", "INVALID: throttled"),
        ({"outcome": Outcome.INFRA_ERROR, "error": ErrorRecord("x", "gone")}, "error", "INFRA_ERROR: gone"),
        ({"outcome": Outcome.SKIPPED, "reason": "no sensor"}, "skipped", "NOT_JUDGED: no sensor"),
        (
            {"measurements": (records.measurement("accuracy", 0.951, low=0.93, high=0.97),)},
            "failure",
            "INCONCLUSIVE: ",
        ),
    ],
)
def test_each_verdict_has_its_element_and_word(
    tmp_path: Path, changes: dict[str, Any], tag: str, word: str
) -> None:
    root = _junit(tmp_path, records.run(**changes))
    (case,) = root.iter("testcase")
    assert [child.tag for child in case if child.tag != "system-out"] == [tag]
    found = case.find(tag)
    assert found is not None
    assert found.get("message", "").startswith(word)


def test_a_pass_is_a_bare_case(tmp_path: Path) -> None:
    (case,) = _junit(tmp_path, records.run()).iter("testcase")
    assert [child.tag for child in case] == ["system-out"]
    assert case.get("classname") == "deploy.digits_fp32_onnx.rpi4-emulated"
    assert case.get("name") == "model_size_bytes"


def test_counts_and_times_add_up(tmp_path: Path) -> None:
    root = _junit(tmp_path, *records.sample_runs())
    cases = list(root.iter("testcase"))
    assert root.get("tests") == str(len(cases))
    assert root.get("errors") == "1"
    assert float(root.get("time", "0")) == pytest.approx(sum(r.duration_s for r in records.sample_runs()))
    assert sum(int(suite.get("tests", "0")) for suite in root) == len(cases)


def test_scenario_and_batch_tell_cases_apart(tmp_path: Path) -> None:
    root = _junit(tmp_path, *records.model_runs("digits_fp32_onnx"))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)
    assert ("latency.digits_fp32_onnx.rpi4-emulated", "throughput_per_s [offline, batch 8]") in names


def test_untrusted_evidence_fails(tmp_path: Path) -> None:
    folder = records.write_session(tmp_path, runs=[records.run()])
    (folder / "runs" / "001-deploy" / "run.json").write_text("{")
    root = ET.parse(write_report(folder).junit_xml).getroot()
    assert root.get("failures") == "1"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    run = records.run(model=HOSTILE, outcome=Outcome.INVALID, reason=HOSTILE)
    (case,) = _junit(tmp_path, run).iter("testcase")
    failure = case.find("failure")
    assert failure is not None
    assert "<script>alert(1)</script>" in failure.get("message", "")
    assert "\x00" not in failure.get("message", "")


def test_the_summary_leads_with_the_verdict(tmp_path: Path) -> None:
    lines = _markdown(tmp_path, *records.sample_runs()).splitlines()
    assert lines[0].startswith("## ")
    assert "INFRA_ERROR" in lines[0]
    assert any(line.startswith("### ") and "Release: INFRA_ERROR" in line for line in lines)
    table = [line for line in lines if line.startswith("| ")]
    assert all(line.count(" | ") == 7 for line in table)
    assert any("virtual" in line for line in table)


def test_the_summary_says_what_virtual_means(tmp_path: Path) -> None:
    assert "they are not a Pi's milliseconds" in _markdown(tmp_path, *records.model_runs("digits_fp32_onnx"))
    assert "milliseconds" not in _markdown(tmp_path / "b", records.run())


def test_hostile_names_break_no_markdown(tmp_path: Path) -> None:
    text = _markdown(tmp_path, records.run(model=HOSTILE))
    assert "<script" not in text
    assert "<img" not in text
    assert "@team" not in text
    rows = [line for line in text.splitlines() if "alert" in line and line.startswith("| ")]
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("digits_int8_onnx", "digits_int8_onnx"),
        ("_x_", r"\_x\_"),
        ("a|b", r"a\|b"),
        ("- item", r"\- item"),
        ("1. one", r"1\. one"),
        ("1.5 ms", "1.5 ms"),
        ("name@litert", "name&#64;litert"),
        ("two\nlines", "two lines"),
        ("a\\", "a\\\\"),
    ],
)
def test_markdown_escapes_only_what_it_must(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_release_is_told_in_both_forms() -> None:
    release = Release(Verdict.INVALID, ("memory was not run",), ("FAIL: why",))
    markdown = release_markdown(release, [])
    assert markdown.startswith("## ")
    assert "INVALID" in markdown.splitlines()[0]
    assert "- memory was not run" in markdown
    root = ET.fromstring(release_junit(release, []).encode())
    (failure,) = root.iter("failure")
    assert failure.get("message") == "INVALID: memory was not run\nFAIL: why"


def test_what_has_no_budget_is_folded_away(tmp_path: Path) -> None:
    text = _markdown(tmp_path, *records.model_runs("digits_fp32_onnx"))
    shown, _, folded = text.partition("<details><summary>14 without a budget</summary>")
    assert "NOT_JUDGED" not in shown
    assert folded.count("NOT_JUDGED") == 14


def test_a_comment_stays_within_what_a_forge_accepts(tmp_path: Path) -> None:
    runs = [
        replace(run, run_id=f"{n}-{run.run_id}", model=f"model_with_a_long_name_{n}")
        for n in range(40)
        for run in records.model_runs("digits_fp32_onnx")[:1]
    ]
    assert len(_markdown(tmp_path, *runs, *records.sample_runs())) < 65_536


def test_a_long_list_is_cut_with_a_count() -> None:
    release = Release(Verdict.INVALID, tuple(f"missing {n}" for n in range(50)))
    assert "- and 30 more, in the report" in release_markdown(release, [])
