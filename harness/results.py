"""One run + budgets → its rows: each measurement and comparison with its verdict. Pure.

What the rows of a session or a release add up to is `gate`'s job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from harness.errors import StoredRunError
from harness.judging import judge, plan_name
from harness.margins import default_margin, judge_family
from harness.metrics import METRICS, TIMED_KINDS, Metric
from harness.model import (
    Budget,
    Comparison,
    Fidelity,
    Judgement,
    Measurement,
    Method,
    Outcome,
    Result,
    Run,
    Scope,
    Verdict,
)

BUDGETS = "budgets"  # where a run's settings keep what overrides the plan's budgets for it
OUTCOME = "outcome"  # the metric of a row that says how a run without numbers ended

OUTCOME_VERDICTS = {
    Outcome.COMPLETED: Verdict.NOT_JUDGED,
    Outcome.SKIPPED: Verdict.NOT_JUDGED,
    Outcome.MODEL_REJECTED: Verdict.FAIL,
    Outcome.INFRA_ERROR: Verdict.INFRA_ERROR,
    Outcome.INVALID: Verdict.INVALID,
    Outcome.INTERRUPTED: Verdict.INVALID,
    Outcome.USAGE_ERROR: Verdict.INVALID,
}


def budget_for(m: Measurement, run: Run, budgets: Iterable[Budget]) -> Budget | None:
    """Return the budget that judges `m`: of its own fidelity if there is one, and the most specific.

    A budget without `batch_size` is for a batch of 1, and one without `scenario` for any. One that the run's
    own test set goes before the plan's.
    """
    candidates = [b for b in _own_first(m, run, budgets, "limit") if _applies(b, m, run)]
    if not candidates:
        return None
    return min(
        candidates,
        key=lambda b: (
            b.fidelity is not m.fidelity,
            b.scenario is None,
            b.batch_size is None,
            b.fidelity,
            b.limit or 0.0,
        ),
    )


def margin_for(c: Comparison, run: Run, budgets: Iterable[Budget]) -> float | None:
    """Return the margin that judges `c`: the plan's, of its own fidelity first, else the metric's default.

    A margin is relative, so one that names no fidelity of its own serves any. One that the run's own test set
    goes before the plan's. Defaults are for one sample at a time: the batch sweep has those that are set.
    """
    found = [b for b in _own_first(c, run, budgets, "margin") if _applies(b, c, run)]
    if not found:
        # offline windows of one process have no interval to hold against a default that nobody set
        plain = (c.scenario or run.scenario) != "offline" and c.batch_size == 1
        return default_margin(METRICS[c.metric], c.fidelity) if plain and c.metric in METRICS else None
    best = min(
        found,
        key=lambda b: (b.fidelity is not c.fidelity, b.scenario is None, b.batch_size is None, b.margin or 0),
    )
    return best.margin


def _own_first(m: Measurement | Comparison, run: Run, budgets: Iterable[Budget], what: str) -> list[Budget]:
    """Return the run's own budgets that have a `what` for `m`, else all of the plan's that have one."""
    own = [
        b
        for b in own_budgets(run)
        if getattr(b, what) is not None
        and (b.fidelity is m.fidelity or b.fidelity_open)
        and _applies(b, m, run)
    ]
    return own or [b for b in budgets if getattr(b, what) is not None]


def _applies(budget: Budget, m: Measurement | Comparison, run: Run) -> bool:
    return (
        budget.model == plan_name(run.model)
        and budget.device_type == run.device.type
        and budget.metric == m.metric
        and in_scope(budget, m.scenario or run.scenario, m.batch_size)
    )


def in_scope(budget: Budget, scenario: str | None, batch_size: int) -> bool:
    return budget.scenario in (None, scenario) and (budget.batch_size or 1) == batch_size


def plain_budgets(budgets: Iterable[Budget]) -> list[dict[str, Any]]:
    """Return a run's own budgets as its settings keep them, under BUDGETS: plain, the same when read back."""
    return [{**asdict(b), "fidelity": str(b.fidelity)} for b in budgets]


def own_budgets(run: Run) -> tuple[Budget, ...]:
    """Return the budgets that the run's own test set by markers; they go before the plan's.

    Raises StoredRunError where what the run keeps is no budget.
    """
    try:
        return tuple(_own_budget(entry) for entry in run.settings.get(BUDGETS) or ())
    except (KeyError, TypeError, ValueError) as error:
        raise StoredRunError(
            f"settings.{BUDGETS} holds no budgets ({error})",
            where=f"run {run.run_id}",
            next_step="Restore the file or measure again.",
        ) from error


def _own_budget(entry: Mapping[str, Any]) -> Budget:
    for key in ("limit", "margin"):
        if not isinstance(entry[key], int | float | None):
            raise TypeError(f"{key} is {entry[key]!r}")
    return Budget(**{**entry, "fidelity": Fidelity(entry["fidelity"])})


def results_of(run: Run, budgets: Iterable[Budget]) -> tuple[Result, ...]:
    """Return a row for each measurement and comparison of `run`; without any, one that says how it ended.

    `budgets` are the plan's; those that the run's own test set go before them.
    """
    if run.outcome is not Outcome.COMPLETED or not (run.measurements or run.comparisons):
        return (_outcome_row(run),)
    budgets = tuple(budgets)
    rows = tuple(_row(run, m, budget_for(m, run, budgets)) for m in run.measurements)
    return (*rows, *_compared_rows(run, budgets))


def _compared_rows(run: Run, budgets: tuple[Budget, ...]) -> Iterable[Result]:
    """Yield one row for each comparison of `run`; together they are one family of hypotheses."""
    if not run.comparisons:
        return
    for c in run.comparisons:
        _metric_row(run, c.metric)
    rows = [METRICS[c.metric] for c in run.comparisons]
    margins = [margin_for(c, run, budgets) for c in run.comparisons]
    judgements = judge_family(run.comparisons, margins, rows)
    for c, margin, row, judgement in zip(run.comparisons, margins, rows, judgements, strict=True):
        m = Measurement(
            c.metric, c.candidate, None, None, c.n, c.fidelity, c.scenario or run.scenario, c.batch_size
        )
        # both arms met the same load, unless one is from memory; what breaks a run as a whole breaks this too
        scopes = tuple(Scope) if c.method is Method.RECORDED else (Scope.ALL,)
        failing = _failing_conditions(run, scopes) if row.kind in TIMED_KINDS else ()
        verdict, reasons = _under_conditions(judgement, failing)
        result = _result(run, m, row.unit, row.direction, None, verdict, reasons)
        yield replace(result, baseline=c.baseline, ratio=c.value, margin=margin, comparison=c)


def _metric_row(run: Run, name: str) -> Metric:
    try:
        return METRICS[name]
    except KeyError:
        raise ValueError(f"run {run.run_id}: `{name}` is not in the metric table") from None


def _under_conditions(judgement: Judgement, failing: tuple[str, ...]) -> tuple[Verdict, tuple[str, ...]]:
    if not failing:
        return judgement.verdict, judgement.reasons
    # a number that nothing judges stays so: the session's verdict covers what had budgets
    unjudged = judgement.verdict is Verdict.NOT_JUDGED
    return Verdict.NOT_JUDGED if unjudged else Verdict.INVALID, (*failing, *judgement.reasons)


def _row(run: Run, m: Measurement, budget: Budget | None) -> Result:
    row = _metric_row(run, m.metric)
    judgement = judge(replace(m, scenario=m.scenario or run.scenario), budget, row.direction)
    failing = _failing_conditions(run, tuple(Scope)) if row.kind in TIMED_KINDS else ()
    verdict, reasons = _under_conditions(judgement, failing)
    limit = budget.limit if budget else m.limit
    return _result(run, m, row.unit, row.direction, limit, verdict, reasons)


def _failing_conditions(run: Run, scopes: tuple[Scope, ...]) -> tuple[str, ...]:
    return tuple(
        f"{c.name}: {c.observed}, expected {c.expected}{'. ' + c.remedy if c.remedy else ''}"
        for c in run.conditions
        if c.ok is False and c.scope in scopes
    )


def _outcome_row(run: Run) -> Result:
    if run.error is not None:
        reasons: tuple[str, ...] = (run.error.message,)
    elif run.reason:
        reasons = (run.reason,)
    elif run.outcome is Outcome.COMPLETED:
        reasons = ("completed; it measures nothing",)
    else:
        reasons = (f"the run ended as {run.outcome} without a reason",)
    m = Measurement(OUTCOME, None, None, None, 0, Fidelity.MEASURED, scenario=run.scenario)
    return _result(run, m, "", "", None, OUTCOME_VERDICTS[run.outcome], reasons)


def _result(
    run: Run,
    m: Measurement,
    unit: str,
    direction: str,
    limit: float | None,
    verdict: Verdict,
    reasons: tuple[str, ...],
) -> Result:
    return Result(
        run_id=run.run_id,
        suite=run.suite,
        test=run.test,
        model=run.model,
        artifact_sha256=run.artifact_sha256,
        runtime=run.runtime,
        runtime_version=run.runtime_version,
        device_name=run.device.name,
        device_type=run.device.type,
        scenario=m.scenario or run.scenario,
        batch_size=m.batch_size,
        threads=run.threads,
        settings=run.settings,
        metric=m.metric,
        unit=unit,
        direction=direction,
        value=m.value,
        low=m.low,
        high=m.high,
        n=m.n,
        fidelity=None if m.metric == OUTCOME else m.fidelity,
        budget=limit,
        baseline=None,
        ratio=None,
        margin=None,
        verdict=verdict,
        reasons=reasons,
    )
