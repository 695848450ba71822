"""Results as Markdown for a comment in CI: the verdicts, what is missing, one table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.gate import OUTCOME
from harness.model import Fidelity, Release, Result, Verdict
from harness.report.data import ReportData
from harness.units import format_quantity

SYMBOLS = {
    Verdict.PASS: "✅",
    Verdict.FAIL: "❌",
    Verdict.INCONCLUSIVE: "❔",
    Verdict.INVALID: "⚠️",
    Verdict.INFRA_ERROR: "🔌",
    Verdict.NOT_JUDGED: "➖",
}
VIRTUAL_NOTE = (
    "Times are on the emulated board's instruction clock; "
    "they compare builds, they are not a Pi's milliseconds"
)
# GitHub refuses a comment beyond 65,536 characters; a list this long is for the report.
_MAX_LINES = 20
# an underscore within a word is plain in GitHub's Markdown; list and heading marks count at the start only
_SPECIAL = re.compile(r"([\\`*{}\[\]|~$]|(?<!\w)_|_(?!\w)|^[-+#=]|^\d+(?=[.)](?:\s|$)))")


def session_markdown(data: ReportData) -> str:
    """Return summary.md."""
    devices = ", ".join(f"{escaped(d.name)} ({escaped(d.type)}, {escaped(d.kind)})" for d in data.devices)
    parts = [
        f"## {SYMBOLS[data.verdict]} {data.verdict.value}: session {escaped(data.record.session_id)}",
        f"On {devices or 'no device'}; started {escaped(data.record.started_at)}; "
        f"exit code {data.exit_code}.",
        *_list("Why", data.reasons),
        *_list("Problems with the evidence", data.problems),
        *_release(data.release),
        *_table(data.results),
    ]
    if data.budgets_toml:
        parts.append("<details><summary>Lines of TOML that would set budgets</summary>")
        parts.append(
            f"{_fence(data.budgets_toml)}toml\n{data.budgets_toml.rstrip()}\n{_fence(data.budgets_toml)}"
        )
        parts.append("</details>")
    return "\n\n".join(parts) + "\n"


def release_markdown(release: Release, results: Sequence[Result]) -> str:
    """Return a release verdict over one or several sessions as Markdown."""
    return "\n\n".join([*_release(release, heading="##"), *_table(results)]) + "\n"


def escaped(text: str) -> str:
    """Return `text` so that Markdown and the HTML within it show it as it stands, mentioning nobody."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(_backslash, line).replace("@", "&#64;")


def _backslash(match: re.Match[str]) -> str:
    mark = match.group()
    return f"{mark}\\" if mark.isdigit() else f"\\{mark}"


def _release(release: Release, *, heading: str = "###") -> list[str]:
    return [
        f"{heading} {SYMBOLS[release.verdict]} Release: {release.verdict.value}",
        *_list("Missing for a pass", release.missing),
        *_list("Reasons", release.reasons),
    ]


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    shown = [f"- {escaped(line)}" for line in lines[:_MAX_LINES]]
    if len(lines) > _MAX_LINES:
        shown.append(f"- and {len(lines) - _MAX_LINES} more, in the report")
    return [f"**{title}**\n\n" + "\n".join(shown)]


def _table(results: Iterable[Result]) -> list[str]:
    rows = [_row(result) for result in results]
    if not rows:
        return ["Nothing was measured."]
    head = "| model | device | metric | value | 90% interval | budget | fidelity | verdict |"
    table = "\n".join([head, "|---|---|---|--:|---|--:|---|---|", *rows])
    virtual = any(result.fidelity is Fidelity.VIRTUAL for result in results)
    return [table, f"> {VIRTUAL_NOTE}."] if virtual else [table]


def _row(result: Result) -> str:
    metric = escaped(result.metric)
    scope = [result.scenario or "", f"batch {result.batch_size}" if result.batch_size != 1 else ""]
    if any(scope):
        metric += f" ({escaped(', '.join(part for part in scope if part))})"
    interval = "–"
    if result.low is not None or result.high is not None:
        interval = (
            f"{format_quantity(result.low, result.unit)} to {format_quantity(result.high, result.unit)}"
        )
    cells = [
        escaped(result.model),
        escaped(result.device_name),
        metric if result.metric != OUTCOME else f"run of {escaped(result.suite)}",
        format_quantity(result.value, result.unit),
        interval,
        format_quantity(result.budget, result.unit),
        result.fidelity.value if result.fidelity else "–",
        f"{SYMBOLS[result.verdict]} {result.verdict.value}",
    ]
    return "| " + " | ".join(cells) + " |"


def _fence(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
