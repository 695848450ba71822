"""The grammar of alerts: text → rule.

rss_ratio > 0.85 for 5min           a signal, beyond a threshold, for so long (0 without it)
npu_temp_c > 85 °C                  units as everywhere; a plain number is in the signal's own
main/latency_p99_ns > 50 ms         of one stream; without one, the worst of all
burn_rate(1h) > 14.4                failed calls of the last hour, as a multiple of what the objective allows
burn_rate(1h, 5min) > 14.4          both of the last hour and of the last 5 minutes
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import ConfigError, nearest
from harness.model import ChannelKind
from harness.soak.table import DEVICE_UNITS, STREAM_UNITS
from harness.units import UNITS, parse_quantity

BURN_RATE = "burn_rate"
# computed of the device's channels, and of each stream's (signals.py)
DEVICE_WIDE = ("rss_ratio", "mem_used_ratio")
BY_STREAM = ("error_ratio", "busy_ratio", "throughput_per_s", "latency_mean_ns", "latency_p99_ns")
# the last part of every signal; what a device doesn't have of them is not observable, no mistake
KINDS = (
    *STREAM_UNITS,
    "errors",
    *DEVICE_UNITS,
    *(str(kind) for kind in ChannelKind),
    *DEVICE_WIDE,
    *BY_STREAM,
)
# 2% of a 30-day error budget in 1 h and 5% in 6 h, each with a short window that ends the alert soon after
# its cause (Google, The Site Reliability Workbook, 2018, chapter 5, table 5-8)
SHIPPED = ("burn_rate(1h, 5min) > 14.4", "burn_rate(6h, 30min) > 6")

_RULE = re.compile(
    r"""\s*(?P<signal>[A-Za-z_][\w./:@+-]*)\s*
        (?:\((?P<windows>[^()]*)\))?\s*
        (?P<op>>=|<=|>|<)\s*
        (?P<threshold>.+?)
        (?:\s+for\s+(?P<held>.+?))?\s*""",
    re.VERBOSE,
)
_FORM = "expected SIGNAL > NUMBER [for DURATION], as `rss_ratio > 0.85 for 5min` or `burn_rate(1h) > 14.4`"
_UNIT_OF = (
    ("_per_s", "1/s"),
    ("_ns", "ns"),
    ("_bytes", "bytes"),
    ("_ratio", "ratio"),
    ("_hz", "Hz"),
    ("_c", "°C"),
    ("_w", "W"),
    ("_s", "s"),
)


@dataclass(frozen=True)
class Rule:
    """An alert. `windows_s` are those of a burn rate, all of which must be beyond the threshold."""

    text: str
    signal: str
    op: str  # ">", ">=", "<", "<="
    threshold: float  # in the signal's unit
    held_s: float = 0.0
    windows_s: tuple[float, ...] = ()

    @property
    def upwards(self) -> bool:
        """Return whether more is worse."""
        return self.op.startswith(">")

    def beyond(self, value: float) -> bool:
        """Return whether `value` is beyond the threshold; not one that wasn't read (NaN) is."""
        if self.op == ">":
            return value > self.threshold
        if self.op == ">=":
            return value >= self.threshold
        return value < self.threshold if self.op == "<" else value <= self.threshold


def unit_of(signal: str) -> str:
    """Return the unit of a signal, which ends its name: "main/rss_bytes" → "bytes"."""
    kind = signal.rpartition("/")[2].partition(".")[0]
    return next((unit for ending, unit in _UNIT_OF if kind.endswith(ending)), "1")


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` says. Raises ConfigError with what was expected."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise ConfigError(f"`{text}` is no alert; {_FORM}")
    signal, windows = match["signal"], match["windows"]
    if (signal == BURN_RATE) != (windows is not None):
        if signal == BURN_RATE:
            raise ConfigError(f"`{text}`: over how long? As `burn_rate(1h) > 14.4`")
        raise ConfigError(f"`{text}`: only burn_rate is over windows; for how long: `{signal} > 1 for 5min`")
    kind = signal.rpartition("/")[2].partition(".")[0]
    if signal != BURN_RATE and not any(kind == known or kind.endswith(f"_{known}") for known in KINDS):
        raise ConfigError(f"`{text}`: nothing is called `{signal}`{nearest(kind, (*KINDS, BURN_RATE))}")
    try:
        spans = tuple(_duration_s(part) for part in windows.split(",")) if windows is not None else ()
        threshold = parse_quantity(match["threshold"], unit_of(signal))
        held_s = _duration_s(match["held"]) if match["held"] else 0.0
    except ConfigError as error:
        raise ConfigError(f"`{text}`: {error.problems[0]}") from None
    if not all(span > 0 for span in spans) or held_s < 0:
        raise ConfigError(f"`{text}`: a duration is above 0")
    return Rule(" ".join(text.split()), signal, match["op"], threshold, held_s, spans)


def _duration_s(text: str) -> float:
    seconds = parse_quantity(text.strip(), "s")
    if not math.isfinite(seconds):
        raise ConfigError(f"expected a duration, got {text!r}")
    return seconds


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules of a plan, and the shipped burn rates where it has none of its own.

    Raises ConfigError with every problem.
    """
    found: list[Rule] = []
    problems: list[str] = []
    for text in texts:
        try:
            found.append(parse_rule(text))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems, where="soak.alerts")
    if not any(rule.signal == BURN_RATE for rule in found):
        found += [parse_rule(text) for text in SHIPPED]
    return tuple(found)


assert all(unit in UNITS for _, unit in _UNIT_OF)
