"""Results as JUnit XML for CI.

FAIL, INVALID and INCONCLUSIVE are failures with their word in the message, INFRA_ERROR is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree as ET

from harness.gate import OUTCOME
from harness.judging import joined
from harness.model import Fidelity, Release, Result, Run, Verdict
from harness.report.data import ReportData
from harness.report.effects import change_of, how_of, interval_of_change, margin_of
from harness.report.wording import interval_of
from harness.units import format_quantity

# What XML 1.0 can't hold, escaped or not (section 2.2, Char).
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def session_junit(data: ReportData) -> str:
    """Return the session as JUnit XML: a suite per harness suite, a case per result."""
    root = ET.Element("testsuites", name=_text(f"session {data.record.session_id}"))
    _add_results(root, data.results, data.runs_by_id, data.record.started_at)
    if data.problems:
        suite = _suite(root, "store", data.record.started_at)
        for number, problem in enumerate(data.problems, 1):
            case = _case(suite, data.record.session_id, f"stored evidence {number}", 0.0)
            _outcome(case, Verdict.INVALID, problem)
    return _xml(root)


def release_junit(release: Release, results: Sequence[Result]) -> str:
    """Return a release verdict as JUnit XML: one case for the verdict, one per result."""
    root = ET.Element("testsuites", name="release")
    suite = _suite(root, "release", None)
    case = _case(suite, "release", "release verdict", 0.0)
    _outcome(case, release.verdict, "\n".join((*release.missing, *release.reasons)))
    _add_results(root, results, {}, None)
    return _xml(root)


def _add_results(
    root: ET.Element, results: Iterable[Result], runs: Mapping[str, Run], timestamp: str | None
) -> None:
    suites: dict[str, ET.Element] = {}
    timed: set[str] = set()
    for result in results:
        if result.suite not in suites:
            suites[result.suite] = _suite(root, result.suite, timestamp)
        run = runs.get(result.run_id)
        # a run's duration counts once, with its first result, so that the sums are right
        duration_s = run.duration_s if run is not None and result.run_id not in timed else 0.0
        timed.add(result.run_id)
        case = _case(
            suites[result.suite],
            f"{result.suite}.{result.model}.{result.device_name}",
            _name(result, run),
            duration_s,
        )
        _outcome(case, result.verdict, joined(result.reasons))
        _describe(case, result)


def _name(result: Result, run: Run | None) -> str:
    parts = [result.scenario or "", f"batch {result.batch_size}" if result.batch_size != 1 else ""]
    parts.append(f"attempt {run.attempt}" if run is not None and run.attempt > 1 else "")
    scope = ", ".join(part for part in parts if part)
    name = (
        f"{result.metric} against {result.comparison.baseline_name}" if result.comparison else result.metric
    )
    return f"{name} [{scope}]" if scope else name


def _outcome(case: ET.Element, verdict: Verdict, reason: str) -> None:
    message = _text(f"{verdict.value}: {reason}" if reason else verdict.value)
    if verdict is Verdict.PASS:
        return
    if verdict is Verdict.NOT_JUDGED:
        # not a pass: nothing was set to judge it by, or it was skipped
        ET.SubElement(case, "skipped", message=message)
        return
    tag = "error" if verdict is Verdict.INFRA_ERROR else "failure"
    ET.SubElement(case, tag, message=message, type=verdict.value).text = message


def _describe(case: ET.Element, result: Result) -> None:
    if result.metric == OUTCOME:
        return
    fidelity = f" ({result.fidelity.value})" if result.fidelity else ""
    value = format_quantity(result.value, result.unit)
    if result.fidelity is Fidelity.ESTIMATED and result.low is not None:
        value += f" ({interval_of(result)})"  # never without its band
    text = f"{result.metric} = {value}{fidelity}, test {result.test}"
    if result.comparison is not None:
        c = result.comparison
        text += f", {change_of(c)} against {c.baseline_name} ({interval_of_change(c)}), {how_of(c)}"
        text += f", margin {margin_of(result)}" if result.margin is not None else ""
    if result.budget is not None:
        text += f", budget {format_quantity(result.budget, result.unit)}"
    ET.SubElement(case, "system-out").text = _text(text)


def _suite(root: ET.Element, name: str, timestamp: str | None) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=_text(name))
    if timestamp:
        suite.set("timestamp", _text(timestamp))
    return suite


def _case(suite: ET.Element, classname: str, name: str, duration_s: float) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=_text(classname), name=_text(name), time=f"{duration_s:.3f}"
    )


def _xml(root: ET.Element) -> str:
    for element in (*root, root):
        cases = list(element.iter("testcase"))
        element.set("tests", str(len(cases)))
        for counter, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            element.set(counter, str(sum(case.find(tag) is not None for case in cases)))
        element.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _text(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
