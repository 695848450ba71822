"""The tables `soak` of the plan, of a device type and of a model; and what holds for one soak of them all.

A table gives what it sets, by the names of SoakSettings, so that one can be laid over another: the plan's,
then the device type's, then what that has for its emulated units, then the options. Cycles and alerts have
grammars of their own, which are read where a soak begins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from harness.errors import ConfigError, nearest
from harness.model import Device, SoakLimits, SoakLoad, SoakSettings
from harness.toml_schema import Section
from harness.units import format_duration, parse_quantity

# what may drift, and the unit of its limits (harness/soak/drift.py judges each)
LIMITED = {
    "rss_bytes": "bytes",
    "pss_bytes": "bytes",
    "private_dirty_bytes": "bytes",
    "fds": "1",
    "threads": "1",
    "latency_p99_ns": "ns",
    "throughput_per_s": "1/s",
    "temp_c": "°C",
}
# what may happen and can be judged; the rest is always a note
JUDGED_EVENTS = (
    "reboot", "runner_restarted", "crash", "oom", "child_restarted", "gave_up", "call_failed", "clock_step",
    "throttled", "governor", "frequency_capped", "disk_full", "thinned", "spool_repaired", "hardware_error",
    "link_lost", "collector_gap", "segment_damaged", "alert",
)  # fmt: skip
JUDGEMENTS = ("fail", "invalid", "note")

MIN_WINDOW_S = 0.1  # chosen: a window costs some 10 ms of a small board
MAX_DURATION_S = 366 * 86400.0
MIN_COMPRESSED_PERIOD_S = 1.0  # chosen: below it there is hardly any idle time to skip
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEFAULT = SoakSettings()
# a table's keys of seconds, with the least that each may be
_SECONDS = {
    "duration_s": MIN_WINDOW_S,
    "window_s": MIN_WINDOW_S,
    "warmup_s": 0.0,
    "block_s": 1.0,
    "slice_s": 0.1,
    "power_cycle_every_s": 60.0,
}
_FLAGS = ("abort_on_alert", "restart_after_crash", "restart_after_reboot")
_RATIOS = ("coverage_ratio", "availability_ratio")
_MIN_SPOOL_BYTES = 4 << 20  # chosen: four segments


def parse_duration_s(text: str) -> float:
    """Return the seconds that "72h", "90 min" or "2m" mean. Raises ConfigError; a bare number is refused."""
    stripped = text.strip()
    if re.fullmatch(r"[-+]?[\d._]+", stripped):
        raise ConfigError(f"{text!r} has no unit; expected a duration as 72h, 90min or 120s")
    # `m` is minutes here alone: elsewhere it would be taken for metres or milli
    minutes = re.fullmatch(r"(.*\d)\s*m", stripped)
    seconds = parse_quantity(f"{minutes[1]} min" if minutes else stripped, "s")
    if not 0 < seconds <= MAX_DURATION_S:
        raise ConfigError(f"expected a duration above 0 and at most 366 d, got {text!r}")
    return seconds


def parse_soak(section: Section | None, *, of_type: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a table `soak` sets, by SoakSettings' names, and what its table `emulated` does.

    The latter is a device type's alone. `limits` and `policy` hold what is set of them, not records.
    """
    if section is None:
        return {}, {}
    found = _settings(section, emulated=False)
    inner = section.table("emulated") if of_type else None
    emulated = _settings(inner, emulated=True) if inner else {}
    if inner:
        inner.finish()
    section.finish()
    return found, emulated


def _settings(section: Section, *, emulated: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: section.quantity(key, "s", at_least=least) for key, least in _SECONDS.items()
    }
    found |= {key: section.flag(key) for key in _FLAGS}
    found |= {key: _ratio(section, key) for key in _RATIOS}
    found["cycle"] = section.text("cycle")
    spool = section.quantity("max_spool_bytes", "bytes", at_least=_MIN_SPOOL_BYTES)
    found["max_spool_bytes"] = None if spool is None else int(spool)
    found["webhook_env"] = _variable(section)
    if "alerts" in section.data:
        found["alerts"] = section.texts("alerts")
    if emulated:
        found["compressed"] = section.flag("compressed")
        found["max_windows"] = section.integer("max_windows", at_least=10)
    found["limits"] = _limits(section.table("limits"))
    found["policy"] = _policy(section.table("policy"))
    return {key: value for key, value in found.items() if value is not None and value != {}}


def _ratio(section: Section, key: str) -> float | None:
    value = section.quantity(key, "ratio", at_least=0)
    if value is not None and value > 1:
        section.problem(key, f'expected a ratio from 0 to 1, or a percentage as "99 %", got {value:g}')
        return None
    return value


def _variable(section: Section) -> str | None:
    name = section.text("webhook_env")
    if name is not None and _VARIABLE.fullmatch(name) is None:
        what = "expected the name of the environment variable that holds the URL, which is a secret"
        section.problem("webhook_env", f"{what}, as HARNESS_WEBHOOK")
        return None
    return name


def _limits(section: Section | None) -> dict[str, Any]:
    """Return what the table `limits` sets, by SoakLimits' names."""
    if section is None:
        return {}
    life = section.quantity("service_life_s", "s", at_least=3600)
    found: dict[str, Any] = {} if life is None else {"service_life_s": life}
    for key in ("per_h", "most"):
        table = section.table(key)
        if table is None:
            continue
        found[key] = {
            kind: value
            for kind, unit in LIMITED.items()
            if (value := table.quantity(kind, unit, at_least=0)) is not None
        }
        table.finish()
    section.finish()
    return found


def _policy(section: Section | None) -> dict[str, str]:
    if section is None:
        return {}
    found = {kind: section.text(kind, choices=JUDGEMENTS) for kind in JUDGED_EVENTS}
    section.finish()
    return {kind: word for kind, word in found.items() if word is not None}


def parse_load(section: Section | None) -> SoakLoad | None:
    """Return a model's table `soak`; None without one. That its models exist is the plan's to check."""
    if section is None:
        return None
    above, below = (_ratio(section, key) for key in ("switch_above", "switch_below"))
    found = SoakLoad(
        cycle=section.text("cycle"),
        beside=section.texts("beside"),
        light=section.texts("light"),
        switch_above=SoakLoad.switch_above if above is None else above,
        switch_below=SoakLoad.switch_below if below is None else below,
        hold_windows=section.integer("hold_windows", at_least=1) or SoakLoad.hold_windows,
    )
    if found.switch_below >= found.switch_above:
        what = f"{found.switch_below:g} is not below switch_above, {found.switch_above:g}: it would flap"
        section.problem("switch_below", what)
    section.finish()
    return found


def name_problems(load: SoakLoad, own: str, models: Sequence[str]) -> list[tuple[str, str]]:
    """Return (key, problem) of each model that a table `soak` names wrongly."""
    found = []
    for key, names in (("beside", load.beside), ("light", load.light)):
        others = [name for name in models if name != own]
        found += [
            (key, f"no other model `{name}`{nearest(name, others)}") for name in names if name not in others
        ]
    twice = set(load.beside) & set(load.light)
    found += [("light", f"`{name}` runs beside it already") for name in sorted(twice)]
    return found


# --- laying tables over each other ----------------------------------------------------------------


def over(settings: SoakSettings, given: Mapping[str, Any]) -> SoakSettings:
    """Return `settings` with what a table or the options set; limits and policy key by key."""
    plain = {f.name for f in fields(SoakSettings)} - {"limits", "policy"}
    changed: dict[str, Any] = {key: value for key, value in given.items() if key in plain}
    limits = given.get("limits") or {}
    if limits:
        old = settings.limits
        changed["limits"] = SoakLimits(
            service_life_s=limits.get("service_life_s", old.service_life_s),
            per_h={**old.per_h, **limits.get("per_h", {})},
            most={**old.most, **limits.get("most", {})},
        )
    changed["policy"] = {**settings.policy, **given.get("policy", {})}
    return replace(settings, **changed)


def plan_settings(section: Section | None) -> SoakSettings:
    """Return the plan's table `soak`."""
    return over(_DEFAULT, parse_soak(section)[0])


def settings_for(plan: SoakSettings, device: Device, given: Mapping[str, Any]) -> SoakSettings:
    """Return what holds for a soak on `device`: the plan's, its type's, and the options `given` over both.

    Raises ConfigError where no duration is given, or the parts don't fit each other.
    """
    emulated = device.type.soak_emulated if device.kind == "qemu" else {}
    settings = over(over(over(plan, device.type.soak), emulated), given)
    if settings.duration_s is None:
        raise ConfigError(
            "how long is it to be?",
            where="soak",
            next_step="Say --soak 72h (--duration of `harness soak start`), or set soak.duration_s.",
        )
    most = emulated.get("max_windows")
    if settings.compressed and most and settings.duration_s / settings.window_s > most:
        # whole minutes: blocks and windows then end together
        settings = replace(settings, window_s=60.0 * math.ceil(settings.duration_s / most / 60))
    if settings.compressed:
        settings = replace(settings, slice_s=settings.window_s)
    settings = replace(settings, slice_s=min(settings.slice_s, settings.window_s))
    _check(settings, device)
    return settings


def _check(settings: SoakSettings, device: Device) -> None:
    assert settings.duration_s is not None
    if settings.duration_s < settings.window_s:
        raise ConfigError(
            f"{format_duration(settings.duration_s)} is shorter than one window; the shortest soak on "
            f"{device.name} is {format_duration(settings.window_s)}.",
            where="soak",
            next_step="Ask for more, or lower soak.window_s.",
        )
    if settings.block_s < settings.window_s:
        raise ConfigError(
            f"soak.block_s, {format_duration(settings.block_s)}, is shorter than one window, "
            f"{format_duration(settings.window_s)}: a block is the median of several.",
            where=device.name,
            next_step="Raise soak.block_s.",
        )
    if settings.compressed and settings.cycle == "closed":
        raise ConfigError(
            "a compressed soak skips idle time, and a model in a closed loop leaves none.",
            where=device.name,
            next_step=f'Set cycle = "every 300 s" in [types.{device.type.name}.soak.emulated].',
        )


def load_for(settings: SoakSettings, load: SoakLoad | None) -> SoakLoad:
    """Return how a model is used in one soak, its cycle filled in.

    A compressed soak has one cycle for every model: their own would leave too little idle time to skip.
    """
    found = load or SoakLoad()
    own = None if settings.compressed else found.cycle
    return replace(found, cycle=own or settings.cycle)
