"""Soak tables made up: channels with noise, leaks and sawteeth as asked for; seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.model import SoakEvent, SoakLife, SoakTable, SparseHistograms
from harness.stats.histograms import bucket_of

HOUR_S = 3600.0
Floats = npt.NDArray[np.float64]


def ar1(rng: np.random.Generator, n: int, phi: float, sd: float) -> Floats:
    """Return stationary AR(1) noise, (n,)."""
    steps = rng.normal(0, sd * np.sqrt(1 - phi * phi), n)
    found = np.empty(n)
    found[0] = rng.normal(0, sd)
    for i in range(1, n):
        found[i] = phi * found[i - 1] + steps[i]
    return found


def a_table(
    hours: float = 72.0,
    window_s: float = 300.0,
    *,
    streams: Sequence[str] = ("main",),
    calls: float = 4.0,  # of a stream in a window
    call_ns: float = 5e6,
    channels: Mapping[str, npt.ArrayLike] | None = None,
    events: Sequence[SoakEvent] = (),
    lives: Sequence[SoakLife] = (SoakLife(1, 0.0, 0.0, "start", "boot-1"),),
    keep: npt.ArrayLike | None = None,
    variants: Mapping[str, tuple[str, ...]] | None = None,
    ended: str | None = "duration",
    seed: int = 0,
    **more: Any,
) -> SoakTable:
    """Return a table of `hours`; `keep` (n,) says which windows were observed."""
    n = int(hours * HOUR_S / window_s)
    start = np.arange(n) * window_s
    rng = np.random.default_rng(seed)
    found: dict[str, Floats] = {}
    latency = {}
    per = int(calls)
    for stream in streams:
        found[f"{stream}/calls"] = np.full(n, float(calls))
        found[f"{stream}/errors"] = np.zeros(n)
        found[f"{stream}/fds"] = np.full(n, 12.0)
        found[f"{stream}/threads"] = np.full(n, 4.0)
        found[f"{stream}/rss_bytes"] = 60e6 + ar1(rng, n, 0.5, 0.2e6)
        times = call_ns * (1 + 0.001 * rng.standard_normal((n, per)))
        if per:
            found[f"{stream}/min_ns"], found[f"{stream}/max_ns"] = times.min(axis=1), times.max(axis=1)
        latency[stream] = SparseHistograms(
            np.arange(n + 1) * per,
            bucket_of(times.ravel().astype(np.int64)).astype(np.int32),
            np.ones(n * per, dtype=np.int64),
        )
    found |= {name: np.asarray(values, dtype=np.float64) for name, values in (channels or {}).items()}
    table = SoakTable(
        start_s=start,
        end_s=start + window_s,
        life=np.ones(n, dtype=np.int32),
        merged=np.ones(n, dtype=np.int32),
        channels=found,
        units={},
        latency=latency,
        variants=variants or {},
        events=tuple(events),
        lives=tuple(lives),
        ended=ended,
        first_seq=1,
        last_seq=n + 2,
        **more,
    )
    return table if keep is None else pick(table, np.asarray(keep, dtype=bool))


def pick(table: SoakTable, keep: npt.NDArray[np.bool_]) -> SoakTable:
    """Return a table with the windows of `keep`, (n,), alone."""
    from dataclasses import replace

    latency = {}
    for stream, h in table.latency.items():
        sizes = np.diff(h.offset)
        entries = np.repeat(keep, sizes)
        offset = np.concatenate([[0], np.cumsum(sizes[keep])])
        latency[stream] = SparseHistograms(offset, h.index[entries], h.count[entries])
    return replace(
        table,
        start_s=table.start_s[keep],
        end_s=table.end_s[keep],
        life=table.life[keep],
        merged=table.merged[keep],
        channels={name: values[keep] for name, values in table.channels.items()},
        latency=latency,
        variants={s: tuple(np.array(v, dtype=object)[keep]) for s, v in table.variants.items()},
    )
