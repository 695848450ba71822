"""A stored session → everything the report says, judged and typed. No formatting, no I/O.

The session's verdict here covers what the store holds. A test of the user's own that failed without a run
is pytest's to report: its exit code can be worse than this one, never better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness import errors, gate
from harness.errors import ConfigError
from harness.judging import SEVERITY, joined, plan_name
from harness.model import DeviceFacts, Fidelity, Outcome, Plan, Release, Result, Run, SessionRecord, Verdict
from harness.plan import budget_lines, plan_from_mapping
from harness.store import StoredSession

_USAGE_EXITS = {Outcome.INTERRUPTED: 2, Outcome.USAGE_ERROR: errors.EXIT_USAGE}
_SHOWN_FIRST = ("deploy", "accuracy", "latency", "memory")


@dataclass(frozen=True)
class ReportData:
    """One session as the report shows it. `results` are in the order of suites, models and runs."""

    record: SessionRecord
    devices: tuple[DeviceFacts, ...]
    runs: tuple[Run, ...]
    results: tuple[Result, ...]
    standing_ids: frozenset[str]  # runs without the lab failures that were tried again
    plan: Plan
    verdict: Verdict
    exit_code: int
    reasons: tuple[str, ...]
    release: Release
    problems: tuple[str, ...]
    unbudgeted: tuple[str, ...]
    budgets_toml: str
    further_budgets: tuple[tuple[str, str], ...]

    @property
    def runs_by_id(self) -> Mapping[str, Run]:
        return {run.run_id: run for run in self.runs}

    @property
    def standing(self) -> tuple[Result, ...]:
        """The results that the session's verdict stands on."""
        return tuple(result for result in self.results if self.stands(result))

    def stands(self, result: Result) -> bool:
        """Return whether the session's verdict counts `result`: not if it was tried again."""
        return result.run_id in self.standing_ids

    @property
    def absolute(self) -> tuple[Result, ...]:
        """The results that stand for themselves, in their order; `compared` has the others."""
        return tuple(result for result in self.results if result.comparison is None)

    @property
    def compared(self) -> tuple[Result, ...]:
        """The results that set a candidate against a baseline."""
        return tuple(result for result in self.results if result.comparison is not None)

    @property
    def has_virtual(self) -> bool:
        """Whether any number stands on an emulated board's clock."""
        return any(result.fidelity is Fidelity.VIRTUAL for result in self.results)


def build_report(session: StoredSession) -> ReportData:
    """Return what the report says about `session`. A plan that can't be read is among its problems."""
    record = session.record
    plan, problems = _plan(record)
    problems = (*session.doubts, *problems)
    results = _ordered(result for run in session.runs for result in gate.results_of(run, plan.budgets))
    ids = frozenset(run.run_id for run in gate.standing_runs(session.runs))
    standing = tuple(result for result in results if result.run_id in ids)
    verdict = gate.session_verdict(standing)
    release = gate.release_verdict(results, session.runs, plan)
    if problems:
        verdict = gate.worst((verdict, Verdict.INVALID))
        release = gate.with_problems(release, problems)
    absolute = [result for result in results if result.comparison is None]
    unbudgeted, suggestion = _suggested_budgets(absolute, plan)
    return ReportData(
        record=record,
        devices=_devices(record, session.runs),
        runs=session.runs,
        results=results,
        standing_ids=ids,
        plan=plan,
        verdict=verdict,
        exit_code=_exit_code(verdict, record, session.runs),
        reasons=_reasons(standing),
        release=release,
        problems=problems,
        unbudgeted=unbudgeted,
        budgets_toml=suggestion,
        further_budgets=_further_budgets(absolute, plan),
    )


def _plan(record: SessionRecord) -> tuple[Plan, tuple[str, ...]]:
    if not record.plan:
        return Plan(path=None), ()
    try:
        return plan_from_mapping(record.plan, record.plan_path or "plan"), ()
    except ConfigError as error:
        return Plan(path=None), (f"the session's plan can't be used: {error}",)


def _ordered(results: Iterable[Result]) -> tuple[Result, ...]:
    """Return results grouped by device, model and suite, each in the order it was measured."""

    def rank(suite: str) -> tuple[int, str]:
        known = suite in _SHOWN_FIRST
        return (_SHOWN_FIRST.index(suite) if known else len(_SHOWN_FIRST), suite)

    return tuple(sorted(results, key=lambda r: (r.device_name, r.model, rank(r.suite))))


def _devices(record: SessionRecord, runs: Iterable[Run]) -> tuple[DeviceFacts, ...]:
    """Return every device of the session, each once, the record's first."""
    found: dict[str, DeviceFacts] = {}
    for device in (*record.devices, *(run.device for run in runs)):
        found.setdefault(device.name, device)
    return tuple(found.values())


def _exit_code(verdict: Verdict, record: SessionRecord, runs: Iterable[Run]) -> int:
    """Return the session's exit code: pytest's 2 and 4 come before the verdict's."""
    if record.interrupted:
        return _USAGE_EXITS[Outcome.INTERRUPTED]
    if any(run.outcome is Outcome.USAGE_ERROR for run in runs):
        return _USAGE_EXITS[Outcome.USAGE_ERROR]
    return gate.exit_code(verdict)


def _reasons(results: Sequence[Result]) -> tuple[str, ...]:
    """Return why the session's verdict is no PASS: each result's reasons, worst verdict first."""
    bad = [r for r in results if r.verdict not in (Verdict.PASS, Verdict.NOT_JUDGED)]
    bad.sort(key=lambda r: SEVERITY.index(r.verdict))
    lines = [f"{r.verdict.value}: {r.model} on {r.device_name}, {r.suite}: {joined(r.reasons)}" for r in bad]
    return tuple(dict.fromkeys(lines))


def _suggested_budgets(results: Sequence[Result], plan: Plan) -> tuple[tuple[str, ...], str]:
    """Return the models without budgets, and the TOML that would set them at what was measured plus 10%."""
    budgeted = {(b.model, b.device_type) for b in plan.budgets}
    mine = [r for r in results if (plan_name(r.model), r.device_type) not in budgeted]
    types = sorted({r.device_type for r in mine})
    blocks = [budget_lines(mine, device_type, plan=plan) for device_type in types]
    text = "\n".join(block for block in blocks if block)
    return tuple(sorted({r.model for r in mine})) if text else (), text


def _further_budgets(results: Sequence[Result], plan: Plan) -> tuple[tuple[str, str], ...]:
    """Return (table of the plan, lines to add) for models that have budgets, but not for every metric."""
    budgeted = {(b.model, b.device_type) for b in plan.budgets}
    covered = {(b.model, b.device_type, b.metric) for b in plan.budgets}
    open_results = [
        r
        for r in results
        if (plan_name(r.model), r.device_type) in budgeted
        and (plan_name(r.model), r.device_type, r.metric) not in covered
    ]
    pieces = []
    for model, device_type in sorted({(plan_name(r.model), r.device_type) for r in open_results}):
        mine = [r for r in open_results if (plan_name(r.model), r.device_type) == (model, device_type)]
        table, _, lines = budget_lines(mine, device_type).partition("\n")
        if lines:
            pieces.append((table, lines.rstrip()))
    return tuple(pieces)
