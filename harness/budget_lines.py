"""Results → the TOML lines that would set budgets at what was measured, with some room. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from harness.judging import plan_name
from harness.metrics import HIGHER, METRICS, SOAK_METRICS
from harness.model import Fidelity, Plan, Result

HEADROOM = 0.10  # chosen: what a budget leaves above what was measured
# its limit is a tolerance that comes with each run; no model's doing
_OWN_LIMIT = frozenset({"output_max_abs_error", "ambient_temp_c"}) | SOAK_METRICS
_WRITTEN_UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1, "ns")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "ratio": ((0.01, "%"),),
    "1/s": ((1, "/s"),),
    "s": ((1, "s"), (1e-3, "ms")),
    "J": ((1, "J"), (1e-3, "mJ"), (1e-6, "uJ")),
    "W": ((1, "W"), (1e-3, "mW")),
    "°C": ((1, "°C"),),
    "1": ((1, ""),),
}


def budget_lines(results: Iterable[Result], device_type: str, *, plan: Plan | None = None) -> str:
    """Return TOML for release.toml: a budget for each metric that was measured on `device_type`.

    The limit is 10% worse than the value (for a ratio such as accuracy: 10% more misses). Where the
    interval reaches further than that, the limit is 10% worse than its bad side, so that what was
    measured would pass; where it has no bad side, the rule is `point`. The worst of several attempts and
    runtimes counts. With the `plan` that the lines are for, what else it needs for them comes along: a
    table for a model that it doesn't name, a note where it doesn't list the device type. "" where nothing
    was measured.
    """
    by_model: dict[str, list[Result]] = {}
    for result in results:
        if result.device_type == device_type and _can_be_budgeted(result):
            by_model.setdefault(_plan_name(result.model), []).append(result)
    blocks = []
    if plan is not None and by_model and device_type not in _listed_types(plan):
        listed = json.dumps([*plan.raw.get("release", {}).get("other_device_types", ()), device_type])
        blocks.append(f"# in [release], so that it may have budgets: other_device_types = {listed}\n")
    for model in sorted(by_model):
        if plan is not None and model not in {known.name for known in plan.models}:
            blocks.append(f"[models.{_key(model)}]\npath = {_quoted(model)}  # from this plan's folder\n")
        lines = [_metric_line([r for r in by_model[model] if r.metric == name]) for name in METRICS]
        body = "".join(line for line in lines if line)
        blocks.append(f"[budgets.{_key(device_type)}.{_key(model)}]\n{body}")
    return "\n".join(blocks)


def _plan_name(model: str) -> str:
    """Return what a plan calls a model: without a runtime that was asked for, and as a plan may name it."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plan_name(model)).lstrip("._-")
    return name or "model"


def _listed_types(plan: Plan) -> set[str]:
    return {*plan.device_types, *plan.raw.get("release", {}).get("other_device_types", ())}


def _can_be_budgeted(result: Result) -> bool:
    return (
        result.value is not None
        and result.comparison is None  # its absolute number has a row of its own
        and math.isfinite(result.value)
        and result.metric in METRICS
        and result.metric not in _OWN_LIMIT
        and result.fidelity not in (None, Fidelity.ESTIMATED)
        and not (METRICS[result.metric].direction == HIGHER and _limit(result) <= 0)  # would judge nothing
        and _limit(result) >= 0  # energy above idle is negative where the load doesn't stand out of the idle
    )


def _metric_line(results: Sequence[Result]) -> str:
    """Return the lines of one metric: one limit, or a list of them by scenario and batch size."""
    scopes: dict[tuple[str, int, str], list[Result]] = {}
    for r in results:
        scopes.setdefault((r.scenario or "", r.batch_size, str(r.fidelity)), []).append(r)
    if not scopes:
        return ""
    name = results[0].metric
    if len(scopes) == 1 and results[0].batch_size == 1:
        return f"{name} = {_entry(results, scoped=False)}\n"
    entries = "".join(f"    {_entry(scopes[scope], scoped=True)},\n" for scope in sorted(scopes))
    return f"{name} = [\n{entries}]\n"


def _entry(results: Sequence[Result], *, scoped: bool) -> str:
    """Return the worst of `results` as a bare limit, or as an inline table where it needs more."""
    row = METRICS[results[0].metric]
    limits = [_limit(r) for r in results]
    limit = min(limits) if row.direction == HIGHER else max(limits)
    first = results[0]
    parts = [f"limit = {_quantity(limit, row.unit, up=row.direction != HIGHER)}"]
    if first.fidelity is not Fidelity.MEASURED:
        parts.append(f'fidelity = "{first.fidelity}"')
    if any(_bad_side(r) is None for r in results):
        parts.append('rule = "point"')
    if scoped:
        if first.scenario:
            parts.append(f'scenario = "{first.scenario}"')
        parts.append(f"batch_size = {first.batch_size}")
    return parts[0].removeprefix("limit = ") if len(parts) == 1 else "{ " + ", ".join(parts) + " }"


def _bad_side(result: Result) -> float | None:
    return result.low if METRICS[result.metric].direction == HIGHER else result.high


def _limit(result: Result) -> float:
    assert result.value is not None
    limit, bound = _worsened(result, result.value), _bad_side(result)
    if bound is None:
        return limit
    higher = METRICS[result.metric].direction == HIGHER
    holds = bound >= limit if higher else bound <= limit
    return limit if holds else _worsened(result, bound)


def _worsened(result: Result, number: float) -> float:
    row = METRICS[result.metric]
    if row.unit == "ratio" and row.direction == HIGHER:
        # 10% off 97% would be 87%: what grows is the share of misses
        return max(0.0, 1 - (1 - number) * (1 + HEADROOM))
    worse = number * (1 - HEADROOM if row.direction == HIGHER else 1 + HEADROOM)
    return min(1.0, worse) if row.unit == "ratio" else worse


def _quantity(number: float, unit: str, *, up: bool) -> str:
    """Return `number` with three or four digits, never rounded to the stricter side, as TOML."""
    scale, name = next(((s, n) for s, n in _WRITTEN_UNITS[unit] if number >= s), _WRITTEN_UNITS[unit][-1])
    scaled = number / scale
    space = "" if name.startswith("/") else " "
    if scaled == 0:
        return _quoted(f"0{space}{name}") if name else "0"
    digits = 3 if unit == "ratio" else 2
    step = 10.0 ** (math.floor(math.log10(scaled)) - digits)
    rounded = (math.ceil if up else math.floor)(round(scaled / step, 6)) * step
    text = f"{rounded:.{max(0, -math.floor(math.log10(step)))}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return _quoted(f"{text}{space}{name}") if name else text


def _quoted(text: str) -> str:
    """Return a TOML basic string: JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)
