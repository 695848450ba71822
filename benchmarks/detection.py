"""The detection table: how often a model that got slower by a known share is called so, and by whom.

    python -m benchmarks.detection bank quiet --minutes 20    # goes on where it was interrupted
    python -m benchmarks.detection status
    python -m benchmarks.detection docs                       # trials of what is banked, into the page

Fresh duets of the slowed models (`slowed`) are banked in each setting. Trials draw from the bank by the
product's own rules (`harness.measure.trials`); the peers' processes are banked and drawn likewise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Collection, Sequence

from benchmarks import results
from benchmarks.detection_bank import (
    QUIET_PRESSURE,
    SETTINGS,
    Setting,
    describe,
    fill,
    load_duets,
    load_peers,
    models_folder,
)
from benchmarks.detection_models import STEPS, load_models
from benchmarks.detection_table import GOAL_STEPS, Cell, goal_rows, judge_cell, judge_peers, render
from benchmarks.table import Row, failed
from harness.store.atomic import write_text

BEGIN = "<!-- detection: python -m benchmarks.detection docs -->"
END = "<!-- end of detection -->"
QUICK_MINUTES = 2.5  # a setting, at most, once its models are made
WHOLE_MINUTES = 60.0


def run(quick: bool) -> list[Row]:
    """Return the rows of the goals: of false FAILs, and of the slowdown that must be found."""
    rows = []
    for setting in SETTINGS.values():
        steps = (0.0, GOAL_STEPS[setting.fidelity]) if quick else STEPS
        minutes = QUICK_MINUTES if quick else WHOLE_MINUTES
        duets = setting.quick_duets if quick else setting.duets
        fill(setting, duets, 0.0 if quick else 1.0, time.monotonic() + 60 * minutes, _say, steps)
        cells = judge(setting, steps)
        rows += goal_rows(setting.title, setting.fidelity, setting.margin, cells)
        if len(cells) < len(steps):
            rows.append(failed(f"detection, {setting.title}", _why_missing(setting, steps)))
    if not quick:
        write_docs()
    return rows


def judge(setting: Setting, steps: Collection[float] = STEPS) -> list[Cell]:
    """Return the cells of a setting that have duets, by slowdown."""
    found = []
    for model in (m for m in load_models(models_folder(setting)) if m.step in steps):
        none, slowed = (
            {name: load_peers(setting, name, step) for name in setting.peer_runs}
            for step in (0.0, model.step)
        )
        cell = judge_cell(
            model,
            load_duets(setting, model.step),
            setting.duet_settings,
            setting.fidelity,
            setting.margin,
            judge_peers(model.step, none, none if not model.step else slowed),
        )
        found += [cell] if cell else []
    return found


def _why_missing(setting: Setting, steps: Collection[float]) -> str:
    counts = ", ".join(f"{len(load_duets(setting, s))} of +{100 * s:g}%" for s in steps)
    quiet = f"; a duet counts while tasks wait for a CPU under {QUIET_PRESSURE:.0%} of the time"
    return f"too few duets: {counts}{quiet if setting.name == 'quiet' else ''}"


def write_docs() -> None:
    """Put the tables of all settings that have cells between the marks of docs/benchmarks.md."""
    parts = []
    for setting in SETTINGS.values():
        if not (models_folder(setting) / "models.json").is_file():
            continue
        cells = judge(setting)
        if cells:
            parts.append(render(setting.title, setting.margin, cells, _peer_seconds(setting)))
    text = results.DOCS.read_text(encoding="utf-8")
    write_text(results.DOCS, results.replace_between_marks(text, "\n\n".join(parts), BEGIN, END))


def _peer_seconds(setting: Setting) -> dict[str, float]:
    """Return how long a peer's comparison takes, both sides, by name."""
    found = {}
    for name in setting.peer_runs:
        walls_s = [run.wall_s for step in STEPS for run in load_peers(setting, name, step)]
        if walls_s:
            found[name] = 2 * statistics.median(walls_s)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection")
    actions = parser.add_subparsers(dest="action", required=True)
    banking = actions.add_parser("bank", help="measure what is missing")
    banking.add_argument("settings", nargs="*", metavar="SETTING", help=f"of {', '.join(SETTINGS)}")
    banking.add_argument("--minutes", type=float, default=WHOLE_MINUTES, help="at most, in all")
    banking.add_argument("--duets", type=int, help="of each model (default: as the table needs)")
    banking.add_argument("--peers", type=float, default=1.0, help="share of the peers' runs (default: 1)")
    actions.add_parser("status", help="say what is banked")
    actions.add_parser("docs", help="draw trials, write the tables into docs/benchmarks.md")
    given = parser.parse_args(argv)
    unknown = sorted(set(getattr(given, "settings", ())) - set(SETTINGS))
    if unknown:
        parser.error(f"no setting {', '.join(unknown)}; there are: {', '.join(SETTINGS)}")
    if given.action == "docs":
        write_docs()
        return 0
    if given.action == "bank":
        until_s = time.monotonic() + 60 * given.minutes
        for name in given.settings or SETTINGS:
            fill(SETTINGS[name], given.duets or SETTINGS[name].duets, given.peers, until_s, _say)
    for setting in SETTINGS.values():
        _say(describe(setting))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
