"""Candidates against baselines: every effect the right way round, and nothing compared shown as plain."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from support import compared, records

from harness.model import Condition, Effect, Fidelity, Method, Run, Verdict
from harness.report import ReportPaths, write_report
from harness.report.against import build_against, forest
from harness.report.data import ReportData, build_report
from harness.report.effects import amount, change_of, how_of, interval_of_change, margin_of, worsening
from harness.report.figures import build_figures
from harness.report.glance import build_glance
from harness.report.plots import draw
from harness.store import read_session

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "summary.schema.json").read_text())


def _data(tmp_path: Path, *runs: Run, **changes: Any) -> ReportData:
    return build_report(read_session(records.write_session(tmp_path, compared.session(**changes), runs)))


def _with(run: Run, **changes: Any) -> Run:
    """Return a run whose first comparison is changed and the only one."""
    return replace(run, comparisons=(replace(run.comparisons[0], **changes),))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    folder = tmp_path_factory.mktemp("compared")
    return write_report(records.write_session(folder, compared.session(), compared.comparing_runs()))


@pytest.fixture(scope="module")
def sample(written: ReportPaths) -> ReportData:
    return build_report(read_session(written.html.parent))


def _words(paths: ReportPaths) -> str:
    text = re.sub(r"<(style|svg)\b.*?</\1>", " ", paths.html.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


# --- words ----------------------------------------------------------------------------------------

POINTS: dict[str, Any] = {"metric": "accuracy", "effect": Effect.DIFFERENCE}


@pytest.mark.parametrize(
    ("changes", "change", "interval"),
    [
        ({"value": 1.012, "low": 1.009, "high": 1.015}, "+1.2%", "+0.9 to +1.5"),
        ({"value": 1.0123, "low": 1.0117, "high": 1.0129}, "+1.23%", "+1.17 to +1.29"),
        ({"value": 0.618, "low": 0.6, "high": 0.64}, "-38.2%", "-40.0 to -36.0"),
        ({"value": 1.5, "low": 1.2, "high": 1.9}, "+50%", "+20 to +90"),
        ({"value": 1.0, "low": 0.999, "high": 1.001}, "0%", "-0.1 to +0.1"),
        ({"value": 1.25, "low": 1.25, "high": 1.25}, "+25.0%", "exact"),
        ({"value": 1.012, "low": None, "high": None}, "+1.20%", "no interval"),
        ({"value": 1.012, "low": None, "high": 1.02}, "+1.20%", "at most +2.00"),
        ({"low": 1.009, "high": 1.015, "confidence": 0.956}, "+1.2%", "+0.9 to +1.5, at 95.6%"),
        ({"value": None, "low": None, "high": None}, "–", "–"),
        ({**POINTS, "value": -0.0067, "low": -0.018, "high": 0.005}, "-0.7 points", "-1.8 to +0.5"),
        ({**POINTS, "value": 0.01, "low": 0.01, "high": 0.01}, "+1.00 points", "exact"),
    ],
)  # fmt: skip
def test_a_change_has_the_digits_its_interval_bears(
    changes: dict[str, Any], change: str, interval: str
) -> None:
    c = compared.comparison(**changes)
    assert (change_of(c), interval_of_change(c)) == (change, interval)


@pytest.mark.parametrize(
    ("metric", "effect", "observed", "share"),
    [
        ("latency_p50_ns", Effect.RATIO, 1.02, 0.02),
        ("latency_p50_ns", Effect.RATIO, 0.98, -0.02),
        # 100/s down to 80/s: the old rate is 1.25 of the new one, the scale a margin is judged on
        ("throughput_per_s", Effect.RATIO, 0.8, 0.25),
        ("throughput_per_s", Effect.RATIO, 1.25, -0.2),
        ("accuracy", Effect.DIFFERENCE, -0.01, 0.01),
        ("deadline_miss_ratio", Effect.DIFFERENCE, 0.03, 0.03),
        ("rmse", Effect.DIFFERENCE, 0.03, None),
        ("latency_p50_ns", Effect.RATIO, 0.0, None),
        ("latency_p50_ns", Effect.RATIO, math.inf, None),
    ],
)
def test_worse_is_worse_whichever_way_a_metric_counts(
    metric: str, effect: Effect, observed: float, share: float | None
) -> None:
    c = compared.comparison(metric, observed, effect=effect, low=None, high=None)
    found = worsening(c, observed)
    assert found is None if share is None else found == pytest.approx(share)


def test_how_it_was_compared_is_said_with_its_number() -> None:
    assert how_of(compared.comparison(n=12)) == "duet, n = 12"
    assert how_of(compared.comparison(method=Method.RECORDED, n=300)) == "from memory, n = 300"
    assert how_of(compared.comparison(method=Method.EXACT, n=1)) == "exact"


def test_counts_are_told_in_full() -> None:
    assert amount(8_197_200.0, "1") == "8,197,200"
    assert amount(5.06e6, "ns") == "5.06 ms"
    assert amount(None, "1") == "–"


# --- the section ----------------------------------------------------------------------------------


def test_what_got_worse_is_said_first(sample: ReportData) -> None:
    against = build_against(sample)
    assert against is not None
    slow, fast = against.standings
    assert (slow.subject, slow.verdict.word) == ("digits_fp32_onnx", "FAIL")
    assert slow.said[0] == "worse than its margin allows: Latency p50 +1.20%"
    assert fast.subject == "digits_int8_onnx"
    assert any("within its margin: Latency p50 -38.20%" in line for line in fast.said)
    assert "sha256 cdcdcdcdcdcd…" in slow.baseline


def test_the_section_stands_before_the_results_and_links_to_them(written: ReportPaths) -> None:
    words = _words(written)
    assert words.index("Session") < words.index("Against the baseline") < words.index("At a glance")
    text = written.html.read_text()
    for id_ in re.findall(r'href="#(results-\d+-against)"', text):
        assert f'id="{id_}"' in text


def test_a_row_has_both_values_the_change_its_margin_and_the_sentence(written: ReportPaths) -> None:
    row = "5.06 ms 5.00 ms +1.20% worse +1.17 to +1.23 0.1% duet n = 36 virtual ✕ FAIL latency_p50_ns"
    assert row in _words(written)
    assert "beyond its margin of 0.1%" in _words(written)


def test_a_session_without_comparisons_has_no_such_section(tmp_path: Path) -> None:
    data = _data(tmp_path, *records.model_runs("digits_fp32_onnx"), calibrations=())
    assert build_against(data) is None
    assert forest(data) is None
    assert "baseline" not in _words(write_report(records.write_session(tmp_path / "b"))).lower()


def test_other_load_breaks_absolute_numbers_and_leaves_the_duet(sample: ReportData) -> None:
    mine = [r for r in sample.results if r.model == "digits_int8_onnx" and r.metric == "latency_p99_ns"]
    verdicts = {r.comparison is not None: r.verdict for r in mine if r.scenario == "single_stream"}
    assert verdicts == {False: Verdict.INVALID, True: Verdict.NOT_JUDGED}
    median = next(
        r for r in sample.compared if r.model == "digits_int8_onnx" and r.metric == "latency_p50_ns"
    )
    assert median.verdict is Verdict.PASS


def test_compared_numbers_are_not_taken_for_absolute_ones(tmp_path: Path) -> None:
    """A duet's p50 is of its own circumstances: no table, figure or budget takes it for the model's."""
    data = _data(tmp_path, *compared.against_runs(), plan={}, plan_path=None)
    glance = build_glance(data)
    assert glance is None
    assert data.budgets_toml == ""
    assert {f.id for f in build_figures(data)} == {
        "against-forest", "duet-ecdf", "duet-processes", "duet-blocks",
    }  # fmt: skip


# --- forest ---------------------------------------------------------------------------------------


def test_each_panel_of_the_forest_is_of_one_model_and_one_fidelity(sample: ReportData) -> None:
    figure = forest(sample)
    assert figure is not None
    assert [panel.title for panel in figure.panels] == [
        "digits_fp32_onnx, measured", "digits_fp32_onnx, virtual",
        "digits_int8_onnx, measured", "digits_int8_onnx, virtual",
    ]  # fmt: skip
    assert sum(len(panel.marks) for panel in figure.panels) == len(figure.rows) == len(sample.compared)


def test_a_row_of_the_forest_is_the_change_and_its_bounds(tmp_path: Path) -> None:
    run = _with(compared.duet_run(), value=1.012, low=1.009, high=1.015)
    (panel,) = _forest_panels(_data(tmp_path, run))
    (mark,) = panel.marks
    assert mark.x == pytest.approx((1.2, 0.9, 1.5))
    assert (mark.limit, mark.tone) == (pytest.approx(0.1), "fail")
    assert panel.x_span is not None
    assert panel.x_span[0] < 0
    assert panel.x_span[1] > 1.5


def test_a_higher_is_better_metric_is_mirrored(tmp_path: Path) -> None:
    (panel,) = _forest_panels(_data(tmp_path, compared.accuracy_run(value=-0.02)))
    (mark,) = panel.marks
    assert mark.x == pytest.approx((2.0, 0.9, 3.2))
    assert mark.note == "-2.0 points ?"


def test_what_lies_far_off_leaves_the_margin_visible(tmp_path: Path) -> None:
    (panel,) = _forest_panels(
        _data(tmp_path, _with(compared.duet_run(ratio=3.0), value=3.0, low=2.9, high=3.1))
    )
    assert panel.x_span is not None
    # the margin is 0.1%
    assert panel.x_span[1] < 3
    ET.fromstring(draw(panel, "x"))


@pytest.mark.parametrize(
    "changes",
    [
        {"value": None, "low": None, "high": None, "invalid": ("another unit's",)},
        {"low": None, "high": None},
        {"low": None},
        {"value": 1.0, "low": 1.0, "high": 1.0},
        {"value": math.inf, "low": 1.0, "high": math.inf},
        {"value": 0.0, "low": 0.0, "high": 0.0},
    ],
)
def test_odd_comparisons_are_still_drawn_and_told(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = records.write_session(tmp_path, compared.session(), [_with(compared.duet_run(), **changes)])
    paths = write_report(folder)
    document = json.loads(paths.summary_json.read_text(), parse_constant=pytest.fail)
    jsonschema.validate(document, SCHEMA)
    assert "Against the baseline" in _words(paths)


def _forest_panels(data: ReportData) -> Any:
    figure = forest(data)
    assert figure is not None
    return figure.panels


# --- the other files ------------------------------------------------------------------------------


def test_summary_json_has_the_comparison(written: ReportPaths) -> None:
    document = json.loads(written.summary_json.read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    rows = [r for r in document["results"] if "comparison" in r]
    row = next(r for r in rows if r["metric"] == "latency_p50_ns" and r["verdict"] == "FAIL")
    assert row["comparison"] == {
        "baseline_name": "release",
        "effect": "ratio",
        "value": pytest.approx(1.012),
        "low": pytest.approx(1.012 * 0.9997),
        "high": pytest.approx(1.012 * 1.0003),
        "margin": 0.001,
        "confidence": 0.9,
        "method": "duet",
        "n": 36,
    }
    assert (row["ratio"], row["margin"], row["baseline"]) == (pytest.approx(1.012), 0.001, 5.0e6)
    assert len(rows) < len(document["results"])


def test_junit_tells_a_comparison_from_the_number(written: ReportPaths) -> None:
    root = ET.parse(written.junit_xml).getroot()
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)
    name = "latency_p50_ns against release [single_stream]"
    slow = "latency.digits_fp32_onnx.rpi4-emulated"
    case = next(c for c in root.iter("testcase") if (c.get("classname"), c.get("name")) == (slow, name))
    failure, said = case.find("failure"), case.find("system-out")
    assert failure is not None
    assert failure.get("type") == "FAIL"
    assert said is not None
    assert "+1.20% against release (+1.17 to +1.23), duet, n = 36, margin 0.1%" in (said.text or "")


def test_markdown_has_a_table_of_comparisons_first(written: ReportPaths) -> None:
    lines = written.summary_md.read_text().splitlines()
    heads = [line for line in lines if line.startswith("| model |")]
    assert [("against" in head) for head in heads] == [True, False, True, False]
    row = next(line for line in lines if "| latency_p50_ns (single stream) | release |" in line)
    assert "| +1.20% | +1.17 to +1.23 | 0.1% | duet, n = 36 | virtual | ❌ FAIL |" in row
    for head in heads:
        rule = lines[lines.index(head) + 1]
        assert rule.count("|") == head.count("|")


def test_margins_read_in_the_unit_of_the_change(sample: ReportData) -> None:
    shown = {r.metric: margin_of(r) for r in sample.compared if r.model == "digits_fp32_onnx"}
    assert shown["accuracy"] == "1 point"
    assert shown["private_dirty_bytes"] == "5%"
    assert shown["latency_p99_ns"] == "–"


def test_hostile_baselines_stay_text(tmp_path: Path) -> None:
    bad = '<script>alert(1)</script>|`$x$`"><img src=x>'
    busy = Condition(bad, bad, bad, False, bad)
    run = replace(
        _with(compared.duet_run(), baseline_name=bad), conditions=(busy,), settings={"baseline": bad}
    )
    paths = write_report(records.write_session(tmp_path, compared.session(), [run]))
    assert "<script" not in paths.html.read_text()
    assert "<script" not in paths.summary_md.read_text()
    assert "&lt;script&gt;" in paths.html.read_text()


def test_fidelities_are_never_ranked_together(tmp_path: Path) -> None:
    runs = [compared.duet_run(), compared.duet_run(number=51, device=records.LOCAL)]
    panels = _forest_panels(_data(tmp_path, *runs, devices=(records.PI, records.LOCAL)))
    for panel in panels:
        # one device, one fidelity
        assert ("virtual" in panel.title) == ("(virtual)" in panel.x_label)
    assert {c.fidelity for run in runs for c in run.comparisons} == {Fidelity.VIRTUAL, Fidelity.MEASURED}
