"""Two sides of stored runs → each number of one against the other's, and what is on one side only. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.gate import results_of, standing_runs
from harness.judging import plan_name, worst
from harness.model import Budget, Outcome, RecordedBaseline, Result, Run, Verdict
from harness.recorded import NOT_COMPARED, compare_facts, facts_of, key_of, recorded_problems
from harness.results import OUTCOME_VERDICTS

_Place = tuple[str, str]  # a model by the plan's name, a unit


@dataclass(frozen=True)
class Pairing:
    """What two sides amount to: a row for each number that both have, a line for each that one has.

    `notes` are the runs that ended without numbers, `ended` the worst verdict of those of the candidate's.
    """

    results: tuple[Result, ...]
    only: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ended: Verdict = Verdict.NOT_JUDGED


def pair(
    before: Iterable[Run], after: Iterable[Run], budgets: Sequence[Budget], names: tuple[str, str]
) -> Pairing:
    """Return `after`'s numbers against `before`'s, by model, unit, metric, scenario and batch size.

    They were not taken side by side, so units, builds and settings have to be the same; `names` are what the
    two sides are called. `budgets` hold the margins. Where each side has one model they are compared whatever
    they are called.
    """
    before, after = standing_runs(before), standing_runs(after)
    olds, news = _by_place(before), _by_place(after)
    renamed = _as_one_model(olds, news)
    results: list[Result] = []
    only: list[str] = []
    for place in sorted(news.keys() | renamed.keys()):
        if place not in news or place not in renamed:
            side, runs = (names[1], news[place]) if place in news else (names[0], renamed[place])
            count = len(_numbers(runs))
            only.append(_only(side, f"{place[0]} on {place[1]}, {count} number{'s' if count > 1 else ''}"))
            continue
        rows, lacking = _pair_place(renamed[place], news[place], budgets, names)
        results += rows
        only += lacking
    notes = (*_without_numbers(before, names[0]), *_without_numbers(after, names[1]))
    ended = worst(OUTCOME_VERDICTS[run.outcome] for run in after)
    return Pairing(tuple(results), tuple(only), notes, ended)


def _by_place(runs: Iterable[Run]) -> dict[_Place, list[Run]]:
    """Return the completed runs that have numbers, by model and unit."""
    places: dict[_Place, list[Run]] = {}
    for run in runs:
        if run.outcome is Outcome.COMPLETED and run.measurements:
            places.setdefault((plan_name(run.model), run.device.name), []).append(run)
    return places


def _without_numbers(runs: Iterable[Run], side: str) -> list[str]:
    """Return a line for each run that didn't complete."""
    lines = []
    for run in runs:
        if run.outcome is not Outcome.COMPLETED:
            why = run.error.message if run.error else run.reason or "no reason given"
            lines.append(f"{run.outcome} in {side}: {run.model} on {run.device.name}, {run.suite}: {why}")
    return lines


def _as_one_model(olds: dict[_Place, list[Run]], news: dict[_Place, list[Run]]) -> dict[_Place, list[Run]]:
    """Return `olds` under the other side's model, and unit, where each has one alone."""
    mine, theirs = {model for model, _ in olds}, {model for model, _ in news}
    if len(mine) == 1 and len(theirs) == 1:
        (name,) = theirs
        olds = {(name, unit): runs for (_, unit), runs in olds.items()}
    if len(olds) == 1 and len(news) == 1:
        # another unit's numbers are INVALID, which says more than a list of what is on one side
        (runs,), (place,) = olds.values(), news
        olds = {place: runs}
    return olds


def _pair_place(
    before: Sequence[Run], after: Sequence[Run], budgets: Sequence[Budget], names: tuple[str, str]
) -> tuple[list[Result], list[str]]:
    """Return (rows, what one side alone has) of one model on one unit."""
    old = facts_of(before, names[0])
    there = {key_of(m) for m in old.measurements}
    new = facts_of(after)
    rows: list[Result] = []
    lacking: list[str] = []
    seen = set()
    for run in after:
        facts = facts_of([run])
        problems = recorded_problems(old, replace(new, threads=run.threads))
        both = tuple(n for n in facts.numbers if key_of(n.measurement) in there)
        lacking += [_only(names[1], text) for text in _numbers([run], {key_of(n.measurement) for n in both})]
        seen |= {key_of(n.measurement) for n in both}
        compared = compare_facts(replace(facts, numbers=both), old, problems)
        if compared:
            rows += results_of(replace(run, measurements=(), comparisons=compared), budgets)
    lacking += [_only(names[0], text) for text in _numbers(before, seen)]
    return rows, lacking


def _numbers(runs: Sequence[Run], without: Iterable[object] = ()) -> list[str]:
    """Return what each comparable number of `runs` is called, but for those with a key in `without`."""
    facts: RecordedBaseline = facts_of(runs)
    left = [m for m in facts.measurements if key_of(m) not in set(without) and m.metric not in NOT_COMPARED]
    return [
        f"{facts.model} on {facts.device_name}: {m.metric}"
        + (f", {m.scenario}" if m.scenario else "")
        + (f", batch {m.batch_size}" if m.batch_size > 1 else "")
        for m in left
    ]


def _only(side: str, what: str) -> str:
    return f"only in {side}: {what}"
