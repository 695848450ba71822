"""A stored soak as records: `settings["soak"]` of a run with its series. No formatting, no drawing.

docs/soak-format.md describes the object. A key it lacks is an error that the page shows; a key that isn't
known here is left to a newer report.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import StoredRunError
from harness.model import Run, Series, SoakStream, Verdict
from harness.store.codec import from_plain

SUITE = "soak"
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_REMEDY = "Judge the soak again, or restore the file."


@dataclass(frozen=True)
class Channel:
    """One quantity of each window. `series` names its values; `stream` is "" for the device's own."""

    series: str
    stream: str
    kind: str
    unit: str
    title: str


@dataclass(frozen=True)
class LatencyNames:
    """The series of one stream's sparse histograms: time bin, bucket and count of each entry."""

    stream: str
    window: str
    index: str
    count: str


@dataclass(frozen=True)
class Event:
    t_s: float
    source: str
    kind: str
    stream: str
    text: str
    judged: str  # "FAIL", "INVALID" or "note"


@dataclass(frozen=True)
class Gap:
    start_s: float
    end_s: float
    why: str


@dataclass(frozen=True)
class Life:
    life: int
    start_s: float
    boot_id: str


@dataclass(frozen=True)
class Alert:
    """A rule that fired. `cleared_s` None: it never cleared, and held to `held_to_s`, the soak's end."""

    rule: str
    fired_s: float
    cleared_s: float | None
    worst: float | None
    aborted: bool
    held_to_s: float | None = None  # older files don't say


@dataclass(frozen=True)
class DriftBaseline:
    """What a row's slope is beyond that of a soak known to be good, with its own verdict."""

    slope_per_h: float
    low_per_h: float
    high_per_h: float
    verdict: Verdict


@dataclass(frozen=True)
class Drift:
    """One drift judgement. Block values are medians, NaN where a block had none; slopes None: not judged."""

    series: str
    stream: str
    kind: str
    unit: str
    metric: str
    slope_per_h: float | None
    low_per_h: float | None
    high_per_h: float | None
    limit_per_h: float | None
    direction: str
    why_limit: str
    block_s: tuple[float, ...]
    block_value: tuple[float | None, ...]
    kept: tuple[bool, ...]
    method: str
    verdict: Verdict
    baseline: DriftBaseline | None = None


@dataclass(frozen=True)
class RunnerCost:
    cpu_ratio: float | None
    rss_bytes_max: float | None
    spool_bytes_per_day: float | None


@dataclass(frozen=True)
class Unmeasured:
    """Something that was never read, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Soak:
    """What `settings["soak"]` says, by its own names."""

    id: str
    compressed: bool
    duration_s: float
    observed_s: float
    coverage_ratio: float
    window_s: float
    block_s: float
    warmup_s: float
    ended: str | None
    streams: tuple[SoakStream, ...]
    time_series: str
    channels: tuple[Channel, ...]
    latency: tuple[LatencyNames, ...]
    latency_bins_s: tuple[float, ...]
    events: tuple[Event, ...]
    gaps: tuple[Gap, ...]
    lives: tuple[Life, ...]
    alerts: tuple[Alert, ...]
    drift: tuple[Drift, ...]
    runner: RunnerCost
    not_measured: tuple[Unmeasured, ...] = ()  # older files don't say

    @property
    def span_s(self) -> float:
        """Where the time axis ends: the duration asked for, or the last thing seen if that is later."""
        seen = [*self.latency_bins_s[-1:], *(e.t_s for e in self.events), *(g.end_s for g in self.gaps)]
        return max([self.duration_s, *seen])


@dataclass(frozen=True)
class Histograms:
    """Counts of one stream by time bin and bucket: entries of shape (n_entries,), `edges_s` (n_bins + 1,)."""

    edges_s: Floats
    bin: Ints
    bucket: Ints
    count: Ints


def is_soak(run: Run) -> bool:
    """Return whether a run holds a soak's record."""
    return run.suite == SUITE and isinstance(run.settings.get("soak"), Mapping)


def read_soak(run: Run) -> Soak:
    """Return the soak that `run` holds. Raises StoredRunError that names the key which can't be read."""
    plain = run.settings.get("soak")
    if not isinstance(plain, Mapping):
        raise StoredRunError(
            f"expected an object, found {type(plain).__name__}", where=_where(run), next_step=_REMEDY
        )
    soak = from_plain(Soak, _known(Soak, plain), where=_where(run))
    for row in soak.drift:
        if not len(row.block_s) == len(row.block_value) == len(row.kept):
            raise StoredRunError(
                f"drift of {row.series}: {len(row.block_s)} times, {len(row.block_value)} values and "
                f"{len(row.kept)} marks, expected as many of each",
                where=_where(run),
                next_step=_REMEDY,
            )
    return soak


def _where(run: Run) -> str:
    return f"run {run.run_id}: settings.soak"


def _known(record: type[Any], plain: Any) -> Any:
    """Return `plain` without the keys that `record`, or a record within it, doesn't have."""
    if not isinstance(plain, Mapping):
        return plain
    hints = typing.get_type_hints(record)
    return {key: _known_value(hints[key], value) for key, value in plain.items() if key in hints}


def _known_value(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _known(typing.cast(type[Any], hint), value)
    inner = typing.get_args(hint)[:1]
    if inner and dataclasses.is_dataclass(inner[0]):
        within = typing.cast(type[Any], inner[0])
        return (
            [_known(within, v) for v in value] if isinstance(value, list | tuple) else _known(within, value)
        )
    return list(value) if isinstance(value, tuple) else value


# --- series ---------------------------------------------------------------------------------------


def series_of(run: Run) -> dict[str, Series]:
    return {series.name: series for series in run.series}


def channel_points(run: Run, soak: Soak, name: str) -> tuple[Floats, Floats] | None:
    """Return (soak time in s, value) of a channel by time, without NaN; None where it has none."""
    held = series_of(run)
    times, values = held.get(soak.time_series), held.get(name)
    if times is None or values is None or times.values.size != values.values.size:
        return None
    t, v = times.values.astype(np.float64), values.values.astype(np.float64)
    good = np.isfinite(t) & np.isfinite(v)
    t, v = t[good], v[good]
    if not t.size:
        return None
    if np.any(np.diff(t) < 0):
        order = np.argsort(t, kind="stable")
        t, v = t[order], v[order]
    return t, v


def histograms(run: Run, soak: Soak, names: LatencyNames) -> Histograms | None:
    """Return a stream's histograms by time bin; None where a series is missing or none was counted.

    Entries outside the bins are left out.
    """
    held = series_of(run)
    found = [held.get(name) for name in (names.window, names.index, names.count)]
    if any(series is None for series in found):
        return None
    bins, buckets, counts = (s.values.astype(np.int64) for s in found if s is not None)
    edges = np.asarray(soak.latency_bins_s, dtype=np.float64)
    if not bins.size == buckets.size == counts.size or edges.size < 2:
        return None
    good = (bins >= 0) & (bins < edges.size - 1) & (buckets >= 0) & (counts > 0)
    if not good.any():
        return None
    return Histograms(edges, bins[good], buckets[good], counts[good])
