"""Budgets as they are written: entries of the plan, and `@pytest.mark.budget` on a test. Checked, not judged.

A budget has a limit, a margin against the baseline, or both. docs/configuration.md is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from harness.errors import nearest
from harness.judging import RULES, plan_name
from harness.metrics import ESTIMATES, HIGHER, METRICS, SOAK_METRICS, Metric
from harness.model import Budget, Fidelity
from harness.recorded import EXACT_KIND, NOT_COMPARED
from harness.toml_schema import Problems, Section

SCENARIOS = ("single_stream", "multi_stream", "offline", "server", "periodic", "energy", "thermal")
MARKER = "budget"
MARKER_HELP = (
    "budget(metric, *, limit, margin, rule, fidelity, scenario, batch_size): judge this test's numbers by it "
    "instead of the plan's"
)
FIDELITIES = tuple(str(fidelity) for fidelity in Fidelity)
MAX_MARGIN = 1.0  # chosen: beyond twice the baseline a margin is a slip of the pen
MAX_RATE_PER_S = 1e6  # chosen: a call a microsecond; no request is answered in less than a system call takes

# exact figures without an interval: the value itself is judged unless the budget says otherwise
_POINT_METRICS = frozenset({"model_size_bytes", "output_max_abs_error"})
_MAY_BE_ZERO = frozenset({"start_jitter_p99_ns", "model_pages_bytes"})  # a runtime may copy the file


class Mark(Protocol):
    """A pytest marker, as far as it is read here."""

    @property
    def args(self) -> tuple[Any, ...]: ...
    @property
    def kwargs(self) -> Mapping[str, Any]: ...


def parse_metric(table: Section, metric: Metric, model: str, device_type: str, file: str) -> Iterable[Budget]:
    """Yield the budgets of one metric: a limit, a table with one, or a list of such tables."""
    written = table.data[metric.name]
    seen = set()
    for index, entry in enumerate(written if isinstance(written, list) else [written]):
        place = table.at(metric.name) + (f"[{index}]" if isinstance(written, list) else "")
        data = entry if isinstance(entry, dict) else {"limit": entry}
        section = Section(data, place, table.problems)
        budget = _parse_budget(section, metric, model, device_type, f"{place} in {file}")
        if budget is None:
            continue
        scope = (budget.fidelity, budget.scenario, budget.batch_size)
        if scope in seen:
            table.problems.add(place, "the second budget for this fidelity, scenario and batch size")
        seen.add(scope)
        yield budget


def _parse_budget(
    section: Section, metric: Metric, model: str, device_type: str, where: str
) -> Budget | None:
    limit = section.quantity("limit", metric.unit, at_least=0)
    margin = section.quantity("margin", "ratio", at_least=0)
    only_estimated = metric.name in ESTIMATES.values()
    fidelity = Fidelity(
        section.text("fidelity", choices=FIDELITIES)
        or (Fidelity.ESTIMATED if only_estimated else Fidelity.MEASURED)
    )
    rule = section.text("rule", choices=RULES)
    scenario = section.text("scenario", choices=SCENARIOS)
    batch_size = section.integer("batch_size", at_least=1)
    if limit is not None:
        _check_limit(section, metric, limit)
    if margin is not None:
        _check_margin(section, metric, margin)
    if not section.data.keys() & {"limit", "margin"}:
        section.problem("limit", "is missing: a budget has a limit, a margin, or both")
    elif rule is not None and "limit" not in section.data:
        section.problem("rule", "is for a limit, and there is none; a margin is judged by its interval")
    name = ESTIMATES.get(metric.name, metric.name) if fidelity is Fidelity.ESTIMATED else metric.name
    if name in ESTIMATES.values():
        _check_estimate(section, fidelity, rule, margin)
    elif fidelity is Fidelity.ESTIMATED and metric.kind == "time" and name not in SOAK_METRICS:
        what = f"{name} is never estimated; of times only {' and '.join(ESTIMATES)} has an estimate"
        section.problem("fidelity", what)
    section.finish()
    if limit is None and margin is None:
        return None
    return Budget(
        model=model,
        device_type=device_type,
        metric=name,
        limit=limit,
        fidelity=fidelity,
        rule=rule or ("point" if metric.name in _POINT_METRICS else "confidence"),
        scenario=scenario,
        batch_size=batch_size,
        where=where,
        margin=margin,
    )


def _check_limit(section: Section, metric: Metric, limit: float) -> None:
    """Report a limit that no value of the metric could be beyond, or none could hold."""
    if metric.unit == "ratio" and limit > 1:
        section.problem("limit", f'expected a ratio from 0 to 1, or a percentage as "97 %", got {limit:g}')
    elif limit == 0 and metric.direction == HIGHER:
        section.problem("limit", f"{metric.name} is never below 0, so this judges nothing")
    elif limit == 0 and (metric.unit in ("ns", "bytes") or metric.kind == "count"):
        if metric.name not in _MAY_BE_ZERO:
            section.problem("limit", f"{metric.name} is never 0, so nothing could hold it")
    elif metric.name == "server_rate_per_s" and limit > MAX_RATE_PER_S:
        section.problem("limit", f"no device answers {limit:g} requests a second; at most {MAX_RATE_PER_S:g}")


def _check_estimate(section: Section, fidelity: Fidelity, rule: str | None, margin: float | None) -> None:
    """Report what no estimate can be judged by: its value without its band, a baseline, another fidelity."""
    if fidelity is not Fidelity.ESTIMATED:
        section.problem("fidelity", f"this metric is never {fidelity}, always {Fidelity.ESTIMATED}")
    if rule == "point":
        section.problem("rule", "an estimate is judged by its band: leave it out, or say `confidence`")
    if margin is not None:
        section.problem("margin", "an estimate isn't compared with a baseline; the virtual number is")


def _check_margin(section: Section, metric: Metric, margin: float) -> None:
    """Report a margin for what isn't compared, and one that makes no sense."""
    if metric.name in NOT_COMPARED:
        what = f"{metric.name} isn't compared with a baseline; each run has it judged by itself: give a limit"
        section.problem("margin", what)
    elif margin > MAX_MARGIN:
        percent = f'; did you mean "{margin:g} %"?' if margin <= 100 * MAX_MARGIN else ""
        most = f"{100 * MAX_MARGIN:g}%"
        section.problem("margin", f"{100 * margin:g}% is beyond {most}, the most there may be{percent}")
    elif margin == 0 and metric.kind != EXACT_KIND:
        what = "0 can't be shown: a measured effect has an interval, and half of it is beyond 0"
        section.problem("margin", f'{what}. Give what may be lost unnoticed, as "1 %"')


# --- on a test ------------------------------------------------------------------------------------


def marker_budgets(
    marks: Sequence[Sequence[Mark]], model: str, device_type: str, where: str
) -> tuple[Budget, ...]:
    """Return the budgets that a test's markers set for `model` on `device_type`.

    `marks` are the `budget` markers of the test itself, then of its class, its module …: of two for one
    metric, fidelity, scenario and batch size the nearer counts. `where` names the test. Raises ConfigError
    with every problem; two on one level are one.
    """
    problems = Problems(Path(where))
    found: dict[tuple[object, ...], Budget] = {}
    for level in marks:
        mine: dict[tuple[object, ...], Budget] = {}
        for mark in level:
            budget = _marker_budget(mark, problems, plan_name(model), device_type, where)
            if budget is None:
                continue
            scope = (budget.metric, budget.fidelity, budget.scenario, budget.batch_size)
            if scope in mine:
                problems.add(f"@budget({budget.metric!r})", "the second one for this fidelity and scope")
            mine[scope] = budget
        found = {**mine, **found}
    problems.check()
    return tuple(found.values())


def _marker_budget(mark: Mark, problems: Problems, model: str, device_type: str, where: str) -> Budget | None:
    if len(mark.args) != 1 or not isinstance(mark.args[0], str):
        given = ", ".join(map(repr, mark.args)) or "nothing"
        problems.add("@budget", f"expected a metric's name first and keywords after it, got {given}")
        return None
    name = mark.args[0]
    if name not in METRICS:
        problems.add("@budget", f"unknown metric `{name}`{nearest(name, METRICS)}")
        return None
    section = Section(mark.kwargs, f"@budget({name!r})", problems)
    budget = _parse_budget(section, METRICS[name], model, device_type, f"@budget on {where}")
    return budget and replace(budget, fidelity_open="fidelity" not in mark.kwargs)
