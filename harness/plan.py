"""suites/release.toml → Plan: the models, what must be measured of them, and by which budgets.

Reads the plan's own file alone: a model's file is opened by `resolve_case`, when its turn comes. Every
problem of the file is reported at once. docs/configuration.md is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.budget_lines import budget_lines
from harness.errors import ConfigError, nearest
from harness.judging import RULES
from harness.metrics import METRICS, Metric
from harness.model import Budget, Fidelity, Plan, PlanModel, RuntimeSpec
from harness.model_files import (
    artifact_of,
    can_read,
    default_runtime,
    format_of,
    parse_dimensions,
    parse_runtime,
    parse_shape,
    require_model_file,
    resolve_case,
)
from harness.toml_schema import NAME, Problems, Section, read_toml

__all__ = [
    "artifact_of",
    "budget_lines",
    "default_runtime",
    "load_plan",
    "parse_plan",
    "parse_runtime",
    "parse_shape",
    "require_model_file",
    "resolve_case",
    "select_models",
]

SCHEMA_VERSION = 1
SCENARIOS = ("single_stream", "multi_stream", "offline", "server", "periodic")
_FIDELITIES = tuple(str(fidelity) for fidelity in Fidelity)
# exact figures without an interval: the value itself is judged unless the budget says otherwise
_POINT_METRICS = frozenset({"model_size_bytes", "output_max_abs_error"})


def load_plan(path: Path) -> Plan:
    """Return the plan in `path`. Raises ConfigError with every problem found."""
    return parse_plan(read_toml(path), path)


def parse_plan(raw: Mapping[str, Any], path: Path) -> Plan:
    """Return the plan that the tables `raw` of `path` mean; a stored session's copy can be parsed again."""
    problems = Problems(path)
    root = Section(raw, "", problems)
    root.version(SCHEMA_VERSION)
    device_types, optional, suites, accepted = _parse_release(root)
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
    suites = release.texts("required_suites")
    named = {"device_types": device_types, "other_device_types": others, "required_suites": suites}
    for key, names in named.items():
        for name in names:
            if NAME.fullmatch(name) is None:
                release.problem(key, f"{name!r} is not a name: letters, digits, `.`, `_` and `-`")
    accepted = release.texts("accepted_fidelity", choices=_FIDELITIES)
    if not accepted:
        accepted = (str(Fidelity.MEASURED), str(Fidelity.VIRTUAL))
    release.finish()
    return device_types, others, suites, accepted


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


def _parse_budget(
    section: Section, metric: Metric, model: str, device_type: str, file: str
) -> Budget | None:
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


# --- what a command line asks for -----------------------------------------------------------------


def select_models(
    plan: Plan,
    wanted: Sequence[str],
    runtimes: Sequence[RuntimeSpec] = (),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[PlanModel, ...]:
    """Return what to measure: the plan's models, or those that `wanted` names.

    Each of `wanted` is a model file, a NAME of the plan, or NAME=FILE, a candidate for the plan's NAME,
    judged by its budgets. `runtimes` replace the plan's for the models that they can read; several of
    them give a model each, called `name@runtime`, and its budgets hold for each. `shapes` are added to
    every model's. Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    chosen: dict[str, PlanModel] = {} if wanted else {model.name: model for model in plan.models}
    for text in wanted:
        try:
            model = _wanted_model(plan, text)
        except ConfigError as error:
            problems.append(str(error))
            continue
        known = chosen.get(model.name)
        if known is not None and known.path != model.path:
            model = replace(model, name=f"{model.path.parent.name}-{model.path.name}")
        if model.name in chosen and chosen[model.name].path != model.path:
            problems.append(f"--model {text}: another model is called `{model.name}` already; rename one")
        chosen.setdefault(model.name, model)
    models = []
    for model in chosen.values():
        try:
            models += _with_runtimes(model, runtimes, explicit=bool(wanted))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return tuple(replace(model, shapes={**model.shapes, **(shapes or {})}) for model in models)


def _wanted_model(plan: Plan, text: str) -> PlanModel:
    by_name = {model.name: model for model in plan.models}
    if text in by_name:
        return by_name[text]
    path = Path(text).expanduser()
    if path.exists():
        path = path.resolve()
        same = [model for model in plan.models if model.path == path]
        return same[0] if same else PlanModel(path.name, path)
    name, equals, file = text.partition("=")
    if equals:
        if name not in by_name:
            raise ConfigError(f"--model {text}: the plan has no model `{name}`{nearest(name, by_name)}")
        return replace(by_name[name], path=Path(file).expanduser().resolve())
    hint = nearest(text, by_name)
    raise ConfigError(f"--model {text}: no such file, and the plan has no model of that name{hint}")


def _with_runtimes(model: PlanModel, runtimes: Sequence[RuntimeSpec], *, explicit: bool) -> list[PlanModel]:
    """Return `model` once per runtime that can read it; as it is where none can and nobody asked for it."""
    if not runtimes:
        return [model]
    format = format_of(model.path)
    fitting = [runtime for runtime in dict.fromkeys(runtimes) if can_read(runtime, format)]
    if not fitting and explicit:
        names = ", ".join(map(str, runtimes))
        shown = format or "unknown"
        raise ConfigError(f"--runtime {names} can't read `{model.name}`, a file of format `{shown}`")
    if len(fitting) <= 1:
        return [replace(model, runtime=runtime) for runtime in fitting] or [model]
    return [replace(model, name=f"{model.name}@{runtime}", runtime=runtime) for runtime in fitting]
