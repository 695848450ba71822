"""Calibration: A against A on one unit, to know how often it would cry wolf and what it would miss.

Fresh duets of a model against itself; trials then draw from them by the product's own rules (`trials`).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness import stats
from harness.margins import default_margin
from harness.measure.bench import Bench
from harness.measure.duet import DuetSettings, fresh_duets, settings_for
from harness.measure.envelope import compute_conditions
from harness.measure.latency import require_clock
from harness.measure.trials import METRIC, KeptDuet, Trial, compute_spread, detectable, take_trial
from harness.metrics import METRICS
from harness.model import Calibration, Detectable, Fidelity, Verdict

MINUTES = (1.0, 5.0, 20.0)  # of measuring, that detectable regressions are told for
MIN_DUETS = 8  # fewer say nothing about how duets spread (chosen)
# what makes two moments of a unit unlike; load, which both arms meet alike, doesn't
_DISQUALIFYING = ("same boot", "wall clock", "throttling", "freq")


@dataclass(frozen=True)
class Taken:
    """The duets of one calibration. `problems`: why they can't serve; `interrupted`: by Ctrl-C."""

    kept: tuple[KeptDuet, ...]
    settings: DuetSettings
    fidelity: Fidelity
    seed: int
    problems: tuple[str, ...]
    interrupted: bool

    @property
    def measured_s(self) -> float:
        return sum(k.wall_s for k in self.kept)


def duets_needed(settings: DuetSettings) -> int:
    """Return how many duets a calibration takes at least: those of one comparison at its cap."""
    return max(MIN_DUETS, settings.duets * settings.looks)


def take_duets(
    bench: Bench,
    *,
    minutes: float,
    seed: int,
    settings: DuetSettings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Taken:
    """Measure `bench`'s model against itself until `minutes` have passed and there are `duets_needed`.

    Ctrl-C ends it early with what is there, once there are MIN_DUETS. Raises Unsupported on a board whose
    clock says nothing.
    """
    fidelity = require_clock(bench)
    settings = settings or settings_for(fidelity)
    needed = duets_needed(settings)
    kept: list[KeptDuet] = []
    before = bench.board.conditions()
    end_s = clock() + 60 * minutes
    interrupted = False
    duets = fresh_duets(bench, bench, settings, seed)
    try:
        while clock() < end_s or len(kept) < needed:
            bench.progress.say(_where(len(kept), needed, end_s - clock()))
            begin_s = clock()
            duet = next(duets)
            kept.append(KeptDuet(duet, clock() - begin_s))
    except KeyboardInterrupt:
        if len(kept) < MIN_DUETS:
            raise
        interrupted = True
    finally:
        duets.close()
    problems = _problems(bench, before, bench.board.conditions())
    return Taken(tuple(kept), settings, fidelity, seed, problems, interrupted)


def _where(done: int, needed: int, left_s: float) -> str:
    stop = "; Ctrl-C keeps what is there" if done >= MIN_DUETS else ""
    left = f"about {max(0.0, left_s):.0f} s left" if left_s > 0 or done >= needed else f"{needed} at least"
    return f"duet {done + 1}, {left}{stop}"


def _problems(bench: Bench, before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    device = bench.board.device
    lines = compute_conditions(
        before,
        after,
        device.type.requires_evidence,
        limits=device.type.limits,
        virtual=bench.time_fidelity is not Fidelity.MEASURED,
        cpus=device.pinned_cpus,
        governor=device.governor or device.type.governor,
    )
    return tuple(
        f"{line.name}: {line.observed}, expected {line.expected}. {line.remedy}".strip()
        for line in lines
        if line.ok is False and line.name in _DISQUALIFYING
    )


def compute_calibration(
    bench: Bench, taken: Taken, *, trials: int, margin: float | None, now: datetime.datetime
) -> Calibration:
    """Return what `trials` comparisons drawn from the duets say; `margin` None: the metric's own."""
    if margin is None:
        margin = default_margin(METRICS[METRIC], taken.fidelity)
    assert margin is not None  # the table has one for METRIC
    drawn = []
    for number in range(trials):
        if number % 10 == 0:
            bench.progress.count("trial", number, trials)
        drawn.append(take_trial(taken.kept, taken.settings, taken.fidelity, margin, taken.seed + number))
    spread = compute_spread(taken.kept, taken.seed)
    return Calibration(
        device=bench.board.device.name,
        taken_at=now.isoformat(timespec="seconds"),
        model=bench.case.name,
        artifact_sha256=bench.case.artifact.sha256,
        runtime=bench.case.runtime.name,
        runtime_version=bench.look.runtime_version,
        fidelity=taken.fidelity,
        margin=margin,
        trials=trials,
        false_fails=count_of(drawn, Verdict.FAIL),
        inconclusives=count_of(drawn, Verdict.INCONCLUSIVE),
        trial_s=stats.median([t.wall_s for t in drawn]),
        half_width_ratio=stats.median([t.half_width_ratio for t in drawn]),
        detectable=tuple(
            Detectable(minutes, detectable(spread, minutes, margin), minutes * 60 > taken.measured_s)
            for minutes in MINUTES
        ),
        settings={
            "duets": len(taken.kept),
            "measured_s": taken.measured_s,
            "duet_s": spread.wall_s,
            "between_sd_log": spread.between_sd,
            "within_se_log": spread.within_se,
            "duets_a_look": taken.settings.duets,
            "looks": taken.settings.looks,
            "seed": taken.seed,
            "interrupted": taken.interrupted,
        },
    )


def count_of(trials: Sequence[Trial], verdict: Verdict) -> int:
    return sum(trial.verdict is verdict for trial in trials)
