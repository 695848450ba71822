"""`python -m benchmarks [NAME…]`: runs items, prints their rows, keeps them, writes them into the docs.

Exit code 1 when a goal was missed or an item could not be measured, else 0.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import results
from benchmarks.table import Row, failed, render_text
from harness.errors import HarnessError

# in this order; each is a module here, independent of the others
ITEMS = (
    "coverage",
    "drift",
    "collect",
    "steady",
    "sampler",
    "alignment",
    "capture",
    "loadgen",
    "halfwidths",
    "detection",
    "boots",
    "push",
    "sessions",
    "repeatability",
    "soak_72h",
    "estimate",
)
LONG = ("halfwidths", "detection", "drift")  # quick unless asked for whole


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ITEMS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--full", action="store_true", help=f"{', '.join(LONG)} whole: an hour or two")
    parser.add_argument("--missing", action="store_true", help="leave out what has results already")
    parser.add_argument("--show", action="store_true", help="run nothing, show the results there are")
    parser.add_argument("--docs", action="store_true", help="write all results into docs/benchmarks.md")
    given = parser.parse_args(argv)
    unknown = [n for n in given.names if n not in ITEMS]
    if unknown:
        parser.error(f"no item {', '.join(unknown)}; there are: {', '.join(ITEMS)}")
    names = [n for n in ITEMS if n in (given.names or ITEMS)]
    wanted = [] if given.show else [n for n in names if not (given.missing and results.load([n]))]
    for name in wanted:
        _run(name, given.quick or (name in LONG and not given.full))
    kept = results.load(names)
    rows = [row for result in kept for row in result.rows]
    if wanted != names or len(names) > 1:  # the rows of one that just ran stand right above
        print("\n" + render_text(rows))
    if given.docs:
        print(f"wrote {results.write_docs(results.load(ITEMS))}")
    return int(any(row.passed is False for row in rows))


def _run(name: str, quick: bool) -> None:
    """Measure one item and keep its rows; what went wrong becomes a row, so that the others still run."""
    print(f"{name} …", flush=True)
    try:
        rows: list[Row] = importlib.import_module(f"benchmarks.{name}").run(quick)
    except (HarnessError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        rows = [failed(name, f"{type(error).__name__}: {error}")]
    results.save(name, rows, quick=quick)
    print(render_text(rows), flush=True)


if __name__ == "__main__":
    sys.exit(main())
