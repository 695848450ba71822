"""Alerts over the windows of a soak: all at once over a table, or as windows come, with the same result."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.errors import nearest
from harness.model import Condition, SoakSettings, SoakTable
from harness.soak.alert_rules import BURN_RATE, Rule, parse_rules, unit_of
from harness.soak.signals import (
    Channels,
    Floats,
    compute_signals,
    ratio_of,
    signal_names,
    signals_of,
    sources,
    worst_of,
)
from harness.units import format_duration, format_quantity

# chosen: one failed call is no rate; where calls are few it would burn any budget (the Workbook's chapter 5,
# "Low-Traffic Services and Error Budget Alerting")
MIN_ERRORS = 2
_EPS_S = 1e-6
SENSED = ("temp_c", "power_w", "current_a", "voltage_v", "freq_hz", "throttled_bits")  # kinds of sensors
_GAP = 0.5  # chosen: of a window; more unseen between two of them starts a duration anew


@dataclass(frozen=True)
class Alert:
    """A rule that fired, at the end of a window. `worst` is in its unit.

    `cleared_s` None: it didn't clear. Then `held_to_s` is where the soak ended while it held; None: it holds.
    """

    rule: str
    fired_s: float
    cleared_s: float | None
    worst: float
    unit: str = "1"
    aborted: bool = False
    held_to_s: float | None = None

    def row(self) -> dict[str, Any]:
        """Return it as `run.settings["soak"]["alerts"]` has it."""
        return {
            "rule": self.rule,
            "fired_s": self.fired_s,
            "cleared_s": self.cleared_s,
            "worst": self.worst,
            "aborted": self.aborted,
            "held_to_s": self.held_to_s,
        }

    def describe(self) -> str:
        """Return "at 3.21 h: rss_ratio > 0.85 for 5min (worst 91.2%)", and what became of it at the end."""
        worst = format_quantity(self.worst, self.unit)
        ended = "" if self.held_to_s is None else ", ended the soak" if self.aborted else ", held to the end"
        return f"at {format_duration(self.fired_s)}: {self.rule} (worst {worst}){ended}"


@dataclass(frozen=True)
class Evaluated:
    fired: tuple[Alert, ...]
    conditions: tuple[Condition, ...]  # rules that can't be told here


def evaluate(table: SoakTable, settings: SoakSettings, *, ram_bytes: float | None = None) -> Evaluated:
    """Return what fired over a whole table, in order of time.

    A rule about something that the device doesn't show is a condition that is not observable. Raises
    ConfigError for a rule that is none.
    """
    rules = parse_rules(settings.alerts)
    channels = signals_of(table, ram_bytes, latency=_about_latency(rules))
    fired, conditions = [], []
    for rule in rules:
        if rule.signal != BURN_RATE and not sources(rule.signal, channels):
            conditions.append(_not_observable(rule, channels, compressed=settings.compressed))
            continue
        values = _values(rule, table.start_s, table.end_s, channels, settings.availability_ratio)
        fired += _scan(rule, table.start_s, table.end_s, values)
    ended = table.ended or ""
    found = [replace(a, aborted=ended.startswith("aborted") and a.rule in ended) for a in fired]
    if table.ended is not None and found:
        last_s = float(table.end_s[-1])
        found = [replace(a, held_to_s=last_s) if a.cleared_s is None else a for a in found]
    return Evaluated(tuple(sorted(found, key=lambda a: (a.fired_s, a.rule))), tuple(conditions))


def _about_latency(rules: Iterable[Rule]) -> bool:
    return any(rule.signal.endswith("latency_p99_ns") for rule in rules)


def _not_observable(rule: Rule, channels: Channels, *, compressed: bool) -> Condition:
    if compressed and rule.signal.endswith(SENSED):
        return Condition(
            f"soak: alert {rule.text}",
            "not observable: a compressed soak reads no sensor",
            "a signal that is read",
            None,
            "A soak of a real board watches it.",
        )
    hint = nearest(rule.signal, signal_names(channels))
    return Condition(
        f"soak: alert {rule.text}",
        f"not observable: nothing is called `{rule.signal}`{hint}",
        "a signal that is read",
        None,
        "Correct soak.alerts.",
    )


# --- a whole table --------------------------------------------------------------------------------


def _values(rule: Rule, start_s: Floats, end_s: Floats, channels: Channels, availability: float) -> Floats:
    """Return what the rule looks at for each window, (n_windows,); NaN where it isn't known."""
    if rule.signal != BURN_RATE:
        return worst_of(rule.signal, channels, upwards=rule.upwards)
    streams = [name.removesuffix("/calls") for name in channels if name.endswith("/calls")]
    burns = [_burn(rule, start_s, end_s, channels, stream, availability) for stream in streams]
    found = np.full(start_s.size, np.nan)
    for burn in burns:
        found = np.fmax(found, burn)
    return found


def _burn(
    rule: Rule, start_s: Floats, end_s: Floats, channels: Channels, stream: str, availability: float
) -> Floats:
    """Return the lowest burn rate over the rule's windows: all must be beyond the threshold."""
    calls = _cumulative(channels[f"{stream}/calls"])
    errors = _cumulative(channels.get(f"{stream}/errors", np.zeros(start_s.size)))
    found = np.full(start_s.size, np.inf)
    after = np.arange(1, start_s.size + 1)
    for number, span_s in enumerate(sorted(rule.windows_s, reverse=True)):
        first = np.searchsorted(start_s, end_s - span_s - _EPS_S)
        n, bad = calls[after] - calls[first], errors[after] - errors[first]
        rate = ratio_of(bad, n) / (1 - availability)
        rate[end_s - start_s[:1] < span_s - _EPS_S] = np.nan  # not so long ago yet
        if number == 0:
            rate = np.where((bad < MIN_ERRORS) & np.isfinite(rate), 0.0, rate)
        found = np.minimum(found, rate)
    return found


def _cumulative(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])


def _scan(rule: Rule, start_s: Floats, end_s: Floats, values: Floats) -> list[Alert]:
    """Return the alerts of one rule: stretches of windows beyond its threshold that last long enough."""
    if not values.size:
        return []
    with np.errstate(invalid="ignore"):
        beyond = {
            ">": values > rule.threshold,
            ">=": values >= rule.threshold,
            "<": values < rule.threshold,
            "<=": values <= rule.threshold,
        }[rule.op]
    broken = np.ones(values.size, dtype=bool)
    broken[1:] = (start_s[1:] - end_s[:-1] > _GAP * (end_s[1:] - start_s[1:])) | (beyond[1:] != beyond[:-1])
    first = np.flatnonzero(broken)
    last = np.append(first[1:], values.size) - 1
    fired: list[Alert] = []
    for i, j in zip(first, last, strict=True):
        active = fired[-1] if fired and fired[-1].cleared_s is None else None
        if not beyond[i]:
            if active:
                fired[-1] = replace(active, cleared_s=float(end_s[i]))
            continue
        worst = float(values[i : j + 1].max() if rule.upwards else values[i : j + 1].min())
        if active:
            fired[-1] = replace(active, worst=_more(rule, active.worst, worst))
            continue
        late = np.flatnonzero(end_s[i : j + 1] - start_s[i] >= rule.held_s - _EPS_S)
        if late.size:
            fired.append(Alert(rule.text, float(end_s[i + late[0]]), None, worst, unit_of(rule.signal)))
    return fired


def _more(rule: Rule, one: float, other: float) -> float:
    return max(one, other) if rule.upwards else min(one, other)


# --- as windows come ------------------------------------------------------------------------------


@dataclass
class _State:
    """Where one rule stands."""

    rule: Rule
    since_s: float | None = None
    worst: float = math.nan
    active: Alert | None = None
    past: list[Alert] = field(default_factory=list)
    # by stream, by window of the rule: (start_s, calls, errors) not older than it, and their sums
    recent: dict[tuple[str, float], deque[tuple[float, float, float]]] = field(default_factory=dict)
    sums: dict[tuple[str, float], list[float]] = field(default_factory=dict)


class AlertWatch:
    """Takes windows in order and says what fires: the same as `evaluate` over all of them."""

    def __init__(
        self, rules: Sequence[Rule], *, availability_ratio: float, ram_bytes: float | None = None
    ) -> None:
        self._states = [_State(rule) for rule in rules]
        self._availability = availability_ratio
        self._ram_bytes = ram_bytes
        self._first_s: float | None = None
        self._last_s = -math.inf

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Return all that fired so far, in order of time."""
        found = [a for s in self._states for a in (*s.past, *((s.active,) if s.active else ()))]
        return tuple(sorted(found, key=lambda a: (a.fired_s, a.rule)))

    def take_table(self, table: SoakTable) -> tuple[Alert, ...]:
        """Take the windows of `table` that are newer than those taken, and return what fired in them."""
        new = np.flatnonzero(table.start_s >= self._last_s - _EPS_S)
        if not new.size:
            return ()
        rules = [state.rule for state in self._states]
        every = signals_of(table, self._ram_bytes, latency=_about_latency(rules))
        channels = {name: values[new] for name, values in every.items()}
        return tuple(self._steps(table.start_s[new].tolist(), table.end_s[new].tolist(), channels))

    def take(self, start_s: float, end_s: float, values: Mapping[str, float]) -> tuple[Alert, ...]:
        """Take one window, its values by channel ("main/rss_bytes"), and return what it fires."""
        arrays = {name: np.array([value]) for name, value in values.items()}
        more = compute_signals(arrays, np.array([end_s - start_s]), self._ram_bytes)
        return tuple(self._steps([start_s], [end_s], {**arrays, **more}))

    def _steps(self, start_s: Sequence[float], end_s: Sequence[float], channels: Channels) -> list[Alert]:
        looked_at = [self._looked_at(state.rule, len(start_s), channels) for state in self._states]
        counts = {
            name.removesuffix("/calls"): (
                np.nan_to_num(values).tolist(),
                np.nan_to_num(channels.get(f"{name.removesuffix('/calls')}/errors", 0 * values)).tolist(),
            )
            for name, values in channels.items()
            if name.endswith("/calls")
        }
        fired = []
        for i, (start, end) in enumerate(zip(start_s, end_s, strict=True)):
            if self._first_s is None:
                self._first_s = start
            gap = start - self._last_s > _GAP * (end - start)
            self._last_s = end
            now = {stream: (calls[i], errors[i]) for stream, (calls, errors) in counts.items()}
            for state, values in zip(self._states, looked_at, strict=True):
                value = values[i] if values is not None else self._worst_burn(state, start, end, now)
                found = _advance(state, start, end, value, gap=gap)
                fired += [found] if found else []
        return fired

    def _looked_at(self, rule: Rule, n: int, channels: Channels) -> list[float] | None:
        """Return what a rule looks at for each window; None of a burn rate, which looks back."""
        if rule.signal == BURN_RATE:
            return None
        if not sources(rule.signal, channels):
            return [math.nan] * n
        values: list[float] = worst_of(rule.signal, channels, upwards=rule.upwards).tolist()
        return values

    def _worst_burn(
        self, state: _State, start_s: float, end_s: float, now: Mapping[str, tuple[float, float]]
    ) -> float:
        burns = [self._burn(state, start_s, end_s, stream, *counts) for stream, counts in now.items()]
        return max((b for b in burns if not math.isnan(b)), default=math.nan)

    def _burn(
        self, state: _State, start_s: float, end_s: float, stream: str, calls: float, errors: float
    ) -> float:
        rates = []
        for number, span_s in enumerate(sorted(state.rule.windows_s, reverse=True)):
            recent = state.recent.setdefault((stream, span_s), deque())
            sums = state.sums.setdefault((stream, span_s), [0.0, 0.0])
            recent.append((start_s, calls, errors))
            sums[0], sums[1] = sums[0] + calls, sums[1] + errors
            while recent and recent[0][0] < end_s - span_s - _EPS_S:
                _, old_calls, old_errors = recent.popleft()
                sums[0], sums[1] = sums[0] - old_calls, sums[1] - old_errors
            assert self._first_s is not None
            if end_s - self._first_s < span_s - _EPS_S or sums[0] <= 0:
                rates.append(math.nan)
            elif number == 0 and sums[1] < MIN_ERRORS:
                rates.append(0.0)
            else:
                rates.append(sums[1] / sums[0] / (1 - self._availability))
        return math.nan if any(math.isnan(rate) for rate in rates) else min(rates)


def _advance(state: _State, start_s: float, end_s: float, value: float, *, gap: bool) -> Alert | None:
    """Move one rule on by a window and return the alert that this fires."""
    rule = state.rule
    if not rule.beyond(value):
        state.since_s = None
        if state.active:
            state.past.append(replace(state.active, cleared_s=end_s))
            state.active = None
        return None
    if state.active:
        state.active = replace(state.active, worst=_more(rule, state.active.worst, value))
        return None
    if state.since_s is None or gap:
        state.since_s, state.worst = start_s, value
    state.worst = _more(rule, state.worst, value)
    if end_s - state.since_s < rule.held_s - _EPS_S:
        return None
    state.active = Alert(rule.text, end_s, None, state.worst, unit_of(rule.signal))
    return state.active
