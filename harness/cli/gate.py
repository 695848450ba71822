"""`harness gate`: the release verdict over stored sessions, and its exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from harness import gate as gates
from harness import plan as plans
from harness.cli.options import add_command, session_folder
from harness.errors import ConfigError
from harness.model import Plan, Release, Result, Run, Verdict
from harness.store import StoredSession, read_session


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "gate",
        "release verdict over stored sessions",
        "Print the release verdict over stored sessions, of one or several devices. A PASS needs everything\n"
        "that the plan requires, every budget met, nothing skipped; the worst attempt counts.\n\n"
        "Exit codes: 0 PASS, 1 FAIL, 10 INCONCLUSIVE, 11 INVALID or incomplete, 75 INFRA_ERROR, 2 wrong use.",
    )
    parser.add_argument(
        "sessions", nargs="+", metavar="SESSION", help="a session's folder (reports/latest) or id"
    )
    parser.add_argument("--plan", metavar="FILE", help="judge by this plan (default: the sessions' own)")
    parser.add_argument("--format", choices=sorted(FORMATS), default="text", help="(default: text)")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Print the release verdict; return its exit code."""
    sessions = [read_session(session_folder(args, s)) for s in args.sessions]
    plan = plans.load_plan(Path(args.plan)) if args.plan else _own_plan(sessions)
    runs = [run for s in sessions for run in s.runs]
    results = [r for run in runs for r in gates.results_of(run, plan.budgets)]
    release = gates.release_verdict(results, runs, plan)
    problems = tuple(str(p) for s in sessions for p in s.doubts)
    if problems:
        release = gates.with_problems(release, problems)
    sys.stdout.write(FORMATS[args.format](release, results, runs))
    return gates.exit_code(release.verdict)


def _own_plan(sessions: list[StoredSession]) -> Plan:
    raws = [s.record.plan for s in sessions]
    if any(raw != raws[0] for raw in raws):
        raise ConfigError(
            "these sessions were measured under different plans.", next_step="Say which judges: --plan FILE."
        )
    return plans.plan_from_mapping(dict(raws[0]), sessions[0].record.plan_path or "plan")


def _text(release: Release, results: list[Result], runs: list[Run]) -> str:
    lines = [f"release {release.verdict.value}"]
    lines += [f"  missing: {m}" for m in release.missing]
    lines += [f"  {r}" for r in release.reasons]
    return "\n".join([*lines, *_judged(results)]) + "\n"


def _judged(results: list[Result]) -> list[str]:
    """Return a line for each model and unit that says how many of its numbers were judged, and as what."""
    places: dict[str, Counter[Verdict]] = {}
    for r in results:
        if r.verdict is not Verdict.NOT_JUDGED:
            places.setdefault(f"{r.model} on {r.device_name}", Counter())[r.verdict] += 1
    return [
        f"  judged: {place}: {', '.join(f'{counts[v]} {v.value}' for v in Verdict if counts[v])}"
        for place, counts in places.items()
    ]


def _json(release: Release, results: list[Result], runs: list[Run]) -> str:
    rows = [
        {
            "model": r.model, "device": r.device_name, "metric": r.metric, "value": r.value,
            "low": r.low, "high": r.high,
            "budget": r.budget, "baseline": r.baseline, "effect": r.ratio, "margin": r.margin,
            "fidelity": r.fidelity, "verdict": r.verdict, "reasons": list(r.reasons),
        }
        for r in results
    ]  # fmt: skip
    data = {
        "verdict": release.verdict, "exit_code": gates.exit_code(release.verdict),
        "missing": list(release.missing), "reasons": list(release.reasons), "results": rows,
    }  # fmt: skip
    return json.dumps(data, indent=2) + "\n"


def _markdown(release: Release, results: list[Result], runs: list[Run]) -> str:
    from harness.report import release_markdown

    return release_markdown(release, results)


def _junit(release: Release, results: list[Result], runs: list[Run]) -> str:
    from harness.report import release_junit

    return release_junit(release, results)


FORMATS = {"text": _text, "json": _json, "markdown": _markdown, "junit": _junit}
