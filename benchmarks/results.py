"""Results kept between calls, one file an item under build/benchmarks/, and their table in the docs."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.table import Row, decode_row, encode_row, render_markdown
from harness.store.atomic import write_text

FOLDER = ROOT / "build" / "benchmarks"
DOCS = ROOT / "docs" / "benchmarks.md"
BEGIN = "<!-- results: python -m benchmarks --docs -->"
END = "<!-- end of results -->"


@dataclass(frozen=True)
class Result:
    """One item's rows and when they were taken."""

    name: str
    taken_on: str  # ISO date, UTC
    quick: bool
    rows: tuple[Row, ...]


def save(name: str, rows: Sequence[Row], *, quick: bool, folder: Path = FOLDER) -> None:
    """Keep an item's rows in place of those before."""
    folder.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    data = {"taken_on": today, "quick": quick, "rows": [encode_row(row) for row in rows]}
    write_text(folder / f"{name}.json", json.dumps(data, indent=1))


def load(names: Iterable[str], folder: Path = FOLDER) -> list[Result]:
    """Return the results of those items that have any."""
    found = []
    for name in names:
        path = folder / f"{name}.json"
        if path.is_file():
            data = json.loads(path.read_text())
            rows = tuple(decode_row(row) for row in data["rows"])
            found.append(Result(name, data["taken_on"], bool(data["quick"]), rows))
    return found


def render_results(results: Sequence[Result]) -> str:
    """Return what stands between the marks in the docs: dates, then the table."""
    dates = sorted({r.taken_on for r in results})
    quick = [r.name for r in results if r.quick]
    line = f"Taken on {' and '.join(dates)}, on one shared 2-core machine: read them as orders of magnitude."
    if quick:
        line += f" With --quick: {', '.join(quick)}."
    return f"{line}\n\n{render_markdown([row for r in results for row in r.rows])}"


def replace_between_marks(text: str, new: str, begin: str = BEGIN, end: str = END) -> str:
    """Return `text` with what stands between two marks replaced. Raises ValueError without them."""
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"expected the lines {begin!r} and {end!r}")
    return f"{before}{begin}\n{new}\n{end}{after}"


def write_docs(results: Sequence[Result], docs: Path = DOCS) -> Path:
    """Put the results into the docs; return the page's path."""
    text = replace_between_marks(docs.read_text(encoding="utf-8"), render_results(results))
    write_text(docs, text)
    return docs
