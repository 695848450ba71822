"""What alerts look at: the channels of a soak, what is computed of them, and what a rule calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from harness.model import SoakTable
from harness.soak.alert_rules import BURN_RATE
from harness.stats.histograms import percentile_by_group

Floats = npt.NDArray[np.float64]
Channels = Mapping[str, Floats]  # "<stream>/<kind>" → values, (n_windows,)


def signals_of(
    table: SoakTable, ram_bytes: float | None = None, *, latency: bool = True
) -> dict[str, Floats]:
    """Return a table's channels and what is computed of them, by "<stream>/<kind>", (n_windows,) each.

    `latency`: the p99 of each window too, which takes longest.
    """
    found = {**table.channels, **compute_signals(table.channels, table.end_s - table.start_s, ram_bytes)}
    group = np.arange(table.start_s.size)
    for stream, h in table.latency.items() if latency else ():
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
        found["device/rss_ratio"] = ratio_of(np.where(read, np.nansum(held, axis=0), np.nan), ram)
    free = channels.get("device/mem_available_bytes")
    if free is not None:
        found["device/mem_used_ratio"] = 1 - ratio_of(free, ram)
    for stream in (name.removesuffix("/calls") for name in channels if name.endswith("/calls")):
        calls = channels[f"{stream}/calls"]
        found[f"{stream}/error_ratio"] = ratio_of(channels.get(f"{stream}/errors", none), calls)
        found[f"{stream}/busy_ratio"] = ratio_of(channels.get(f"{stream}/busy_ns", none), 1e9 * seconds)
        found[f"{stream}/throughput_per_s"] = ratio_of(calls, seconds)
        found[f"{stream}/latency_mean_ns"] = ratio_of(channels.get(f"{stream}/sum_ns", none), calls)
    return found


def ratio_of(part: Floats, whole: Floats) -> Floats:
    """Return part ÷ whole, NaN where the whole isn't above 0."""
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


def worst_of(signal: str, channels: Channels, *, upwards: bool) -> Floats:
    """Return the highest (else lowest) of the channels that a signal means, NaN where none was read."""
    stacked = np.stack([channels[name] for name in sources(signal, channels)])
    fill = -np.inf if upwards else np.inf
    filled = np.where(np.isfinite(stacked), stacked, fill)
    worst: Floats = filled.max(axis=0) if upwards else filled.min(axis=0)
    return np.where(np.isfinite(stacked).any(axis=0), worst, np.nan)
