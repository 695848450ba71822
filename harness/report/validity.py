"""The validity of a session at one glance: what was breached, what couldn't be seen, how warm-up ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model import Condition, Run, Scope
from harness.report.provenance import run_anchor, run_title
from harness.report.wording import Badge
from harness.units import counted

SCOPES = {Scope.ALL: "everything", Scope.ABSOLUTE: "absolute numbers only"}
_MAX_OBSERVED = 4  # of one breach: further ones are in their runs
_WARM_UP = re.compile(r"warm-up[^(]*\((?P<process>.*)\)")
_CALLS = re.compile(r"after (\d+)")


@dataclass(frozen=True)
class Breach:
    """One condition that was breached alike in one or several runs."""

    name: str
    observed: tuple[str, ...]
    expected: str
    scope: str
    remedy: str
    runs: tuple[tuple[str, str], ...]  # (anchor, title)


@dataclass(frozen=True)
class WarmUp:
    """How the processes of one run warmed up."""

    anchor: str
    title: str
    processes: str
    state: Badge


@dataclass(frozen=True)
class Validity:
    said: str
    breaches: tuple[Breach, ...]
    unseen: tuple[tuple[str, str], ...]  # (condition, in how many runs)
    warm_ups: tuple[WarmUp, ...]
    warm_up_said: str


def build_validity(runs: Sequence[Run]) -> Validity | None:
    """Return the section; None where no run recorded a condition."""
    every = [c for run in runs for c in run.conditions]
    if not every:
        return None
    held, unseen = sum(c.ok is True for c in every), sum(c.ok is None and not _warm_up(c) for c in every)
    breached = sum(c.ok is False for c in every)
    capped = sum(c.ok is None and _warm_up(c) is not None for c in every)
    counts = ((breached, "breached"), (unseen, "not observable"), (capped, "ended by a cap"))
    said = ", ".join(
        [f"{held} of {counted(len(every), 'condition')} held", *(f"{n} {word}" for n, word in counts if n)]
    )
    warm_ups = [(run, [c for c in run.conditions if _warm_up(c)]) for run in runs]
    return Validity(
        f"{said}.",
        _breaches(runs),
        _unseen(runs),
        tuple(_warm_up_row(n, run, found) for n, (run, found) in enumerate(warm_ups, 1) if found),
        _warm_up_said([c for _, found in warm_ups for c in found]),
    )


def _breaches(runs: Sequence[Run]) -> tuple[Breach, ...]:
    """Return what was breached, what invalidates everything first, then what did so most often."""
    alike: dict[tuple[str, str, Scope, str], list[tuple[int, Run, Condition]]] = {}
    for number, run in enumerate(runs, 1):
        for c in run.conditions:
            if c.ok is False:
                alike.setdefault((c.name, c.expected, c.scope, c.remedy), []).append((number, run, c))
    ordered = sorted(alike.items(), key=lambda item: (item[0][2] is not Scope.ALL, -len(item[1])))
    found = []
    for (name, expected, scope, remedy), cases in ordered:
        observed = list(dict.fromkeys(c.observed for _, _, c in cases))
        more = len(observed) - _MAX_OBSERVED
        shown = (*observed[:_MAX_OBSERVED], *((f"and {more} more",) if more > 0 else ()))
        places = dict.fromkeys((run_anchor(number), run_title(run)) for number, run, _ in cases)
        found.append(Breach(name, shown, expected, SCOPES[scope], remedy, tuple(places)))
    return tuple(found)


def _unseen(runs: Sequence[Run]) -> tuple[tuple[str, str], ...]:
    names = dict.fromkeys(c.name for run in runs for c in run.conditions if c.ok is None and not _warm_up(c))
    return tuple(
        (name, str(sum(any(c.name == name and c.ok is None for c in run.conditions) for run in runs)))
        for name in names
    )


def _warm_up(c: Condition) -> str | None:
    """Return the process that a condition on warm-up is about; None for any other condition."""
    match = _WARM_UP.match(c.name)
    return match["process"] if match else None


def _warm_up_row(number: int, run: Run, conditions: Sequence[Condition]) -> WarmUp:
    parts = []
    for c in conditions:
        calls = _CALLS.search(c.observed)
        parts.append(f"{_warm_up(c)}: {calls[1] if calls else c.observed}{'' if c.ok else ' (capped)'}")
    capped = sum(c.ok is not True for c in conditions)
    state = Badge(f"{capped} capped", "v-inconclusive", "?") if capped else Badge("flat", "o-done", "✓")
    return WarmUp(run_anchor(number), run_title(run), " · ".join(parts), state)


def _warm_up_said(conditions: Sequence[Condition]) -> str:
    flat = sum(c.ok is True for c in conditions)
    if flat == len(conditions):
        every = "the one process" if flat == 1 else f"all {flat} processes"
        return f"medians were flat in {every} before samples counted"
    every = counted(len(conditions), "process", "processes")
    return f"medians were flat in {flat} of {every}; {'in the others ' if flat else ''}a cap ended it"
