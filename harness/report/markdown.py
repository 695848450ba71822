"""Results as Markdown for a comment in CI: the verdicts, what is missing, one table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.gate import OUTCOME
from harness.model import Fidelity, Release, Result, Run, Verdict
from harness.report.data import ReportData
from harness.report.effects import change_of, how_of, interval_of_change, margin_of
from harness.report.soak_page import soak_lines
from harness.report.wording import (
    VIRTUAL_NOTE,
    estimate_lines,
    interval_of,
    limit_of,
    scope_of,
    value_of,
)

SYMBOLS = {
    Verdict.PASS: "✅",
    Verdict.FAIL: "❌",
    Verdict.INCONCLUSIVE: "❔",
    Verdict.INVALID: "⚠️",
    Verdict.INFRA_ERROR: "🔌",
    Verdict.NOT_JUDGED: "➖",
}
# GitHub refuses a comment beyond 65,536 characters; a list this long is for the report.
_MAX_LINES = 20
_MAX_ROWS = 120
# an underscore within a word is plain in GitHub's Markdown; list and heading marks count at the start only
_SPECIAL = re.compile(r"([\\`*{}\[\]|~$]|(?<!\w)_|_(?!\w)|^[-+#=]|^\d+(?=[.)](?:\s|$)))")


def session_markdown(data: ReportData) -> str:
    """Return summary.md."""
    devices = ", ".join(f"{escaped(d.name)} ({escaped(d.type)}, {escaped(d.kind)})" for d in data.devices)
    release = replace(data.release, reasons=tuple(r for r in data.release.reasons if r not in data.reasons))
    parts = [
        f"## {SYMBOLS[data.verdict]} {data.verdict.value}: session {escaped(data.record.session_id)}",
        f"On {devices or 'no device'}; started {escaped(data.record.started_at)}; "
        f"exit code {data.exit_code}.",
        *_list("Why", data.reasons),
        *_list("Problems with the evidence", data.problems),
        *_release(release),
        *_soaks(data),
        *_tables(data.results, data.runs_by_id),
    ]
    if data.budgets_toml:
        fence = _fence(data.budgets_toml)
        lines = f"{fence}toml\n{data.budgets_toml.rstrip()}\n{fence}"
        parts.append(_folded("Lines of TOML that would set budgets", lines))
    return "\n\n".join(parts) + "\n"


def release_markdown(release: Release, results: Sequence[Result]) -> str:
    """Return a release verdict over one or several sessions as Markdown."""
    return "\n\n".join([*_release(release, heading="##"), *_tables(results, {})]) + "\n"


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


def _soaks(data: ReportData) -> list[str]:
    return [
        f"{SYMBOLS[verdict]} **{escaped(title)}**: {escaped(line)}"
        for title, verdict, line in soak_lines(data)
    ]


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    shown = [f"- {escaped(line)}" for line in lines[:_MAX_LINES]]
    if len(lines) > _MAX_LINES:
        shown.append(f"- and {len(lines) - _MAX_LINES} more, in the report")
    return [f"**{title}**\n\n" + "\n".join(shown)]


def _tables(results: Sequence[Result], runs: Mapping[str, Run]) -> list[str]:
    """Return the judged results as tables, the others in a folded one, and what virtual times mean."""
    judged = [r for r in results if r.verdict is not Verdict.NOT_JUDGED]
    others = [r for r in results if r.verdict is Verdict.NOT_JUDGED]
    parts = _both(judged, runs) or ["Nothing was judged."]
    if any(result.fidelity is Fidelity.VIRTUAL for result in results):
        parts.append(f"> `virtual`: {VIRTUAL_NOTE[0].lower()}{VIRTUAL_NOTE[1:]}.")
    estimates = [f"> - {escaped(line)}" for line in estimate_lines(results)]
    if estimates:
        parts.append("\n".join(["> What a board would take:", ">", *estimates]))
    if others:
        limits = "a budget or a margin" if any(r.comparison for r in others) else "a budget"
        parts.append(_folded(f"{len(others)} without {limits}", "\n\n".join(_both(others, runs))))
    return parts


def _both(results: Sequence[Result], runs: Mapping[str, Run]) -> list[str]:
    """Return a table of what compares, which is what a change is asked about, and one of the rest."""
    compared = [r for r in results if r.comparison is not None]
    rest = [r for r in results if r.comparison is None]
    tables = [_compared_table(compared, runs)] if compared else []
    return [*tables, _table(rest, runs)] if rest else tables


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _compared_table(results: Sequence[Result], runs: Mapping[str, Run]) -> str:
    head = "| model | device | metric | against | change | interval | margin | how | fidelity | verdict |"
    rows = [_compared_row(result, runs.get(result.run_id)) for result in results[:_MAX_ROWS]]
    return _capped([head, "|---|---|---|---|--:|---|--:|---|---|---|", *rows], len(results))


def _compared_row(result: Result, run: Run | None) -> str:
    assert result.comparison is not None
    c = result.comparison
    return _cells(
        escaped(result.model),
        escaped(result.device_name),
        _metric(result, run),
        escaped(c.baseline_name),
        change_of(c),
        interval_of_change(c),
        margin_of(result),
        how_of(c),
        result.fidelity.value if result.fidelity else "–",
        f"{SYMBOLS[result.verdict]} {result.verdict.value}",
    )


def _table(results: Sequence[Result], runs: Mapping[str, Run]) -> str:
    head = "| model | device | metric | value | 90% interval | budget | fidelity | verdict |"
    rows = [_row(result, runs.get(result.run_id)) for result in results[:_MAX_ROWS]]
    return _capped([head, "|---|---|---|--:|---|--:|---|---|", *rows], len(results))


def _row(result: Result, run: Run | None) -> str:
    return _cells(
        escaped(result.model),
        escaped(result.device_name),
        _metric(result, run),
        value_of(result),
        interval_of(result),
        limit_of(result),
        result.fidelity.value if result.fidelity else "–",
        f"{SYMBOLS[result.verdict]} {result.verdict.value}",
    )


def _metric(result: Result, run: Run | None) -> str:
    name = f"run of {result.suite}" if result.metric == OUTCOME else result.metric
    scope = scope_of(result, run)
    return escaped(f"{name} ({scope})" if scope else name)


def _cells(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _capped(lines: Sequence[str], count: int) -> str:
    table = "\n".join(lines)
    return f"{table}\n\nAnd {count - _MAX_ROWS} more, in the report." if count > _MAX_ROWS else table


def _fence(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
