"""suites/release.toml → Plan: the models, what must be measured of them, and by which budgets.

Reads the plan's own file alone: a model's file is opened by `resolve_case`, when its turn comes. Every
problem of the file is reported at once. docs/configuration.md is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.budget_lines import budget_lines
from harness.budgets import FIDELITIES, MAX_RATE_PER_S, parse_metric
from harness.errors import ConfigError, nearest
from harness.metrics import METRICS
from harness.model import (
    LATENCY,
    Budget,
    CommandRuntime,
    Fidelity,
    MultiStreamLoad,
    OptionValue,
    PeriodicLoad,
    Plan,
    PlanModel,
    RuntimeSpec,
    ServerLoad,
)
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
from harness.soak_settings import name_problems, parse_load, plan_settings
from harness.toml_schema import NAME, Problems, Section, read_toml
from harness.units import UNITS

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
# in the order they run: what needs an emulated board's timing profile together, what heats a board last
SUITES = ("deploy", "accuracy", "memory", "latency", "power", "thermal", "soak")
ON_REQUEST = ("power", "thermal")  # they take minutes: measured where -m, a file's name or the plan asks
SOAK = "soak"  # takes as long as --soak says, so that option asks for it
COMMAND = "command"  # the one kind of runtime that a plan can define
PROTOCOLS = ("json-lines", "benchmark_model")  # of docs/agent-protocol.md, Commands
# a shorter period than any loop keeps, and a longer one than a session waits for (chosen)
_PERIOD_NS = (10e3, 60e9)
_MIN_MEMORY_BYTES = 1 << 20  # chosen: no interpreter starts in less
_MAX_SAMPLES_PER_QUERY = 1024  # chosen: beyond any camera rig, and below what exhausts a board's memory


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
    device_types, optional, suites, accepted, estimates = _parse_release(root)
    own_runtimes = tuple(_parse_runtime_table(name, section) for name, section in root.tables("runtimes"))
    models = tuple(_parse_model(name, section) for name, section in root.tables("models"))
    for model in models:
        others = [other for other in models if other is not model]
        if model.base is not None and model.base not in {other.name for other in others}:
            what = f"no other model `{model.base}`{_names(others, model.base)}"
            problems.add(f"models.{model.name}.base", what)
        _check_soak(model, [other.name for other in models], problems)
    soak = plan_settings(root.table("soak"))
    budgets = tuple(_parse_budgets(root, models, (*device_types, *optional), path.name))
    root.finish()
    problems.check()
    return Plan(
        path=path,
        models=models,
        device_types=device_types,
        required_suites=suites,
        accepted_fidelity=tuple(Fidelity(name) for name in accepted),
        accepted_estimates=estimates,
        budgets=budgets,
        runtimes=own_runtimes,
        soak=soak,
        raw=raw,
    )


def _check_soak(model: PlanModel, names: Sequence[str], problems: Problems) -> None:
    for key, what in name_problems(model.soak, model.name, names) if model.soak else ():
        problems.add(f"models.{model.name}.soak.{key}", what)


def _names(models: Iterable[PlanModel], wanted: str) -> str:
    return nearest(wanted, (model.name for model in models)) or "; the plan names no models"


def _parse_release(root: Section) -> tuple[tuple[str, ...], ...]:
    """Return (required device types, others that may have budgets, required suites, accepted fidelity,
    accepted estimates)."""
    release = root.table("release")
    if release is None:
        return (), (), (), (str(Fidelity.MEASURED), str(Fidelity.VIRTUAL)), (LATENCY,)
    device_types = release.texts("device_types")
    others = release.texts("other_device_types")
    suites = release.texts("required_suites", choices=SUITES)
    named = {"device_types": device_types, "other_device_types": others}
    for key, names in named.items():
        for name in names:
            if NAME.fullmatch(name) is None:
                release.problem(key, f"{name!r} is not a name: letters, digits, `.`, `_` and `-`")
    accepted = release.texts("accepted_fidelity", choices=FIDELITIES)
    if not accepted:
        accepted = (str(Fidelity.MEASURED), str(Fidelity.VIRTUAL))
    # an empty list is an answer: no estimate decides
    estimates = release.texts("accepted_estimates", choices=(LATENCY,))
    if "accepted_estimates" not in release.data:
        estimates = (LATENCY,)
    release.finish()
    return device_types, others, suites, accepted, estimates


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
        golden_path=section.path("golden"),
        baseline=section.text("baseline"),
        memory_limit_bytes=_parse_memory_limit(section),
        soak=parse_load(section.table("soak")),
        options=_parse_options(section),
        **_parse_scenarios(section),
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


def _parse_options(section: Section) -> dict[str, OptionValue]:
    """Return the table `options`: which there are is the runtime's to say (harness/runtimes/options.py)."""
    table = section.table("options")
    options: dict[str, OptionValue] = {}
    for name, value in table.data.items() if table else ():
        assert table is not None
        if isinstance(value, bool | int | float | str):
            options[name] = value
        else:
            table.problem(name, f"expected true, false, a number or a string, got {value!r}")
    return options


def _parse_memory_limit(section: Section) -> int | None:
    limit = _with_unit(section, "memory_limit", "bytes")
    if limit is not None and limit < _MIN_MEMORY_BYTES:
        section.problem("memory_limit", f'expected "1 MiB" or more, got {section.data["memory_limit"]!r}')
        return None
    return None if limit is None else int(limit)


# --- scenarios ------------------------------------------------------------------------------------


def _parse_scenarios(section: Section) -> dict[str, Any]:
    """Return the loads of the table `scenarios`, by the names that PlanModel has for them."""
    table = section.table("scenarios")
    if table is None:
        return {}
    server, periodic, multi = (table.table(key) for key in ("server", "periodic", "multi_stream"))
    table.finish()
    return {
        "server": _parse_server(server) if server else None,
        "periodic": _parse_periodic(periodic) if periodic else None,
        "multi_stream": _parse_multi_stream(multi) if multi else None,
    }


def _parse_server(section: Section) -> ServerLoad | None:
    rate, p99 = _with_unit(section, "rate", "1/s"), _with_unit(section, "p99", "ns")
    duration_s = section.quantity("duration_s", "s", at_least=1)
    section.finish()
    if len(section.data.keys() & {"rate", "p99"}) != 1:
        place = "rate" if "rate" in section.data else "p99"
        what = 'expected `rate`, as "50 /s", or `p99`, as "48 ms", to search the highest rate that keeps it'
        section.problem(place, f"{what}; {'both are set' if 'p99' in section.data else 'neither is'}")
        return None
    if rate is not None and not 0 < rate <= MAX_RATE_PER_S:
        what = "no device answers that" if rate > 0 else "nothing would arrive"
        section.problem("rate", f"{what}: expected above 0 and at most {MAX_RATE_PER_S:g} /s, got {rate:g}")
        return None
    if p99 is not None and p99 <= 0:
        section.problem("p99", "nothing is answered in no time; expected above 0")
        return None
    return ServerLoad(rate, p99, duration_s)


def _parse_periodic(section: Section) -> PeriodicLoad | None:
    period = _with_unit(section, "period", "ns", required=True)
    deadline = _with_unit(section, "deadline", "ns")
    section.finish()
    shortest, longest = _PERIOD_NS
    if period is not None and not shortest <= period <= longest:
        section.problem("period", f'expected "10 us" to "60 s", got {section.data["period"]!r}')
        return None
    if deadline is not None and deadline <= 0:
        section.problem("deadline", "nothing is done in no time; expected above 0")
        return None
    return None if period is None else PeriodicLoad(period, period if deadline is None else deadline)


def _parse_multi_stream(section: Section) -> MultiStreamLoad | None:
    count = section.integer("samples_per_query", required=True, at_least=1)
    section.finish()
    if count is not None and count > _MAX_SAMPLES_PER_QUERY:
        section.problem("samples_per_query", f"expected at most {_MAX_SAMPLES_PER_QUERY}, got {count}")
        return None
    return None if count is None else MultiStreamLoad(count)


def _with_unit(section: Section, key: str, unit: str, *, required: bool = False) -> float | None:
    """Return a quantity whose key doesn't say its unit, so the text has to."""
    value = section.data.get(key)
    number = section.quantity(key, unit, required=required)
    if number is not None and (not isinstance(value, str) or value.strip()[-1:].isdigit()):
        section.problem(
            key, f"expected a quantity with its unit, got {value!r}; valid: {', '.join(UNITS[unit])}"
        )
        return None
    return number


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
                yield from parse_metric(table, METRICS[metric], model, device_type, file)
