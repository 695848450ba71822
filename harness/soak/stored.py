"""A stored soak's table, for whoever has its session and no longer its raw segments.

The session keeps a value of each channel for each window, and latencies merged over stretches of time: so
totals are exact, and what is asked about a stretch is as fine as those are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.model import Run, SoakEvent, SoakLife, SoakTable, SparseHistograms
from harness.report.soak import LatencyNames, Soak, histograms, is_soak, read_soak, series_of
from harness.store import read_session


def read_stored(session_folder: Path, soak_id: str) -> tuple[SoakTable, Soak] | None:
    """Return the table that a session keeps of a soak, and the soak's own record; None: it has no such soak.

    Raises StoredRunError where the session can't be read.
    """
    for run in read_session(session_folder).runs:
        if is_soak(run):
            soak = read_soak(run)
            if soak.id == soak_id:
                return table_of(run, soak), soak
    return None


def table_of(run: Run, soak: Soak) -> SoakTable:
    """Return a run's windows, without their seq; each as long as the soak's are, a thinned one too."""
    series = series_of(run)
    found = series.get(soak.time_series)
    middle = np.empty(0) if found is None else found.values.astype(np.float64)
    n = middle.size
    channels = {
        c.series: series[c.series].values.astype(np.float64)
        for c in soak.channels
        if c.series in series and series[c.series].values.size == n
    }
    return SoakTable(
        start_s=middle - soak.window_s / 2,
        end_s=middle + soak.window_s / 2,
        life=np.ones(n, dtype=np.int32),
        merged=np.ones(n, dtype=np.int32),
        channels=channels,
        units={c.series: c.unit for c in soak.channels if c.series in channels},
        latency={names.stream: _latency(run, soak, names, middle) for names in soak.latency},
        variants={},
        events=tuple(SoakEvent(e.t_s, e.kind, e.text, e.source, e.stream) for e in soak.events),
        lives=tuple(SoakLife(one.life, one.start_s, 0.0, "", one.boot_id) for one in soak.lives),
        ended=soak.ended,
        first_seq=0,
        last_seq=0,
    )


def _latency(run: Run, soak: Soak, names: LatencyNames, middle: np.ndarray) -> SparseHistograms:
    """Return a stream's histograms, each stretch's whole with the first window within it."""
    held = histograms(run, soak, names)
    sizes = np.zeros(middle.size, dtype=np.int64)
    if held is None or not middle.size:
        none = np.empty(0, dtype=np.int64)
        return SparseHistograms(np.zeros(middle.size + 1, dtype=np.int64), none.astype(np.int32), none)
    order = np.argsort(held.bin, kind="stable")
    first = np.clip(np.searchsorted(middle, held.edges_s[held.bin[order]]), 0, middle.size - 1)
    np.add.at(sizes, first, 1)
    offset = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    return SparseHistograms(offset, held.bucket[order].astype(np.int32), held.count[order])
