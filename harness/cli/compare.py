"""`harness compare`: the numbers of one stored side against another's, with intervals and verdicts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import gate as gates
from harness import plan as plans
from harness.cli.options import add_command, add_devices_option, reports_dir, table_text
from harness.errors import ConfigError
from harness.margins import format_margin, signed_effect
from harness.metrics import METRICS
from harness.model import Result, Run, Verdict
from harness.pairing import Pairing, pair
from harness.recorded import FROM_MEMORY
from harness.store import Store, codec, read_run, read_session
from harness.store.layout import RUN_FILE, RUNS_FOLDER, SESSION_FILE
from harness.units import counted, format_quantity


@dataclass(frozen=True)
class Side:
    """What A or B means: its runs, the plan it was measured under, and what is doubtful about it."""

    name: str
    runs: tuple[Run, ...]
    plan: Mapping[str, Any]
    plan_path: str
    doubts: tuple[str, ...]


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "compare",
        "compare the numbers of two stored sessions or runs",
        "Compare B, the candidate, with A, what was before: each number of B against A's of the same\n"
        "model, unit, metric, scenario and batch size, with the interval of their ratio. They were not\n"
        "measured side by side, so unit, runtime build, threads and governor have to be the same, else it\n"
        "is INVALID; `pytest --baseline` measures side by side. What one side alone has is listed.\n\n"
        "Exit codes: 0 PASS, 1 FAIL, 10 INCONCLUSIVE, 11 INVALID or nothing to compare, 2 wrong use.",
    )
    add_devices_option(parser)
    for name in ("a", "b"):
        parser.add_argument(
            name,
            metavar=name.upper(),
            help="a session's folder or id, a run's folder or id, or SESSION/RUN",
        )
    parser.add_argument("--plan", metavar="FILE", help="margins by this plan (default: B's own)")
    parser.add_argument("--format", choices=sorted(FORMATS), default="text", help="(default: text)")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Print the comparison; return its verdict's exit code."""
    folder = reports_dir(args)
    before, after = _side(args.a, folder), _side(args.b, folder)
    if args.plan:
        plan = plans.load_plan(Path(args.plan))
    else:
        plan = plans.plan_from_mapping(dict(after.plan), after.plan_path)
    names = (before.name, after.name) if before.name != after.name else ("A", "B")
    found = pair(before.runs, after.runs, plan.budgets, names)
    same = (f"A and B are the same: {after.name}",) if before.name == after.name else ()
    doubts = tuple(dict.fromkeys((*before.doubts, *after.doubts)))
    verdict = _verdict(found, doubts)
    found = replace(found, notes=(*same, *found.notes))
    sys.stdout.write(FORMATS[args.format](found, names, verdict, doubts))
    return gates.exit_code(verdict)


def _verdict(found: Pairing, doubts: tuple[str, ...]) -> Verdict:
    """Return the worst of what was compared and how B's runs ended; INVALID where nothing was compared, or a
    side isn't whole."""
    verdict = gates.worst([gates.session_verdict(found.results), found.ended])
    return gates.worst([verdict, Verdict.INVALID]) if doubts or not found.results else verdict


# --- what A and B mean ----------------------------------------------------------------------------


def _side(text: str, reports: Path) -> Side:
    for path in (Path(text), reports / text):
        if (path / SESSION_FILE).is_file():
            return _session_side(path)
        if (path / RUN_FILE).is_file():
            return _run_side(path)
    session, slash, run_id = text.rpartition("/")
    if slash and (reports / session / RUNS_FOLDER / run_id / RUN_FILE).is_file():
        return _run_side(reports / session / RUNS_FOLDER / run_id)
    if not slash:
        holding = [s for s in Store(reports).sessions() if (s / RUNS_FOLDER / text / RUN_FILE).is_file()]
        if len(holding) == 1:
            return _run_side(holding[0] / RUNS_FOLDER / text)
        if holding:
            names = ", ".join(f"{s.name}/{text}" for s in holding)
            raise ConfigError(
                f"run `{text}` is in {len(holding)} sessions.", next_step=f"Say which: {names}."
            )
    raise ConfigError(
        f"no session or run `{text}` here, nor in {reports}.",
        next_step="Give a session's folder (reports/latest) or id, or SESSION/RUN.",
    )


def _session_side(folder: Path) -> Side:
    stored = read_session(folder)
    record = stored.record
    return Side(record.session_id, stored.runs, record.plan, record.plan_path or "plan", stored.doubts)


def _run_side(folder: Path) -> Side:
    """Return one run alone, with its session's plan; damage of other runs there doesn't matter."""
    found = read_run(folder)
    record = read_session(folder.parent.parent).record
    name = f"{found.session_id}/{found.run_id}"
    return Side(name, (found,), record.plan, record.plan_path or "plan", ())


# --- how it is printed ----------------------------------------------------------------------------

Names = tuple[str, str]
_HEAD = ("model", "unit", "metric", "A", "B", "fidelity", "change", "90% interval", "margin", "verdict")


def _text(found: Pairing, names: Names, verdict: Verdict, doubts: tuple[str, ...]) -> str:
    lines = [f"{verdict.value}: {' against '.join(_titles(names))}", *(f"  {d}" for d in doubts)]
    if found.results:
        lines += ["", table_text(_HEAD, [_cells(r) for r in found.results]).rstrip("\n")]
    bad = _reasons(found.results)
    if bad:
        lines += ["", *bad]
    rest = (*found.notes, *_by_place(found.only))
    return "\n".join([*lines, *(["", *rest] if rest else [])]) + "\n"


def _titles(names: Names, quote: str = "") -> tuple[str, str]:
    """Return B and A with what they are called, where they are called anything else."""
    b, a = (
        side if name == side else f"{side} {quote}{name}{quote}"
        for side, name in zip("BA", names[::-1], strict=True)
    )
    return b, a


def _by_place(only: Sequence[str]) -> list[str]:
    """Return one line for each side's model and unit, with all numbers that it alone has."""
    places: dict[str, list[str]] = {}
    for line in only:
        place, _, number = line.rpartition(": ")
        if number.partition(",")[0] not in METRICS:
            place, number = line, ""  # all of a model at once
        places.setdefault(place, []).append(number)
    return [
        f"{place}: {counted(len(numbers), 'number')}: {'; '.join(numbers)}" if any(numbers) else place
        for place, numbers in places.items()
    ]


def _reasons(results: tuple[Result, ...]) -> list[str]:
    """Return a line for each reason of every verdict but PASS, with the numbers that share it."""
    shared: dict[tuple[Verdict, str, str], list[str]] = {}
    for r in results:
        if r.verdict in (Verdict.PASS, Verdict.NOT_JUDGED):
            continue
        name = _name(r)
        for reason in r.reasons:
            if reason.startswith(FROM_MEMORY):
                continue  # both sides are
            place = f"{r.model} on {r.device_name}"
            shared.setdefault((r.verdict, place, reason.removeprefix(f"{name}: ")), []).append(name)
    lines = []
    for (verdict, place, reason), names in shared.items():
        what = names[0] if len(names) == 1 else counted(len(names), "number")
        lines.append(f"{verdict}: {place}: {what}: {reason}")
    return lines


def _name(r: Result) -> str:
    """Return a number's metric, scenario and batch size as its reasons have them."""
    batch = f"batch {r.batch_size}" if r.batch_size > 1 else ""
    scope = ", ".join(filter(None, (r.scenario, batch)))
    return f"{r.metric} ({scope})" if scope else r.metric


def _cells(r: Result) -> tuple[str, ...]:
    c = r.comparison
    assert c is not None
    row = METRICS[r.metric]
    interval = "–"
    if c.low is not None and c.high is not None:
        interval = f"{signed_effect(c, c.low, row)} to {signed_effect(c, c.high, row)}"
    return (
        r.model,
        r.device_name,
        _name(r),
        "–" if c.baseline is None else format_quantity(c.baseline, row.unit),
        "–" if c.candidate is None else format_quantity(c.candidate, row.unit),
        r.fidelity.value if r.fidelity else "–",
        "–" if c.value is None else signed_effect(c, c.value, row),
        "exact" if c.low is not None and c.low == c.high else interval,
        "–" if r.margin is None else format_margin(r.margin, row),
        r.verdict.value,
    )


def _json(found: Pairing, names: Names, verdict: Verdict, doubts: tuple[str, ...]) -> str:
    rows = [
        {
            "model": r.model, "device": r.device_name, "metric": r.metric, "scenario": r.scenario,
            "batch_size": r.batch_size, "fidelity": r.fidelity, "comparison": codec.to_plain(r.comparison),
            "margin": r.margin, "verdict": r.verdict, "reasons": list(r.reasons),
        }
        for r in found.results
    ]  # fmt: skip
    data = {
        "a": names[0], "b": names[1], "verdict": verdict, "exit_code": gates.exit_code(verdict),
        "results": rows, "only": list(found.only), "notes": list(found.notes), "doubts": list(doubts),
    }  # fmt: skip
    return json.dumps(data, indent=2) + "\n"


def _markdown(found: Pairing, names: Names, verdict: Verdict, doubts: tuple[str, ...]) -> str:
    lines = [f"**{verdict.value}**: {' against '.join(_titles(names, '`'))}", ""]
    if found.results:
        table = [_HEAD, ("---",) * len(_HEAD), *(_cells(r) for r in found.results)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
        lines.append("")
    lines += [
        f"- {line}" for line in (*doubts, *_reasons(found.results), *found.notes, *_by_place(found.only))
    ]
    return "\n".join(lines).rstrip() + "\n"


FORMATS = {"text": _text, "json": _json, "markdown": _markdown}
