"""The words and marks that page and Markdown share: verdicts, fidelities, intervals, limits, scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap
from typing import Any

from harness.judging import joined
from harness.metrics import ESTIMATES, HIGHER, METRICS
from harness.model import Fidelity, Result, Run, Verdict
from harness.units import counted, format_apart, format_quantity, how_old

VIRTUAL_NOTE = (
    "Times are on the emulated board's instruction clock; "
    "they compare builds, they are not a Pi's milliseconds"
)


@dataclass(frozen=True)
class Badge:
    """A word with the class that colours it and a mark for those who see no colours."""

    word: str
    css: str
    mark: str = ""


_MARKS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✕",
    Verdict.INCONCLUSIVE: "?",
    Verdict.INVALID: "!",
    Verdict.INFRA_ERROR: "⚡",
    Verdict.NOT_JUDGED: "–",
}
WORDS = {Verdict.NOT_JUDGED: "not judged", Verdict.INFRA_ERROR: "INFRA ERROR"}
MEANINGS = {
    Verdict.PASS: "Everything that was judged is within its limits.",
    Verdict.FAIL: "At least one result is beyond its limit.",
    Verdict.INCONCLUSIVE: "At least one interval straddles its limit: more samples, or a board, may decide.",
    Verdict.INVALID: "The evidence is incomplete or contradicts itself: it says nothing about the model.",
    Verdict.INFRA_ERROR: "The lab failed, not the model. Try again.",
    Verdict.NOT_JUDGED: "Nothing was set to judge it by.",
}

UNJUDGED = "It was measured, and nothing broke. No budget judges the numbers."


def verdict_badge(verdict: Verdict) -> Badge:
    return Badge(WORDS.get(verdict, verdict.value), f"v-{verdict.value.lower()}", _MARKS[verdict])


def fidelity_badge(fidelity: Fidelity | None) -> Badge | None:
    return Badge(fidelity.value, f"f-{fidelity.value}") if fidelity else None


def runtime_of(item: Result | Run) -> str:
    """Return the runtime with its version, as one name."""
    return f"{item.runtime} {item.runtime_version or ''}".strip()


def scope_of(result: Result, run: Run | None) -> str:
    """Return what tells results of one metric apart: scenario, batch, threads, attempt; "" if nothing."""
    parts = [
        (result.scenario or "").replace("_", " "),
        f"batch {result.batch_size}" if result.batch_size != 1 or result.scenario == "offline" else "",
        f"{result.threads} threads" if result.threads > 1 else "",
        f"attempt {run.attempt}" if run is not None and run.attempt > 1 else "",
    ]
    return ", ".join(part for part in parts if part)


def value_of(result: Result) -> str:
    return format_quantity(result.value, result.unit)


def interval_of(result: Result) -> str:
    if result.low is None and result.high is None:
        return "–"
    if result.low == result.high == result.value:
        row = METRICS.get(result.metric)
        return "no spread" if row is not None and row.kind == "time" and result.n > 1 else "exact"
    low, high = format_apart(result.low, result.high, result.unit)
    return f"{low} – {high}"


def estimate_of(result: Result) -> str:
    """Return an estimate with its word and band, "estimated 77 ms (66 ms – 90 ms)"; "" for anything else."""
    if result.fidelity is not Fidelity.ESTIMATED or result.value is None:
        return ""
    return f"estimated {value_of(result)} ({interval_of(result)})"


def estimate_lines(results: Iterable[Result], most: int = 8) -> list[str]:
    """Return a line for each estimated latency, or why there is none; of those beyond `most`, the count.

    What they rest on and why some rest on the clock alone come last, each once.
    """
    lines: list[str] = []
    rests_on: dict[str, list[list[str]]] = {}  # by calibration: each estimate's notes, in short
    wide: list[str] = []
    made = [r for r in results if r.metric in ESTIMATES.values()]
    for r in made:
        shown, said = estimate_of(r), r.settings.get("estimate") or {}
        lines.append(f"{r.model} on {r.device_name}{_told_apart(r, made)}: {shown or joined(r.reasons)}")
        if shown and "calibration" in said:
            heads = [note.partition(":")[0] for note in said.get("notes", ())]
            rests_on.setdefault(_calibration_of(said), []).append(heads)
            wide += [said["no_counts"]] if said.get("no_counts") else []
    lines = list(dict.fromkeys(lines))
    more = [f"and {len(lines) - most} more, in the report"] if len(lines) > most else []
    return [*lines[:most], *more, *starmap(_with_shared_notes, rests_on.items()), *dict.fromkeys(wide)]


_OUTSIDE = " outside the calibration's range"  # how notes of several traits end, told once


def _told_apart(result: Result, others: Sequence[Result]) -> str:
    """Return ", " with the runtime and threads that tell a model's estimates on a device apart; "" else."""
    same = [o for o in others if (o.model, o.device_name) == (result.model, result.device_name)]
    parts = [
        runtime_of(result) if len({runtime_of(o) for o in same}) > 1 else "",
        counted(result.threads, "thread") if len({o.threads for o in same}) > 1 else "",
    ]
    return "".join(f", {part}" for part in parts if part)


def _with_shared_notes(line: str, notes: Sequence[Sequence[str]]) -> str:
    """Return a line with what is noted of all its estimates; what is of some stands in the report."""
    shared = [note for note in notes[0] if all(note in others for others in notes)]
    outside = [note.removesuffix(_OUTSIDE) for note in shared if note.endswith(_OUTSIDE)]
    rest = [note for note in shared if not note.endswith(_OUTSIDE)]
    return "; ".join([line, *rest, *([", ".join(outside) + _OUTSIDE] if outside else [])])


def _calibration_of(said: Mapping[str, Any]) -> str:
    """Return what an estimate rests on: the calibration's name, its age and its error on its own networks."""
    return (
        f"from calibration {said['calibration']}, {said['precision']} ({how_old(said['age_days'])}): off by "
        f"{said['mean_error_ratio']:.1%} on average, {said['worst_error_ratio']:.1%} at worst, on its own "
        f"{counted(said['networks'], 'network')}"
    )


def limit_of(result: Result) -> str:
    if result.budget is None:
        return "–"
    return f"{'≥' if result.direction == HIGHER else '≤'} {format_quantity(result.budget, result.unit)}"


def when(stamp: str) -> str:
    """Return an ISO 8601 time as "2026-01-02 03:04:05 UTC"; what is none, as it stands."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    zone = "" if moment.tzinfo is None else " UTC" if not moment.utcoffset() else f" {moment:%z}"
    return f"{moment:%Y-%m-%d %H:%M:%S}{zone}"


def lasted(started: str, finished: str | None) -> str:
    try:
        seconds = round(
            (datetime.fromisoformat(finished or "") - datetime.fromisoformat(started)).total_seconds()
        )
    except (ValueError, TypeError):
        return ""
    hours, minutes = divmod(seconds // 60, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{seconds % 60} s"]
    return " · " + " ".join(part for part in parts if part)
