"""How a soak stands, at a glance: what a table and the device's last word say of it, before any judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.model import SoakEvent, SoakTable
from harness.report.soak import Soak
from harness.soak.collector import is_gone
from harness.soak.unseen import is_paced

RECENT_EVENTS = 5
FIRST_S = 3600.0  # what "now" is compared with: the first hour
RECENT_S = 900.0  # what "now" is: the last quarter of an hour (chosen), at least one window
MIN_SLOPE_POINTS = 8  # chosen: a line through fewer says nothing
UNCOLLECTED = "uncollected"  # the state of one that this host has started and not asked about since
LOST = "lost"  # its emulated machine is gone, and its end isn't here
MIN_SLOPE_S = 1800.0  # chosen: in less, a process that still warms up looks like a leak

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StreamGlance:
    """One stream so far.

    Latencies in ns: (p50, p99), None where nothing was called, or an emulated board ran at its host's pace.
    """

    name: str
    title: str
    cycle: str
    calls: int
    errors: Mapping[str, int]  # by kind
    first_ns: tuple[float, float] | None
    now_ns: tuple[float, float] | None
    rss_bytes: float | None
    rss_slope_per_h: float | None  # median of pairwise slopes, no interval: an indication
    restarts: int


@dataclass(frozen=True)
class Contact:
    """What is known of the device. `seen_ago_s` None: never; `problem`: why it can't be reached now.

    `lost`: it was an emulated machine that is gone.
    """

    seen_ago_s: float | None
    collected_ago_s: float | None = None  # by this host's clock
    status: Mapping[str, Any] = field(default_factory=dict)  # its last soak_status
    problem: str = ""
    lost: bool = False


@dataclass(frozen=True)
class Glance:
    """All that `harness soak status` shows of one soak."""

    soak_id: str
    device: str
    compressed: bool
    state: str  # running, ended, dead, unknown (nothing recorded yet), unreachable, UNCOLLECTED or LOST
    duration_s: float
    reached_s: float  # soak time of the last window that is known
    observed_s: float
    windows: int
    window_s: float
    coverage_ratio: float | None  # None: not all windows are at hand
    streams: tuple[StreamGlance, ...]
    temps_c: Mapping[str, tuple[float, float]]  # by channel: now, highest
    throttled: bool | None  # in the last window
    disk_free_bytes: float | None
    events: tuple[SoakEvent, ...]  # the last ones
    events_total: int
    lives: int
    alerts: tuple[str, ...]  # that are on now
    ended: str | None
    contact: Contact
    collector: str  # who, "" where nobody has claimed it
    collector_gone: bool  # it was a process of this host, and has ended
    collector_ago_s: float | None
    started_at: str = ""  # ISO 8601, UTC; "" where the spec doesn't say
    stored: str = ""  # the session that has it already
    raw_gone: bool = False  # it is stored, and its segments aren't here any more
    ledger: str = ""  # this host's folder of it


def compute_glance(
    table: SoakTable,
    spec: Mapping[str, Any],
    device: str,
    contact: Contact,
    *,
    whole: bool = True,
    alerts: Sequence[str] = (),
    stored: str = "",
    raw_gone: bool = False,
) -> Glance:
    """Return how a soak stands. `whole`: the table holds all windows from the first on.

    Of a stored one without its raw segments `of_session` makes it.
    """
    spans = table.end_s - table.start_s
    observed_s = float(spans.sum())
    reached_s = max([float(table.end_s[-1]) if len(spans) else 0.0, _seen_t_s(contact)])
    duration_s = spec["duration_ns"] / 1e9
    # of what can have been seen by now; once it has ended of all that was asked for, as its verdict has it
    asked_s = duration_s if table.ended is not None or not len(spans) else float(table.end_s[-1])
    claim = contact.status.get("collector") or {}
    return Glance(
        soak_id=str(spec["id"]),
        device=device,
        compressed=bool(spec.get("compressed")),
        state=state_of(table, contact),
        duration_s=duration_s,
        reached_s=reached_s,
        observed_s=observed_s,
        windows=int(table.merged.sum()),
        window_s=spec["window_ns"] / 1e9,
        coverage_ratio=min(1.0, observed_s / asked_s) if whole and len(spans) else None,
        streams=tuple(_stream(table, stream, spec) for stream in spec["streams"]),
        temps_c=_temps(table),
        throttled=_throttled(table),
        disk_free_bytes=_last(table.channels.get("device/disk_free_bytes")),
        events=table.events[-RECENT_EVENTS:],
        events_total=len(table.events),
        lives=len(table.lives),
        alerts=tuple(alerts),
        ended=table.ended,
        contact=contact,
        collector=str(claim.get("holder") or ""),
        collector_gone=is_gone(str(claim.get("holder") or "")),
        collector_ago_s=_collected_ago_s(claim, contact, compressed=bool(spec.get("compressed"))),
        started_at=str((spec.get("about") or {}).get("started_at") or ""),
        stored=stored,
        raw_gone=raw_gone,
    )


def of_session(glance: Glance, soak: Soak) -> Glance:
    """Return a glance at the table of a session (`stored.table_of`) with what that says of the whole."""
    return replace(glance, observed_s=soak.observed_s, coverage_ratio=soak.coverage_ratio)


def state_of(table: SoakTable, contact: Contact) -> str:
    """Return one word: what the table shows for certain, else what the device said last."""
    if table.ended is not None:
        return "ended"
    if contact.lost:
        return LOST
    if contact.problem:
        return "unreachable"
    return str(contact.status.get("state") or UNCOLLECTED)


def _seen_t_s(contact: Contact) -> float:
    t_ns = contact.status.get("t_ns")
    return t_ns / 1e9 if isinstance(t_ns, int | float) else 0.0


def _collected_ago_s(claim: Mapping[str, Any], contact: Contact, *, compressed: bool) -> float | None:
    """Return how long ago anybody collected, of real time: by this host's clock, or by the device's.

    The device's clock flies in a compressed soak, and tells nothing then.
    """
    seen_ns = claim.get("seen_age_ns")
    known = [contact.collected_ago_s] if contact.collected_ago_s is not None else []
    if isinstance(seen_ns, int | float) and not compressed:
        known.append(seen_ns / 1e9 + (contact.seen_ago_s or 0.0))
    return min(known) if known else None


def _stream(table: SoakTable, stream: Mapping[str, Any], spec: Mapping[str, Any]) -> StreamGlance:
    name = str(stream["name"])
    about = {s["name"]: s for s in (spec.get("about") or {}).get("streams", ())}.get(name, {})
    variants = [str(v["name"]) for v in stream["variants"]]
    rss = table.channels.get(f"{name}/rss_bytes")
    kind = str(((spec.get("about") or {}).get("device") or {}).get("kind"))
    paced = is_paced(kind, compressed=bool(spec.get("compressed")))
    prefix = f"{name}/errors."
    errors = {
        key.removeprefix(prefix): int(np.nansum(values))
        for key, values in table.channels.items()
        if key.startswith(prefix)
    }
    restarts = table.channels.get(f"{name}/restarts")
    return StreamGlance(
        name=name,
        title=str(about.get("model") or ", ".join(variants)),
        cycle=str(about.get("cycle") or stream["cycle"]["kind"]),
        calls=_total(table.channels.get(f"{name}/calls")),
        errors={kind: count for kind, count in errors.items() if count},
        first_ns=_latency(table, name, table.end_s <= FIRST_S) if paced else None,
        now_ns=_latency(table, name, _recent(table)) if paced else None,
        rss_bytes=_last(rss),
        rss_slope_per_h=_slope_per_h(table, rss, spec),
        restarts=_total(restarts),
    )


def _recent(table: SoakTable) -> npt.NDArray[np.bool_]:
    if not len(table.end_s):
        return np.zeros(0, dtype=bool)
    chosen: npt.NDArray[np.bool_] = table.start_s >= table.end_s[-1] - RECENT_S
    chosen[-1] = True
    return chosen


def _latency(table: SoakTable, stream: str, chosen: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """Return (p50, p99) in ns over the chosen windows, over the first where none is; None without a call."""
    found = table.latency.get(stream)
    if found is None or not len(found.index):
        return None
    if not chosen.any():
        chosen = np.arange(len(chosen)) == 0
    each = np.repeat(chosen, np.diff(found.offset))
    index, count = found.index[each], found.count[each]
    if not len(index):
        return None
    return _percentile_ns(index, count, 0.5), _percentile_ns(index, count, 0.99)


def _percentile_ns(index: npt.NDArray[np.int32], count: npt.NDArray[np.int64], share: float) -> float:
    """Return the middle of the bucket that holds the call of rank `share`."""
    order = np.argsort(index)
    reached = np.cumsum(count[order])
    at = order[int(np.searchsorted(reached, share * reached[-1]))]
    bucket = int(index[at])
    if bucket < 128:
        return float(bucket)
    s = bucket // 64 - 1
    return ((bucket - 64 * s) + 0.5) * (1 << s)


def _slope_per_h(table: SoakTable, values: Floats | None, spec: Mapping[str, Any]) -> float | None:
    """Return the slope so far, without the warm-up; None: too early to say."""
    if values is None:
        return None
    warm_s = float(((spec.get("about") or {}).get("settings") or {}).get("warmup_s") or 0.0)
    good = np.isfinite(values) & (table.start_s >= warm_s)
    hours, level = table.start_s[good] / 3600, values[good]
    if len(level) < MIN_SLOPE_POINTS or hours[-1] - hours[0] < MIN_SLOPE_S / 3600:
        return None
    # Theil's incomplete method (1950): each point of the first half with its partner in the second
    half = len(level) // 2
    slopes = (level[-half:] - level[:half]) / (hours[-half:] - hours[:half])
    return float(np.median(slopes))


def _temps(table: SoakTable) -> dict[str, tuple[float, float]]:
    found = {}
    for name, values in table.channels.items():
        good = values[np.isfinite(values)]
        if name.startswith("device/temp_c") and len(good):
            found[name.removeprefix("device/temp_c").lstrip(".")] = (float(good[-1]), float(good.max()))
    return found


def _throttled(table: SoakTable) -> bool | None:
    bits = _last(table.channels.get("device/throttled_bits"))
    return None if bits is None else bool(int(bits) & 0xF)


def _last(values: Floats | None) -> float | None:
    if values is None:
        return None
    good = values[np.isfinite(values)]
    return float(good[-1]) if len(good) else None


def _total(values: Floats | None) -> int:
    return 0 if values is None else int(np.nansum(values))
