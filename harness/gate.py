"""Runs + budgets → verdicts. Pure: no I/O, no clock, and no order in which results came matters.

Two judgements. The session's covers what was selected and had budgets. The release's needs everything
that the plan requires and takes the worst attempt; only that one gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from harness import errors
from harness.judging import SEVERITY, joined, judge, plan_name, worst
from harness.metrics import ESTIMATES
from harness.model import (
    LATENCY,
    Budget,
    Fidelity,
    Outcome,
    Plan,
    Release,
    Result,
    Run,
    RuntimeSpec,
    Verdict,
)
from harness.results import OUTCOME, budget_for, in_scope, margin_for, results_of

__all__ = [
    "OUTCOME",
    "budget_for",
    "combine_exit",
    "exit_code",
    "judge",
    "margin_for",
    "release_verdict",
    "results_of",
    "session_verdict",
    "standing_runs",
    "with_problems",
    "worst",
]

DEPLOY = "deploy"  # the suite whose completion is its own answer

_Record = TypeVar("_Record", Run, Result)

_EXIT_CODES = {
    Verdict.PASS: errors.EXIT_PASS,
    Verdict.NOT_JUDGED: errors.EXIT_PASS,
    Verdict.FAIL: errors.EXIT_FAIL,
    Verdict.INCONCLUSIVE: errors.EXIT_INCONCLUSIVE,
    Verdict.INVALID: errors.EXIT_INVALID,
    Verdict.INFRA_ERROR: errors.EXIT_INFRA,
}
# pytest's exit codes that nothing of ours may hide: internal error, interrupted, usage error
_PYTEST_KEEPS = (3, 2, 4)


def exit_code(verdict: Verdict) -> int:
    """Return the exit code that stands for `verdict`."""
    return _EXIT_CODES[verdict]


def combine_exit(pytest_exit: int, verdict: Verdict, *, other_failures: bool = False) -> int:
    """Return the exit code of a session that pytest ends with `pytest_exit`.

    Precedence: 3, 2, 4, FAIL, INFRA_ERROR, INVALID, INCONCLUSIVE. pytest says 1 for any failed test, also
    for one that was INVALID; `other_failures` says that a test failed for a reason of its own, which
    counts as FAIL.
    """
    if pytest_exit in _PYTEST_KEEPS:
        return pytest_exit
    code = exit_code(worst((verdict, Verdict.FAIL)) if other_failures else verdict)
    return code if code != errors.EXIT_PASS else pytest_exit


# --- a session ------------------------------------------------------------------------------------


def standing_runs(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Return `runs` without the lab failures that were tried again in their session.

    A session that lost a connection and then measured has an answer; what the lab did meanwhile stays in
    the store, and a release still takes the worst attempt.
    """
    runs = tuple(runs)
    last: dict[tuple[str | None, ...], int] = {}
    for run in runs:
        last[_trial(run)] = max(run.attempt, last.get(_trial(run), 0))
    return tuple(r for r in runs if r.outcome is not Outcome.INFRA_ERROR or r.attempt == last[_trial(r)])


def _trial(run: Run) -> tuple[str | None, ...]:
    """Return what the attempts at one measurement share."""
    return (run.session_id, run.test, run.suite, run.scenario, run.model, run.device.name)


def session_verdict(results: Iterable[Result], *, interrupted: bool = False) -> Verdict:
    """Return the worst verdict of what was judged; NOT_JUDGED (exit 0) where nothing was even measured.

    A run that brought numbers back has shown that the model loads and runs, and that nothing broke: a
    session without budgets passes on that. An interrupted one is at best INVALID: what it didn't come to
    is unknown.
    """
    results = tuple(results)
    verdicts = [result.verdict for result in results]
    if any(result.metric != OUTCOME for result in results):
        verdicts.append(Verdict.PASS)
    if interrupted:
        verdicts.append(Verdict.INVALID)
    return worst(verdicts)


# --- a release ------------------------------------------------------------------------------------


def release_verdict(results: Sequence[Result], runs: Sequence[Run], plan: Plan | None) -> Release:
    """Return whether `plan` is met by the runs of one or several sessions.

    PASS needs every required suite of every model on every required device type, completed, judged at an
    accepted fidelity, and with nothing of it skipped. The worst attempt counts that says anything about
    the model: a lab failure that was tried again is among the reasons and decides nothing
    (docs/decisions/0004-what-a-retry-hides.md). `missing` says what keeps it from a PASS, `reasons` what the
    verdict rests on. Runs on other device types are left out.
    """
    if plan is None or not plan.models:
        unjudged = sorted({run.model for run in runs})
        return Release(Verdict.INVALID, tuple(map(_no_budgets, unjudged)) or ("there is no plan",))
    names = {model.name for model in plan.models}
    runs = [_as_planned(run, plan) for run in runs]
    results = [_as_planned(result, plan) for result in results]
    others = {run.model for run in runs} - names
    unknown = sorted(name for name in others if plan_name(name) not in names)
    wanted = [r for r in results if r.model in names and r.device_type in plan.device_types]
    counted, tried_again = _without_tried_again(wanted, runs)
    missing = (
        *_missing_from_plan(plan),
        *(f"{_no_budgets(name)}: it is not in the plan" for name in unknown),
        *(
            line
            for device_type in plan.device_types
            for model in plan.models
            for line in _missing_of(model.name, device_type, plan, counted, runs)
        ),
    )
    verdict = worst([*(r.verdict for r in counted), Verdict.INVALID if missing else Verdict.NOT_JUDGED])
    assert verdict is not Verdict.NOT_JUDGED, "a required suite in which nothing is judged is missing"
    compared = [
        f"runs of {name} don't count: the plan wants another runtime"
        for name in sorted(others.difference(unknown))
    ]
    return Release(verdict, missing, (*_release_reasons(counted, runs, plan), *compared, *tried_again))


def _as_planned(record: _Record, plan: Plan) -> _Record:
    """Return a run or result of `name@runtime` as one of the plan's `name`, if it has the plan's runtime."""
    name = plan_name(record.model)
    for model in plan.models:
        if model.name == name and record.model != name and _has_runtime(record, model.runtime):
            return replace(record, model=name)
    return record


def _has_runtime(record: Run | Result, planned: RuntimeSpec | None) -> bool:
    if planned is None:
        return True
    return record.runtime == planned.name and planned.version in (None, record.runtime_version)


def _without_tried_again(
    results: Sequence[Result], runs: Sequence[Run]
) -> tuple[list[Result], tuple[str, ...]]:
    """Return `results` without those of lab failures that were tried again, and a line for each of these."""
    standing = {id(run) for run in standing_runs(runs)}
    superseded = [row for run in runs if id(run) not in standing for row in results_of(run, ())]
    counted = list(results)
    lines = []
    for row in superseded:
        if row in counted:
            counted.remove(row)
            lines.append(
                f"tried again after {row.verdict}: {row.model} on {row.device_name}, {row.suite}: "
                f"{joined(row.reasons)}"
            )
    return counted, tuple(sorted(dict.fromkeys(lines)))


def with_problems(release: Release, problems: Iterable[str]) -> Release:
    """Return `release` with what kept its evidence from being read: at best INVALID."""
    missing = (*problems, *release.missing)
    return replace(release, verdict=worst((release.verdict, Verdict.INVALID)), missing=missing)


def _no_budgets(model: str) -> str:
    return f"no budgets are set for model `{model}`"


def _missing_from_plan(plan: Plan) -> list[str]:
    lines = []
    if not plan.device_types:
        lines.append("the plan requires no device type: set release.device_types")
    if not plan.required_suites:
        lines.append("the plan requires no suite: set release.required_suites")
    return lines


def _missing_of(
    model: str, device_type: str, plan: Plan, counted: Sequence[Result], runs: Sequence[Run]
) -> list[str]:
    """Return what the plan wants of one model on one device type and didn't get."""
    place = f"{model} on {device_type}"
    lines = []
    budgets = [b for b in plan.budgets if b.model == model and b.device_type == device_type]
    if not budgets:
        lines.append(f"{_no_budgets(model)} on {device_type}")
    mine = [run for run in runs if run.model == model and run.device.type == device_type]
    if not mine:
        return [*lines, f"{place}: nothing was run"]
    rejected = next((run for run in mine if run.outcome is Outcome.MODEL_REJECTED), None)
    if rejected and not any(run.outcome is Outcome.COMPLETED for run in mine):
        return [*lines, f"{place}: nothing was measured of it: {_cause(rejected)}"]
    results = [r for r in counted if r.model == model and r.device_type == device_type]
    digests = sorted({run.artifact_sha256[:12] for run in mine if run.artifact_sha256})
    if len(digests) > 1:
        lines.append(f"{place}: its runs are of different files ({', '.join(digests)}); gate one at a time")
    planned = next(m.runtime for m in plan.models if m.name == model)
    lines += [f"{place}: {what}" for what in _other_runtimes(planned, mine)]
    for suite in plan.required_suites:
        lines += [f"{place}: {what}" for what in _missing_of_suite(suite, mine, results)]
    return lines + [f"{place}: {what}" for what in _unmet_budgets(budgets, results, plan)]


def _cause(run: Run) -> str:
    """Return why a run ended so, without its place, which the line has already."""
    text = run.error.message if run.error else run.reason or f"the run ended as {run.outcome}"
    return text.removeprefix(f"{run.model} on {run.device.name}: ")


def _other_runtimes(planned: RuntimeSpec | None, runs: Iterable[Run]) -> list[str]:
    """Return the runtimes that its runs had and the plan doesn't want."""
    if planned is None:
        return []
    seen = {
        RuntimeSpec(run.runtime, run.runtime_version if planned.version else None)
        for run in runs
        if run.outcome is Outcome.COMPLETED
    }
    return [f"was run with {other}, the plan says {planned}" for other in sorted(map(str, seen - {planned}))]


def _missing_of_suite(suite: str, runs: Iterable[Run], results: Iterable[Result]) -> list[str]:
    mine = [run for run in runs if run.suite == suite]
    if not mine:
        return [f"{suite} was not run"]
    finished = {run.test for run in mine if run.outcome in (Outcome.COMPLETED, Outcome.MODEL_REJECTED)}
    skipped = {run.test: run.reason or "no reason given" for run in mine if run.outcome is Outcome.SKIPPED}
    lines = [f"{suite} was skipped in {test}: {skipped[test]}" for test in sorted(skipped.keys() - finished)]
    if lines:
        return lines
    if not finished:
        return [f"{suite} never completed ({', '.join(sorted({run.outcome for run in mine}))})"]
    # a completed deployment is judged: the model loads and runs
    if suite != DEPLOY and all(r.verdict is Verdict.NOT_JUDGED for r in results if r.suite == suite):
        return [f"{suite} is required, but no budget judges anything in it"]
    return []


def _accepts(plan: Plan, result: Result) -> bool:
    """Return whether a number of the result's fidelity may decide a release.

    An estimate of a latency is judged by its band, so that it decides nothing within it; it follows from a
    virtual number, and counts where those do. How far a model of a board's power is off, no band says.
    """
    if result.fidelity in plan.accepted_fidelity:
        return True
    estimates = LATENCY in plan.accepted_estimates and Fidelity.VIRTUAL in plan.accepted_fidelity
    return estimates and result.metric in ESTIMATES.values()


def _unmet_budgets(budgets: Iterable[Budget], results: Iterable[Result], plan: Plan) -> list[str]:
    """Return the metrics with budgets that no result of an accepted fidelity was judged by."""
    results = tuple(results)
    accepted = ", ".join(plan.accepted_fidelity)
    lines: dict[tuple[object, ...], str] = {}
    for b in budgets:
        key = (b.metric, b.scenario, b.batch_size)
        mine = [r for r in results if r.metric == b.metric and in_scope(b, r.scenario, r.batch_size)]
        found = [r for r in mine if r.comparison is None]
        batch = f", batch {b.batch_size}" if b.batch_size else ""
        scope = f"{', ' + b.scenario if b.scenario else ''}{batch}"
        compared = [r for r in mine if r.comparison is not None]
        if b.margin is not None and not compared:
            lines[*key, "margin"] = (
                f"{b.metric}{scope} has a margin, and no comparison of it completed: give --baseline, "
                "or see how its run ended"
            )
        elif b.margin is not None and not any(_accepts(plan, r) for r in compared):
            seen = ", ".join(sorted({str(r.fidelity) for r in compared}))
            lines[*key, "margin"] = (
                f"{b.metric}{scope} was compared in {seen} numbers; the plan accepts {accepted}"
            )
        if b.limit is None:
            continue
        if not found:
            what = "no emulated board made one" if b.metric in ESTIMATES.values() else "nothing was measured"
            lines[key] = f"{b.metric}{scope} has a budget, and {what}"
        elif not any(_accepts(plan, r) for r in found):
            seen = ", ".join(sorted({str(r.fidelity) for r in found}))
            estimates = ", and no estimates" if b.metric in ESTIMATES.values() else ""
            lines[key] = f"{b.metric}{scope} is {seen}; the plan accepts {accepted}{estimates}"
    return list(lines.values())


def _release_reasons(counted: Iterable[Result], runs: Iterable[Run], plan: Plan) -> tuple[str, ...]:
    """Return the reasons of every verdict but PASS, the worst first, and what was left out."""
    bad = [r for r in counted if r.verdict not in (Verdict.PASS, Verdict.NOT_JUDGED)]
    bad.sort(key=lambda r: (SEVERITY.index(r.verdict), r.device_type, r.model, r.suite, r.metric, r.run_id))
    lines = []
    for r in bad:
        said = joined(r.reasons).removeprefix(f"{r.model} on {r.device_name}: ")
        lines.append(f"{r.verdict}: {r.model} on {r.device_name}, {r.suite}: {said}")
    others = sorted({run.device.type for run in runs} - set(plan.device_types))
    if others:
        wanted = ", ".join(plan.device_types)
        lines.append(f"runs on {', '.join(others)} don't count: the plan is for {wanted}")
    return tuple(dict.fromkeys(lines))
