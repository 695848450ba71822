"""suites/release.toml → Plan: the models, what must be measured of them, and by which budgets.

Reads the plan's own file alone: a model's file is opened by `resolve_case`, when its turn comes. Every
problem of the file is reported at once. docs/configuration.md is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.budget_lines import budget_lines
from harness.errors import ConfigError, nearest
from harness.judging import RULES
from harness.metrics import METRICS, Metric
from harness.model import Budget, CommandRuntime, Fidelity, Plan, PlanModel, RuntimeSpec
from harness.model_files import (
    FORMATS,
    artifact_of,
    default_runtime,
    parse_dimensions,
    parse_runtime,
    parse_shape,
    resolve_case,
)
from harness.runtimes import descriptors
from harness.toml_schema import NAME, Problems, Section, read_toml

# model_files and budget_lines are parts of this module's job, in files of their own
__all__ = [
    "artifact_of",
    "budget_lines",
    "default_runtime",
    "load_plan",
    "parse_runtime",
    "parse_shape",
    "plan_from_mapping",
    "resolve_case",
]

SCHEMA_VERSION = 1
SUITES = ("deploy", "accuracy", "memory", "latency")  # in the order they run; latency has its own profile
SCENARIOS = ("single_stream", "multi_stream", "offline", "server", "periodic")
COMMAND = "command"  # the one kind of runtime that a plan can define
PROTOCOLS = ("json-lines", "benchmark_model")  # of docs/agent-protocol.md, Commands
_FIDELITIES = tuple(str(fidelity) for fidelity in Fidelity)
# exact figures without an interval: the value itself is judged unless the budget says otherwise
_POINT_METRICS = frozenset({"model_size_bytes", "output_max_abs_error"})


def load_plan(path: Path) -> Plan:
    """Return the plan in `path`. Raises ConfigError with every problem found."""
    return plan_from_mapping(read_toml(path), path)


def plan_from_mapping(raw: Mapping[str, Any], path: str | Path) -> Plan:
    """Return the plan that the tables `raw`, read from `path` once, mean: `Plan.raw` gives the plan again.

    Raises ConfigError with every problem found.
    """
    path = Path(path)
    problems = Problems(path)
    root = Section(raw, "", problems)
    root.version(SCHEMA_VERSION)
    device_types, optional, suites, accepted = _parse_release(root)
    own_runtimes = tuple(_parse_runtime_table(name, section) for name, section in root.tables("runtimes"))
    models = tuple(_parse_model(name, section) for name, section in root.tables("models"))
    for model in models:
        others = [other for other in models if other is not model]
        if model.base is not None and model.base not in {other.name for other in others}:
            what = f"no other model `{model.base}`{_names(others, model.base)}"
            problems.add(f"models.{model.name}.base", what)
    budgets = tuple(_parse_budgets(root, models, (*device_types, *optional), path.name))
    root.finish()
    problems.check()
    return Plan(
        path=path,
        models=models,
        device_types=device_types,
        required_suites=suites,
        accepted_fidelity=tuple(Fidelity(name) for name in accepted),
        budgets=budgets,
        runtimes=own_runtimes,
        raw=raw,
    )


def _names(models: Iterable[PlanModel], wanted: str) -> str:
    return nearest(wanted, (model.name for model in models)) or "; the plan names no models"


def _parse_release(root: Section) -> tuple[tuple[str, ...], ...]:
    """Return (required device types, others that may have budgets, required suites, accepted fidelity)."""
    release = root.table("release")
    if release is None:
        return (), (), (), (str(Fidelity.MEASURED), str(Fidelity.VIRTUAL))
    device_types = release.texts("device_types")
    others = release.texts("other_device_types")
    suites = release.texts("required_suites", choices=SUITES)
    named = {"device_types": device_types, "other_device_types": others}
    for key, names in named.items():
        for name in names:
            if NAME.fullmatch(name) is None:
                release.problem(key, f"{name!r} is not a name: letters, digits, `.`, `_` and `-`")
    accepted = release.texts("accepted_fidelity", choices=_FIDELITIES)
    if not accepted:
        accepted = (str(Fidelity.MEASURED), str(Fidelity.VIRTUAL))
    release.finish()
    return device_types, others, suites, accepted


def _parse_runtime_table(name: str, section: Section) -> CommandRuntime:
    """Return a runtime that the plan defines. Names of built-in and installed ones are taken."""
    if name in descriptors():
        section.problems.add(section.place, "there is a runtime of this name already; choose another")
    section.text("kind", required=True, choices=(COMMAND,))
    formats = section.texts("formats")
    found = CommandRuntime(
        name=name,
        argv=section.arguments("argv"),
        protocol=section.text("protocol", required=True, choices=PROTOCOLS) or "",
        formats=tuple(_format_named(text) for text in formats),
        timeout_s=section.quantity("timeout_s", "s", at_least=1),
    )
    section.finish()
    return found


def _format_named(text: str) -> str:
    bare = text.lower().removeprefix(".")
    return FORMATS.get(f".{bare}", bare)


def _parse_model(name: str, section: Section) -> PlanModel:
    task = section.text("task")
    tasks = [row.name for row in METRICS.values() if row.kind == "task"]
    if task is not None and task not in tasks:
        section.problem("task", f"unknown task metric `{task}`{nearest(task, tasks)}")
    model = PlanModel(
        name=name,
        path=section.path("path", required=True) or Path(),
        runtime=_parse_model_runtime(section),
        inputs_path=section.path("inputs"),
        task=task,
        variant=section.text("variant"),
        base=section.text("base"),
        shapes=_parse_shapes(section),
        rtol=section.quantity("rtol", "1", at_least=0),
        atol=section.quantity("atol", "1", at_least=0),
    )
    if task is not None and model.inputs_path is None:
        section.problem("task", f"`{task}` needs `inputs`, an .npz with the inputs and their `labels`")
    section.finish()
    return model


def _parse_model_runtime(section: Section) -> RuntimeSpec | None:
    text = section.text("runtime")
    if text is None:
        return None
    try:
        return parse_runtime(text)
    except ConfigError as error:
        section.problem("runtime", error.what)
        return None


def _parse_shapes(section: Section) -> dict[str, tuple[int, ...]]:
    """Return the table `shape`: input → "1x3x96x96"."""
    shapes: dict[str, tuple[int, ...]] = {}
    table = section.table("shape")
    for name in table.data if table else ():
        assert table is not None
        text = table.text(name)
        if text is None:
            continue
        try:
            shapes[name] = parse_dimensions(text)
        except ConfigError as error:
            table.problem(name, error.what)
    return shapes


# --- budgets --------------------------------------------------------------------------------------


def _parse_budgets(
    root: Section, models: Sequence[PlanModel], device_types: Sequence[str], file: str
) -> Iterable[Budget]:
    for device_type, by_model in root.tables("budgets"):
        if device_type not in device_types:
            hint = nearest(device_type, device_types) or "; none is listed"
            what = f"release.device_types and release.other_device_types don't list `{device_type}`{hint}"
            root.problems.add(by_model.place, what)
        for model, table in by_model.named_tables():
            if model not in {m.name for m in models}:
                root.problems.add(table.place, f"no model `{model}`{_names(models, model)}")
            for metric in table.data:
                if metric not in METRICS:
                    table.problem(metric, f"unknown metric{nearest(metric, METRICS)}")
                    continue
                yield from _parse_metric(table, METRICS[metric], model, device_type, file)


def _parse_metric(
    table: Section, metric: Metric, model: str, device_type: str, file: str
) -> Iterable[Budget]:
    """Return the budgets of one metric: a limit, a table with one, or a list of such tables."""
    written = table.data[metric.name]
    seen = set()
    for index, entry in enumerate(written if isinstance(written, list) else [written]):
        place = table.at(metric.name) + (f"[{index}]" if isinstance(written, list) else "")
        data = entry if isinstance(entry, dict) else {"limit": entry}
        budget = _parse_budget(Section(data, place, table.problems), metric, model, device_type, file)
        if budget is None:
            continue
        scope = (budget.fidelity, budget.scenario, budget.batch_size)
        if scope in seen:
            table.problems.add(place, "the second budget for this fidelity, scenario and batch size")
        seen.add(scope)
        yield budget


def _parse_budget(section: Section, metric: Metric, model: str, device_type: str, file: str) -> Budget | None:
    limit = section.quantity("limit", metric.unit, required=True, at_least=0)
    if limit is not None and metric.unit == "ratio" and limit > 1:
        section.problem("limit", f'expected a ratio from 0 to 1, or a percentage as "97 %", got {limit:g}')
    fidelity = section.text("fidelity", choices=_FIDELITIES) or Fidelity.MEASURED
    rule = section.text("rule", choices=RULES) or ("point" if metric.name in _POINT_METRICS else "confidence")
    scenario = section.text("scenario", choices=SCENARIOS)
    batch_size = section.integer("batch_size", at_least=1)
    section.finish()
    if limit is None:
        return None
    return Budget(
        model=model,
        device_type=device_type,
        metric=metric.name,
        limit=limit,
        fidelity=Fidelity(fidelity),
        rule=rule,
        scenario=scenario,
        batch_size=batch_size,
        where=f"{section.place} in {file}",
    )
