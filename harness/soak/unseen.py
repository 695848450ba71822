"""What a soak didn't measure, and why: what its runner couldn't read, and what such a soak doesn't. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from harness.model import Fidelity, Measurement, SoakTable
from harness.soak.about import About
from harness.soak.limits import KINDS, TIMED

SILENT = "silent_channels"  # of About.run_settings: sensors that gave no reading at the start, and why

_TITLES = {
    "throttled_bits": "throttling",
    "freq_hz": "CPU frequency",
    "governor": "governor and frequency limits",
    "kernel_log": "hardware errors in the kernel's log",
    "mem_available_bytes": "memory available",
    "ram_bytes": "RAM",
    "disk_free_bytes": "free disk",
    "load1": "load average",
}
_NO_BOARD_MODEL = "an emulated board's model of heat runs for power and thermal suites alone"
_COMPRESSED = (
    "a compressed soak reads no sensor: skipped time would fly past what their bus waits, and heat doesn't "
    "follow it"
)


def is_paced(device_kind: str, *, compressed: bool) -> bool:
    """Return whether times mean something: not those of an emulated board that runs at its host's pace."""
    return device_kind != "qemu" or compressed


def not_measured(table: SoakTable, about: About) -> list[dict[str, str]]:
    """Return what was never read as {"what", "why"}, what a reader looks for first at the top.

    What a window lacks now and then isn't here: its channel shows the gap.
    """
    found = {"temperature": _why_no_temperature(table, about)}
    told: dict[str, str] = {}
    for life in table.lives:
        told |= {name: why for name, why in life.not_observable.items() if name not in told}
    emulated = about.device.kind == "qemu"
    for name, why in told.items():
        if name in _TITLES and not _was_read(table, f"device/{name}") and not _in_some_life(table, name):
            known = _no_heat(about) if emulated and name == "throttled_bits" else _plain(why)
            found[_TITLES[name]] = known
    silent = about.run_settings.get(SILENT) or {}
    if not emulated:  # what its chips would show is a model's, which is told above
        found |= {f"sensor {name}": _plain(str(why)) for name, why in silent.items()}
    if not is_paced(about.device.kind, compressed=about.settings.compressed):
        found["latency and throughput"] = (
            "this emulated board ran at its host's pace; a compressed soak has virtual times"
        )
    return [{"what": what, "why": why} for what, why in found.items() if why]


def without_value(table: SoakTable, about: About, judged: Collection[str]) -> tuple[Measurement, ...]:
    """Return the drift that the plan limits and that no row of `judged` (metrics) is of, without a value.

    A limit that waits for what the device doesn't show is INVALID. Of an emulated board's temperature it is
    known beforehand that there is none, and the limit is meant for real ones: not judged.
    """
    if not table.start_s.size:
        return ()  # that alone says it all
    limits = about.settings.limits
    found = []
    for kind in KINDS.values():
        if kind.kind not in {**limits.per_h, **limits.most} or kind.metric in judged or kind.kind in TIMED:
            continue
        why = _why_no_temperature(table, about) if kind.kind == "temp_c" else "no window shows it"
        expected = kind.kind == "temp_c" and about.device.kind == "qemu"
        limit = None if expected else limits.per_h.get(kind.kind, 0.0)
        reasons = (f"not measured: {why}",)
        found.append(
            Measurement(kind.metric, None, None, None, 0, Fidelity.MEASURED, reasons=reasons, limit=limit)
        )
    return tuple(found)


def log_unread(table: SoakTable) -> str:
    """Return why the kernel's log couldn't be read, and in how many lives; "" where it could in all."""
    reasons = [why for life in table.lives if (why := life.not_observable.get("kernel_log"))]
    if not reasons:
        return ""
    lives = len(table.lives)
    return _plain(reasons[0]) + (f", in {len(reasons)} of {lives} lives" if lives > len(reasons) else "")


def _why_no_temperature(table: SoakTable, about: About) -> str:
    """Return why there is no temperature at all, "" where there is one."""
    names = [name for name in table.channels if name.startswith("device/temp_c")]
    if any(_was_read(table, name) for name in names):
        return ""
    if about.settings.compressed or about.device.kind == "qemu":
        return _no_heat(about)
    if not table.start_s.size:
        return "no window was observed"
    silent: Mapping[str, Any] = about.run_settings.get(SILENT) or {}
    mute = [f"{name}: {_plain(str(why))}" for name, why in silent.items() if name.endswith("temp_c")]
    return "; ".join(mute) or "the device shows none"


def _no_heat(about: About) -> str:
    return _COMPRESSED if about.settings.compressed else _NO_BOARD_MODEL


def _in_some_life(table: SoakTable, name: str) -> bool:
    """Return whether a life could read what another couldn't: of what has no channel of its own."""
    return any(name not in life.not_observable for life in table.lives)


def _was_read(table: SoakTable, name: str) -> bool:
    values = table.channels.get(name)
    return values is not None and bool(np.isfinite(values).any())


def _plain(why: str) -> str:
    """Return a device's reason in one line."""
    return " ".join(why.split()).rstrip(".")
