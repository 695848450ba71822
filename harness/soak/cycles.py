"""When a soak calls its models, as people write it: "closed", "every 300 s", "poisson 2 /s", "trace x.csv".

The device has the same four kinds as functions of soak time (harness/agent/soak/cycles.py).
"""

from __future__ import annotations

import csv
import re
import zlib
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, nearest
from harness.units import parse_quantity

FORMS = ('"closed"', '"every 300 s"', '"poisson 2 /s"', '"trace FILE.csv"', '"trace FILE.csv repeat 24 h"')
MAX_TRACE_CALLS = 50_000  # chosen: some 600 KB in the spec, of at most 1 MiB in a message
MAX_PERIOD_S = 30 * 86400.0
_TRACE = re.compile(r"(?P<file>\"[^\"]+\"|.+?)(?:\s+repeat\s+(?P<repeat>\S+(?:\s+\S+)?))?")

Cycle = dict[str, Any]


def parse_cycle(text: str, *, where: str = "cycle", folder: Path | None = None) -> Cycle:
    """Return a cycle as the spec of a soak has it (docs/soak-format.md).

    A trace's file is looked for in `folder` unless its path is absolute; quotes may stand around it. A
    Poisson cycle is seeded by its own text: a soak that is started again has the same arrivals. Raises
    ConfigError.
    """
    kind, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    parsers = {"every": _every, "poisson": _poisson, "trace": _trace}
    if kind == "closed" and not rest:
        return {"kind": "closed"}
    if kind not in parsers:
        hint = nearest(kind, [*parsers, "closed"]) if kind != "closed" else ""
        raise ConfigError(
            f"expected one of {', '.join(FORMS)}, got {text!r}{hint}",
            where=where,
        )
    if not rest:
        form = next(form for form in FORMS if form.startswith(f'"{kind}'))
        raise ConfigError(f"`{kind}` needs more, as {form}.", where=where)
    if kind == "trace":
        return _trace(rest, where, folder)
    return parsers[kind](rest, where, folder)


def with_whole_path(text: str, folder: Path) -> str:
    """Return a cycle whose trace, if it is one, has its file's whole path, looked for in `folder`."""
    kind, _, rest = text.strip().partition(" ")
    match = _TRACE.fullmatch(rest.strip()) if kind == "trace" else None
    if match is None:
        return text
    repeat = f" repeat {match['repeat']}" if match["repeat"] else ""
    return f'trace "{folder / Path(match["file"].strip(chr(34))).expanduser()}"{repeat}'


def _every(rest: str, where: str, folder: Path | None) -> Cycle:
    period_s = _seconds(rest, where)
    if not 1e-6 <= period_s <= MAX_PERIOD_S:
        raise ConfigError(f"expected a period from 1 µs to 30 days, got {rest!r}.", where=where)
    return {"kind": "every", "period_ns": round(period_s * 1e9)}


def _poisson(rest: str, where: str, folder: Path | None) -> Cycle:
    try:
        rate_per_s = parse_quantity(rest, "1/s")
    except ConfigError as error:
        raise ConfigError(error.what, where=where) from None
    if not 1e-6 <= rate_per_s <= 1e6:
        raise ConfigError(f"expected a rate from 1e-6 /s to 1e6 /s, got {rest!r}.", where=where)
    return {"kind": "poisson", "rate_per_s": rate_per_s, "seed": zlib.crc32(rest.encode())}


def _trace(rest: str, where: str, folder: Path | None) -> Cycle:
    match = _TRACE.fullmatch(rest)
    assert match is not None  # anything but nothing matches
    path = (folder or Path()) / Path(match["file"].strip('"')).expanduser()
    offsets_s = read_trace(path, where)
    repeat_s = _seconds(match["repeat"], where) if match["repeat"] else 0.0
    if repeat_s and repeat_s <= offsets_s[-1]:
        raise ConfigError(
            f"repeats after {repeat_s:g} s, but its last call is at {offsets_s[-1]:g} s.",
            where=f"{where}: {path}",
            next_step="Give a longer time after `repeat`.",
        )
    offsets_ns = [round(offset * 1e9) for offset in offsets_s]
    return {"kind": "trace", "offsets_ns": offsets_ns, "repeat_ns": round(repeat_s * 1e9)}


def read_trace(path: Path, where: str = "trace") -> list[float]:
    """Return the times of a recorded trace in s, its first column, counted from the earliest.

    Any number of columns and one heading are fine; times may be in any order and count from anywhere (Unix
    time, a logger's uptime). Raises ConfigError that names the line.
    """
    found: list[float] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or not row[0].strip():
                    continue
                try:
                    found.append(parse_quantity(row[0].strip(), "s"))
                except ConfigError as error:
                    if number == 1:
                        continue  # a heading
                    raise ConfigError(error.what, where=f"{where}: {path}:{number}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"can't be read: {reason}.", where=f"{where}: {path}") from error
    if not found:
        raise ConfigError(
            "holds no times; expected a call's time in s on each line.", where=f"{where}: {path}"
        )
    if len(found) > MAX_TRACE_CALLS:
        raise ConfigError(
            f"has {len(found)} calls, at most {MAX_TRACE_CALLS} fit into one message to the device.",
            where=f"{where}: {path}",
            next_step="Give a shorter stretch of it and `repeat`.",
        )
    found.sort()
    return [time - found[0] for time in found]


def _seconds(text: str, where: str) -> float:
    try:
        return parse_quantity(text, "s")
    except ConfigError as error:
        raise ConfigError(error.what, where=where) from None
