"""A meter's CSV file of ten minutes at 5 kHz: how long it takes to be read, checked and integrated.

The limit is 5 s; the peer is pandas reading the same file.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.table import Goal, Row
from harness.alignment import integrate
from harness.instruments import csv_file
from harness.instruments.base import Context
from harness.model import InstrumentSpec
from harness.toml_schema import Problems, Section

RATE_HZ, SECONDS = 5000, 600
LIMIT_S = 5.0


def run(quick: bool) -> list[Row]:
    """Return one row."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meter.csv"
        _write(path)
        ours, peer = [], []
        for _ in range(2 if quick else 5):
            begin = time.monotonic()
            _ingest(path)
            ours.append(time.monotonic() - begin)
            begin = time.monotonic()
            pd.read_csv(path)
            peer.append(time.monotonic() - begin)
    return [
        Row(
            f"ingest of a CSV capture, {RATE_HZ / 1000:g} kHz for {SECONDS // 60} min, with its checks",
            "s",
            statistics.median(ours),
            statistics.median(peer),
            "pandas.read_csv of it",
            Goal("ours", high=LIMIT_S),
            len(ours),
        )
    ]


def _write(path: Path) -> None:
    """Write 3 million samples of current and voltage."""
    import pandas as pd

    n = RATE_HZ * SECONDS
    rng = np.random.default_rng(1)
    columns = {
        "time_s": np.arange(n) / RATE_HZ,
        "current_a": np.round(0.6 + rng.normal(0, 0.05, n), 6),
        "power_w": np.round(3.0 + rng.normal(0, 0.25, n), 6),
    }
    pd.DataFrame(columns).to_csv(path, index=False)


def _ingest(path: Path) -> float:
    """Return the joules that the harness finds in the file."""
    table = {
        "kind": "csv",
        "path": str(path),
        "time_column": "time_s",
        "channels": {"power": {"kind": "power_w", "column": "power_w"}},
    }
    problems = Problems(path)
    section = Section(table, "", problems)
    section.text("kind")
    options = csv_file.KIND.parse(section)
    problems.check()
    meter = csv_file.KIND.open(InstrumentSpec("meter", "csv", options), Context())
    meter.start(["power"], RATE_HZ)
    (capture,) = meter.stop()
    meter.close()
    found = integrate(capture.t_ns, capture.values, int(capture.t_ns[0]), int(capture.t_ns[-1]))
    assert found.value is not None, "the file has no gap"
    return found.value
