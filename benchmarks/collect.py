"""`pytest --collect-only suites/` against pytest in an empty folder, taking turns."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import time_command
from benchmarks.table import Goal, Row, compute_paired_ratio

NOTHING_COLLECTED = 5  # pytest's exit code for it
GOAL_S = 1.0


def run(quick: bool) -> list[Row]:
    """Return one row: wall time of the collection, of an empty one, and their ratio."""
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
    ours: list[float] = []
    empty: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(4 if quick else 12):
            mine = time_command([*collect, "suites/"])
            bare = time_command([*collect, "."], cwd=Path(folder), expected=(NOTHING_COLLECTED,))
            if repetition:  # the first pair warms the file cache and writes .pyc files
                ours.append(mine)
                empty.append(bare)
    return [
        Row(
            "pytest --collect-only suites/",
            "s",
            statistics.median(ours),
            statistics.median(empty),
            "pytest in an empty folder",
            Goal("ours", high=GOAL_S),
            len(ours),
            compute_paired_ratio(ours, empty),
        )
    ]
