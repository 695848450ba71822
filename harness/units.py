"""Units at the edge: quantities as people write them, numbers as people read them.

Inside the harness a number is always in its stored unit (nanoseconds, bytes, a ratio of 0 to 1 …).
`parse_quantity` converts what a file or an option says into that unit, exactly; the `format_` functions
turn stored numbers into text for a reader and are used by the report alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Protocol

from harness.errors import ConfigError

_TIME_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
# a duration may be days; no latency is
_LONG_NS = {**_TIME_NS, "h": 3600 * 10**9, "d": 86400 * 10**9}
_SIZE_BYTES = {
    "B": 1,
    "bytes": 1,
    # SI prefixes are powers of ten, IEC prefixes powers of two (IEC 80000-13)
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

_ONE = {"": Decimal(1)}
_DRIFTING = ("bytes", "1", "ns", "1/s", "°C")

# stored unit → what may be written → how many of the stored unit that is
UNITS: Mapping[str, Mapping[str, Decimal]] = {
    "ns": {name: Decimal(ns) for name, ns in _TIME_NS.items()},
    "s": {name: Decimal(ns).scaleb(-9) for name, ns in _LONG_NS.items()},
    "bytes": {name: Decimal(count) for name, count in _SIZE_BYTES.items()},
    "ratio": {"%": Decimal("0.01")},
    "1/s": {"/s": Decimal(1), "1/s": Decimal(1), "k/s": Decimal(1000), "/min": Decimal(1) / Decimal(60)},
    "°C": {"°C": Decimal(1), "C": Decimal(1)},
    "J": {name: Decimal(text) for name, text in {"J": "1", "mJ": "1e-3", "µJ": "1e-6", "uJ": "1e-6"}.items()},
    "W": {"W": Decimal(1), "mW": Decimal("1e-3"), "kW": Decimal(1000)},
    "Hz": {"Hz": Decimal(1), "kHz": Decimal(10**3), "MHz": Decimal(10**6), "GHz": Decimal(10**9)},
    "Ω": {"Ω": Decimal(1), "ohm": Decimal(1), "mΩ": Decimal("0.001"), "mohm": Decimal("0.001")},
    "1": {},
}
# rates of change: the same per hour
UNITS = {**UNITS, **{f"{u}/h": {f"{n}/h": k for n, k in (UNITS[u] or _ONE).items()} for u in _DRIFTING}}

_QUANTITY = re.compile(r"\s*([-+]?[\d_]*\.?[\d_]+(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


class HasUnit(Protocol):
    """Anything that knows its stored unit: a `metrics.Metric`, a `model.Result`."""

    @property
    def unit(self) -> str: ...


def parse_quantity(value: object, unit: str) -> float:
    """Return `value` in the stored unit `unit` (a key of UNITS).

    A plain number is in the stored unit already; a string is a number and a unit, "48 ms". Raises
    ConfigError (without a place: the caller knows it) that lists the units of that kind, and for numbers
    that aren't finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConfigError(f"expected {_expected(unit)}, got {value!r}")
    if not isinstance(value, str):
        return _finite(float(value), value)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise ConfigError(f"expected {_expected(unit)}, got {value!r}")
    number, suffix = match.groups()
    try:
        amount = Decimal(number)
    except InvalidOperation:
        raise ConfigError(f"expected {_expected(unit)}, got {value!r}") from None
    if not suffix:
        return _finite(float(amount), value)
    scale = UNITS[unit].get(suffix)
    if scale is None:
        raise ConfigError(f"unknown unit `{suffix}` in {value!r}{_valid_units(suffix, unit)}")
    return _finite(float(amount * scale), value)


def _expected(unit: str) -> str:
    examples = {
        "ns": '"48 ms" or a number of ns',
        "s": '"30 s" or a number of s',
        "bytes": '"8.7 MB", "8 MiB" or a number of bytes',
        "ratio": '"97 %" or a number from 0 to 1',
        "1/s": '"12/s" or a number per second',
        "°C": '"55 °C" or a number of degrees Celsius',
        "Hz": '"10 Hz" or a number of Hz',
        "Ω": '"100 mΩ" or a number of ohms',
        "J": '"12 mJ" or a number of J',
        "W": '"2.5 W" or a number of W',
        "1": "a number",
    }
    if unit.endswith("/h"):
        return f"{examples[unit.removesuffix('/h')]} per hour"
    return examples[unit]


def _valid_units(suffix: str, unit: str) -> str:
    names = UNITS[unit]
    if not names:
        return "; this figure is a plain number without a unit"
    cased = [name for name in names if name.lower() == suffix.lower()]
    hint = f"; did you mean `{cased[0]}`?" if cased else ""
    return f"{hint}; valid: {', '.join(names)}"


def _finite(number: float, written: object) -> float:
    if not math.isfinite(number):
        raise ConfigError(f"expected a finite number, got {written!r}")
    return number


def noun(count: int, one: str, many: str = "") -> str:
    """Return the word that stands behind `count`: `one`, or `many` (default: `one` with an s)."""
    return one if count == 1 else many or f"{one}s"


def counted(count: int, one: str, many: str = "") -> str:
    """Return "1 restart", "0 restarts", "2 restarts"; `many` where an s alone won't do."""
    return f"{count} {noun(count, one, many)}"


def how_often(count: int) -> str:
    """Return "once", "2 times"."""
    return "once" if count == 1 else f"{count} times"


def how_old(days: int) -> str:
    """Return "taken today", "1 day old", "12 days old"; a date of the future as one."""
    if days < 0:
        return f"dated {counted(-days, 'day')} ahead"
    return f"{counted(days, 'day')} old" if days else "taken today"


def format_significant(value: float, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits, never in fewer than its integer part needs.

    Plain notation between 1e-4 and 1e15, else an exponent: 5.86, 1234, 0.00120, 3.20e-08.
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    if not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits - 1}e}"
    # rounding first: 9.999 has three digits before it is rounded and takes the place of 10.0
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:.{decimals}f}"


def _scaled(value: float, steps: tuple[tuple[float, str], ...], digits: int) -> str:
    """Return `value` by the first of `steps` (ascending factors) that leaves fewer than 1000 of it."""
    for factor, name in steps[:-1]:
        if abs(float(f"{value / factor:.{digits - 1}e}")) < 1000:
            return f"{format_significant(value / factor, digits)} {name}"
    factor, name = steps[-1]
    return f"{format_significant(value / factor, digits)} {name}"


def format_ns(value: float, digits: int = 3) -> str:
    """Return a time as "5.86 ms", "12.3 µs", "2.50 s"."""
    if abs(value) < 1000 and value == int(value):
        return f"{int(value)} ns"
    return _scaled(value, ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")), digits)


def format_duration(seconds: float, digits: int = 3) -> str:
    """Return a length of time as people say it: "250 ms", "90 s", "90 min", "72 h", "31.4 h"."""
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return format_ns(seconds * 1e9, digits)
    for factor, name in ((3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= 2 * factor or factor == 1 or seconds == factor:
            number = seconds / factor
            text = f"{number:.0f}" if number == int(number) else format_significant(number, digits)
            return f"{text} {name}"
    raise AssertionError("the last factor always fits")


def format_bytes(value: float, digits: int = 3) -> str:
    """Return a size in SI prefixes: "512 B", "8.70 MB"."""
    if abs(value) < 1000 and value == int(value):
        return f"{int(value)} B"
    return _scaled(value, ((1, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")), digits)


def format_ratio(value: float, digits: int = 3) -> str:
    """Return a ratio in percent with `digits` − 1 decimals: "97.22%". Only 1 itself reads "100%"."""
    percent = value * 100
    if percent == int(percent):
        return f"{int(percent)}%"
    text = f"{percent:.{digits - 1}f}"
    if float(text) == 100:
        return f">99.{'9' * (digits - 1)}%" if percent < 100 else ">100%"
    return f"{text}%"


def format_quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """Return a stored number of `unit` for a reader; "–" where it is missing."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0 and unit in ("s", "J", "W"):
        return f"0 {unit}"  # no prefix: which one would be chance
    if unit == "ns":
        return format_ns(value, digits)
    if unit == "s":
        return format_ns(value * 1e9, digits)
    if unit == "bytes":
        return format_bytes(value, digits)
    if unit == "ratio":
        return format_ratio(value, digits)
    if unit in ("J", "W"):
        steps = ((1e-6, f"µ{unit}"), (1e-3, f"m{unit}"), (1.0, unit), (1e3, f"k{unit}"))
        return _scaled(value, steps, digits)
    number = format_significant(value, digits)
    if unit.endswith("/h"):
        return f"{format_quantity(value, unit.removesuffix('/h'), digits)}/h"
    if unit == "1/s":
        return f"{number}/s"
    return number if unit in ("1", "") else f"{number} {unit}"


def format_apart(first: float | None, second: float | None, unit: str) -> tuple[str, str]:
    """Return both numbers, with as many digits as it takes to tell them apart (up to 9)."""
    for digits in range(3, 10):
        texts = format_quantity(first, unit, digits), format_quantity(second, unit, digits)
        if first == second or _numbers(texts[0]) != _numbers(texts[1]):
            break
    return texts


def _numbers(text: str) -> tuple[object, str]:
    """Return (number, unit) of a formatted quantity: "95%" and "95.00%" say the same."""
    match = _QUANTITY.fullmatch(text)
    return (Decimal(match[1]), match[2]) if match else (text, "")


def format_value(metric: HasUnit, value: float | None) -> str:
    """Return `value` of `metric` (or of a result, which knows its unit too) for a reader."""
    return format_quantity(value, metric.unit)
