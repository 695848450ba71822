"""Alerts over the windows of a soak: all at once over a table, or as windows come, with the same result."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigError, nearest
from harness.model import Condition, SoakSettings, SoakTable
from harness.soak.alert_rules import BURN_RATE, Rule, parse_rules, unit_of
from harness.stats.histograms import percentile_by_group
from harness.units import format_duration, format_quantity

Floats = npt.NDArray[np.float64]
Channels = Mapping[str, Floats]  # "<stream>/<kind>" → values, (n_windows,)

# chosen: one failed call is no rate; where calls are few it would burn any budget (the Workbook's chapter 5,
# "Low-Traffic Services and Error Budget Alerting")
MIN_ERRORS = 2
_EPS_S = 1e-6
_GAP = 0.5  # chosen: of a window; more unseen between two of them starts a duration anew
_DEVICE_WIDE = ("rss_ratio", "mem_used_ratio")
_BY_STREAM = ("error_ratio", "busy_ratio", "throughput_per_s", "latency_mean_ns", "latency_p99_ns")


@dataclass(frozen=True)
class Alert:
    """A rule that fired, at the end of a window. `cleared_s` None: it still holds. `worst` in its unit."""

    rule: str
    fired_s: float
    cleared_s: float | None
    worst: float
    unit: str = "1"
    aborted: bool = False

    def row(self) -> dict[str, Any]:
        """Return it as `run.settings["soak"]["alerts"]` has it."""
        return {
            "rule": self.rule,
            "fired_s": self.fired_s,
            "cleared_s": self.cleared_s,
            "worst": self.worst,
            "aborted": self.aborted,
        }

    def describe(self) -> str:
        """Return "at 3.21 h: rss_ratio > 0.85 for 5min (worst 91.2%)"."""
        worst = format_quantity(self.worst, self.unit)
        return f"at {format_duration(self.fired_s)}: {self.rule} (worst {worst})"


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
    channels = signals_of(table, ram_bytes)
    fired, conditions = [], []
    for rule in rules:
        if rule.signal != BURN_RATE and not sources(rule.signal, channels):
            conditions.append(_not_observable(rule, channels))
            continue
        values = _values(rule, table.start_s, table.end_s, channels, settings.availability_ratio)
        fired += _scan(rule, table.start_s, table.end_s, values)
    ended = table.ended or ""
    found = [replace(a, aborted=ended.startswith("aborted") and a.rule in ended) for a in fired]
    return Evaluated(tuple(sorted(found, key=lambda a: (a.fired_s, a.rule))), tuple(conditions))


def check_signals(rules: Iterable[Rule], channels: Iterable[str]) -> None:
    """Raise ConfigError for rules about what isn't among `channels` ("main/rss_bytes"), naming the nearest.

    What is computed from channels needs not be among them.
    """
    names = list(channels)
    streams = {n.partition("/")[0] for n in names} - {"device"}
    names += [f"device/{kind}" for kind in _DEVICE_WIDE] + [f"{s}/{k}" for s in streams for k in _BY_STREAM]
    known = dict.fromkeys(names, np.empty(0))
    problems = [
        f"`{rule.text}`: nothing is called `{rule.signal}`{nearest(rule.signal, signal_names(known))}"
        for rule in rules
        if rule.signal != BURN_RATE and not sources(rule.signal, known)
    ]
    if problems:
        raise ConfigError(problems, where="soak.alerts")


def _not_observable(rule: Rule, channels: Channels) -> Condition:
    hint = nearest(rule.signal, signal_names(channels))
    return Condition(
        f"soak: alert {rule.text}",
        f"not observable: nothing is called `{rule.signal}`{hint}",
        "a signal that is read",
        None,
        "Correct soak.alerts.",
    )


# --- signals --------------------------------------------------------------------------------------


def signals_of(table: SoakTable, ram_bytes: float | None = None) -> dict[str, Floats]:
    """Return a table's channels and what is computed of them, by "<stream>/<kind>", (n_windows,) each."""
    found = {**table.channels, **compute_signals(table.channels, table.end_s - table.start_s, ram_bytes)}
    group = np.arange(table.start_s.size)
    for stream, h in table.latency.items():
        values = percentile_by_group(h.offset, h.index, h.count, group, 99.0)
        found[f"{stream}/latency_p99_ns"] = values
    return found


def compute_signals(channels: Channels, seconds: Floats, ram_bytes: float | None = None) -> dict[str, Floats]:
    """Return what is computed of channels over windows of `seconds`, (n_windows,). NaN where it can't be."""
    found: dict[str, Floats] = {}
    none = np.full(seconds.size, np.nan)
    ram = channels.get("device/ram_bytes", none)
    if ram_bytes:
        ram = np.full(seconds.size, float(ram_bytes))
    held = [values for name, values in sorted(channels.items()) if name.endswith("/rss_bytes")]
    if held:
        read = np.isfinite(held).any(axis=0)
        found["device/rss_ratio"] = _ratio(np.where(read, np.nansum(held, axis=0), np.nan), ram)
    free = channels.get("device/mem_available_bytes")
    if free is not None:
        found["device/mem_used_ratio"] = 1 - _ratio(free, ram)
    for stream in (name.removesuffix("/calls") for name in channels if name.endswith("/calls")):
        calls = channels[f"{stream}/calls"]
        found[f"{stream}/error_ratio"] = _ratio(channels.get(f"{stream}/errors", none), calls)
        found[f"{stream}/busy_ratio"] = _ratio(channels.get(f"{stream}/busy_ns", none), 1e9 * seconds)
        found[f"{stream}/throughput_per_s"] = _ratio(calls, seconds)
        found[f"{stream}/latency_mean_ns"] = _ratio(channels.get(f"{stream}/sum_ns", none), calls)
    return found


def _ratio(part: Floats, whole: Floats) -> Floats:
    found: Floats = np.divide(part, whole, out=np.full(part.size, np.nan), where=whole > 0)
    return found


def signal_names(channels: Iterable[str]) -> tuple[str, ...]:
    """Return every name that a rule may use: of a channel, of its kind, and of a kind at a site."""
    names = {BURN_RATE}
    for name in channels:
        kind, _, site = name.partition("/")[2].partition(".")
        names |= {name, kind} | ({f"{_plain(site)}_{kind}"} if site else set())
    return tuple(sorted(names))


def sources(signal: str, channels: Iterable[str]) -> tuple[str, ...]:
    """Return the channels that a rule's signal means; the worst of them counts.

    "main/rss_bytes" is one channel; "rss_bytes" that of every stream; "temp_c" that of every sensor, and
    "npu_temp_c" that of the sensors whose site has `npu` in its name.
    """
    names = list(channels)
    if signal in names:
        return (signal,)
    kinds = {name: name.partition("/")[2].partition(".") for name in names}
    alike = tuple(name for name in names if kinds[name][0] == signal)
    if alike:
        return alike
    return tuple(
        name
        for name in names
        if (place := kinds[name][2] or name.partition("/")[0])
        and signal.endswith(f"_{kinds[name][0]}")
        and signal.removesuffix(f"_{kinds[name][0]}") in _plain(place)
    )


def _plain(site: str) -> str:
    return re.sub(r"\W+", "_", site).strip("_")


def _worst(signal: str, channels: Channels, *, upwards: bool) -> Floats:
    stacked = np.stack([channels[name] for name in sources(signal, channels)])
    fill = -np.inf if upwards else np.inf
    filled = np.where(np.isfinite(stacked), stacked, fill)
    worst: Floats = filled.max(axis=0) if upwards else filled.min(axis=0)
    return np.where(np.isfinite(stacked).any(axis=0), worst, np.nan)


# --- a whole table --------------------------------------------------------------------------------


def _values(rule: Rule, start_s: Floats, end_s: Floats, channels: Channels, availability: float) -> Floats:
    """Return what the rule looks at for each window, (n_windows,); NaN where it isn't known."""
    if rule.signal != BURN_RATE:
        return _worst(rule.signal, channels, upwards=rule.upwards)
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
        rate = _ratio(bad, n) / (1 - availability)
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
        channels = signals_of(table, self._ram_bytes)
        fired: list[Alert] = []
        for i in new:
            row = {name: float(values[i]) for name, values in channels.items()}
            fired += self._step(float(table.start_s[i]), float(table.end_s[i]), row)
        return tuple(fired)

    def take(self, start_s: float, end_s: float, values: Mapping[str, float]) -> tuple[Alert, ...]:
        """Take one window, its values by channel ("main/rss_bytes"), and return what it fires."""
        arrays = {name: np.array([value]) for name, value in values.items()}
        more = compute_signals(arrays, np.array([end_s - start_s]), self._ram_bytes)
        return tuple(self._step(start_s, end_s, {**values, **{n: float(v[0]) for n, v in more.items()}}))

    def _step(self, start_s: float, end_s: float, row: Mapping[str, float]) -> list[Alert]:
        if self._first_s is None:
            self._first_s = start_s
        gap = start_s - self._last_s > _GAP * (end_s - start_s)
        self._last_s = end_s
        fired = []
        for state in self._states:
            value = self._value(state, start_s, end_s, row)
            found = _advance(state, start_s, end_s, value, gap=gap)
            fired += [found] if found else []
        return fired

    def _value(self, state: _State, start_s: float, end_s: float, row: Mapping[str, float]) -> float:
        rule = state.rule
        if rule.signal != BURN_RATE:
            read = [row[n] for n in sources(rule.signal, row) if math.isfinite(row[n])]
            return (max(read) if rule.upwards else min(read)) if read else math.nan
        streams = [name.removesuffix("/calls") for name in row if name.endswith("/calls")]
        burns = [self._burn(state, start_s, end_s, row, stream) for stream in streams]
        return max((b for b in burns if not math.isnan(b)), default=math.nan)

    def _burn(
        self, state: _State, start_s: float, end_s: float, row: Mapping[str, float], stream: str
    ) -> float:
        calls, errors = (_or_0(row.get(f"{stream}/{key}", 0.0)) for key in ("calls", "errors"))
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


def _or_0(value: float) -> float:
    return value if math.isfinite(value) else 0.0


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
