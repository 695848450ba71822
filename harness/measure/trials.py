"""Trials: what the gate says of duets that were kept, drawn anew each time.

A trial ends by the rule that ends a comparison (`duet.take_looks`) and is judged by the one that judges a
run (`margins.judge_family`), so its verdicts are those of sessions that met these duets. Drawing with
replacement: trials tell of the device as far as the kept duets show it, and no further.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import stats
from harness.margins import judge_family
from harness.measure.duet import DuetSettings, take_looks
from harness.measure.duet_effects import Duet, block_log_ratios
from harness.metrics import metric
from harness.model import Comparison, Fidelity, Verdict
from harness.stats.students import t_quantile

if TYPE_CHECKING:
    import numpy.typing as npt

METRIC = "latency_p50_ns"
POWER = 0.95  # of what is called detectable
SHOWN_CONFIDENCE = 0.9  # of half-widths


@dataclass(frozen=True)
class KeptDuet:
    """One duet and the wall time that it took, its processes' start included."""

    duet: Duet
    wall_s: float


@dataclass(frozen=True)
class Trial:
    """One comparison as it would have gone. `wall_s` is the sum over its duets."""

    verdict: Verdict
    looks: int
    duets: int
    wall_s: float
    comparison: Comparison

    @property
    def half_width_ratio(self) -> float:
        """Return half the width of the ratio's 90% interval (0.0015: ±0.15%), whatever the look's was."""
        c = self.comparison
        if c.low is None or c.high is None:
            return math.inf
        half = math.log(c.high / c.low) / 2
        asked, shown = (t_quantile((1 + level) / 2, c.df) for level in (c.confidence, SHOWN_CONFIDENCE))
        return math.expm1(half * shown / asked)


@dataclass(frozen=True)
class Spread:
    """What duets of one comparison differ by, on the log scale."""

    between_sd: float  # what differs from process to process
    within_se: float  # of one duet's median, by its pairs
    wall_s: float  # of one duet, median


def take_trial(
    kept: Sequence[KeptDuet], settings: DuetSettings, fidelity: Fidelity, margin: float, seed: int
) -> Trial:
    """Return one trial of METRIC from duets drawn out of `kept`, one after another, by `seed`.

    Raises ValueError where nothing was kept.
    """
    if not kept:
        raise ValueError("no duets to draw from")
    order = random.Random(seed)
    wall_s: list[float] = []

    def draw(_: int) -> Duet:
        picked = kept[order.randrange(len(kept))]
        wall_s.append(picked.wall_s)
        return picked.duet

    def verdict_of(comparisons: Sequence[Comparison]) -> Verdict:
        rows = [metric(c.metric) for c in comparisons]
        (judged,) = judge_family(comparisons, [margin] * len(rows), rows)
        return judged.verdict

    _, comparisons, looks = take_looks(
        draw,
        settings,
        fidelity,
        "itself",
        seed=seed,
        undecided=lambda found: verdict_of(found) is Verdict.INCONCLUSIVE,
        metrics=(METRIC,),
    )
    return Trial(verdict_of(comparisons), looks, len(wall_s), math.fsum(wall_s), comparisons[0])


def compute_spread(kept: Sequence[KeptDuet], seed: int = 0) -> Spread:
    """Return what `kept` duets, at least 2, differ by. Raises ValueError for fewer."""
    if len(kept) < 2:
        raise ValueError(f"the spread between duets takes at least 2, got {len(kept)}")
    logs = [block_log_ratios(k.duet.blocks) for k in kept]
    medians = [_middle(part) for part in logs]
    mean = math.fsum(medians) / len(medians)
    seen = math.fsum((m - mean) ** 2 for m in medians) / (len(medians) - 1)
    within = math.fsum(stats.median_standard_error(part, seed=seed)[0] ** 2 for part in logs) / len(logs)
    return Spread(
        math.sqrt(max(0.0, seen - within)),
        math.sqrt(within),
        stats.median([k.wall_s for k in kept]),
    )


def detectable(spread: Spread, minutes: float, margin: float) -> float | None:
    """Return the smallest regression (0.013: 1.3%) that so much measuring finds beyond `margin`, in POWER of
    cases; None where fewer than two duets fit."""
    duets = int(minutes * 60 / spread.wall_s)
    if duets < 2:
        return None
    ratio = stats.detectable_ratio(
        spread.between_sd, spread.within_se, duets, SHOWN_CONFIDENCE, POWER, margin=margin
    )
    return ratio - 1


def _middle(values: npt.ArrayLike) -> float:
    import numpy as np

    return float(np.median(np.asarray(values, dtype=np.float64)))
