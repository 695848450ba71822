"""What duets say: the ratio of two arms' steady state, tails, instructions, load time and first inference."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness import stats
from harness.measure.in_turns import ARMS, BASELINE, CANDIDATE
from harness.metrics import PERCENTILES
from harness.model import Comparison, Effect, Fidelity, Method
from harness.remote import DuetBlocks

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SCENARIO = "single_stream"


@dataclass(frozen=True)
class Duet:
    """What one duet gave; in each pair the candidate's comes first."""

    loaded_first: int  # the arm that was
    load_ns: tuple[int, int]
    first_ns: tuple[int, int]
    blocks: DuetBlocks


@dataclass
class Arms:
    """What the duets gave so far, one entry a duet; in each pair the candidate's comes first."""

    loaded_first: list[int] = field(default_factory=list)
    load_ns: list[tuple[int, int]] = field(default_factory=list)
    first_ns: list[tuple[int, int]] = field(default_factory=list)
    blocks: list[DuetBlocks] = field(default_factory=list)

    def append(self, duet: Duet) -> None:
        self.loaded_first.append(duet.loaded_first)
        self.load_ns.append(duet.load_ns)
        self.first_ns.append(duet.first_ns)
        self.blocks.append(duet.blocks)


def compare(
    arms: Arms,
    fidelity: Fidelity,
    name: str,
    confidence: float,
    seed: int,
    metrics: Collection[str] | None = None,
) -> tuple[Comparison, ...]:
    """Return what the duets so far say: steady state, instructions, load time and first inference.

    `metrics`: those that are asked for; None: all.
    """
    ways: dict[str, Callable[[], Comparison | None]] = {
        f"latency_p{p}_ns": functools.partial(_tail, arms, p, fidelity, name, confidence, seed)
        for p in PERCENTILES
    }
    ways["latency_p50_ns"] = lambda: _median(arms, fidelity, name, confidence, seed)
    ways["instructions"] = lambda: _instructions(arms, name)
    ways["load_time_ns"] = lambda: _once("load_time_ns", arms.load_ns, fidelity, name, confidence)
    ways["first_inference_ns"] = lambda: _once(
        "first_inference_ns", arms.first_ns, fidelity, name, confidence
    )
    found = (way() for metric, way in ways.items() if metrics is None or metric in metrics)
    return tuple(comparison for comparison in found if comparison is not None)


def _median(arms: Arms, fidelity: Fidelity, name: str, confidence: float, seed: int) -> Comparison:
    import numpy as np

    pairs = [block_log_ratios(blocks) for blocks in arms.blocks]
    found = stats.duet_interval(pairs, confidence, seed=seed)
    n = sum(len(p) for p in pairs)
    within = [r for p in pairs if (r := stats.lag1_autocorrelation(p)) is not None]
    return Comparison(
        metric="latency_p50_ns",
        effect=Effect.RATIO,
        value=_exp(found.estimate),
        low=_exp(found.low),
        high=_exp(found.high),
        n=n,
        fidelity=fidelity,
        method=Method.DUET,
        candidate=_pooled(arms, CANDIDATE, 50),
        baseline=_pooled(arms, BASELINE, 50),
        baseline_name=name,
        scenario=SCENARIO,
        confidence=confidence,
        df=found.df,
        settings={
            "duets": len(pairs),
            "interval_basis": found.basis,
            "duet_ratios": [math.exp(float(np.median(p))) for p in pairs],
            "lag1_autocorrelation": within,
        },
    )


def block_log_ratios(blocks: DuetBlocks) -> Floats:
    """Return log(candidate ÷ baseline) of block medians, one for each pair of blocks, shape (pairs,)."""
    candidate, baseline = (block_medians(blocks, arm) for arm in (CANDIDATE, BASELINE))
    return stats.pair_log_ratios(candidate, baseline)


def block_medians(blocks: DuetBlocks, arm: int) -> Floats:
    """Return the median latency of each of an arm's blocks in ns, shape (pairs,)."""
    import numpy as np

    by_block = blocks.arms[arm].latency_ns.reshape(blocks.pairs_got, -1)
    return np.asarray(np.median(by_block, axis=1), dtype=np.float64)


def _tail(arms: Arms, p: float, fidelity: Fidelity, name: str, confidence: float, seed: int) -> Comparison:
    sides = [[b.arms[arm].latency_ns for b in arms.blocks] for arm in (CANDIDATE, BASELINE)]
    pairs = [[b.arms[arm].block for b in arms.blocks] for arm in (CANDIDATE, BASELINE)]
    found = stats.percentile_ratio_interval(
        sides[0], sides[1], p, confidence, seed=seed, candidate_block=pairs[0], baseline_block=pairs[1]
    )
    n = min(sum(len(s) for s in side) for side in sides)
    reasons = ("tails come from the pooled samples, so their interval is wider",)
    if found.low is None:
        enough = f"; {found.needed} can" if found.needed else ""
        reasons = (f"{n} samples an arm can't bound the ratio of p{p:g}s{enough}",)
    return Comparison(
        metric=f"latency_p{p:g}_ns",
        effect=Effect.RATIO,
        value=_exp(found.estimate),
        low=_exp(found.low),
        high=_exp(found.high),
        n=n,
        fidelity=fidelity,
        method=Method.DUET,
        candidate=_pooled(arms, CANDIDATE, p),
        baseline=_pooled(arms, BASELINE, p),
        baseline_name=name,
        scenario=SCENARIO,
        confidence=confidence,
        reasons=reasons,
    )


def _instructions(arms: Arms, name: str) -> Comparison | None:
    """Compare user-space instructions per call; None where the device doesn't count them.

    A count has no noise worth an interval: the bounds are the extremes of the duets.
    """
    import numpy as np

    per_call: list[list[float]] = []
    for blocks in arms.blocks:
        counted = [(taken.instructions, taken.calls) for taken in blocks.arms]
        per_call.append([float(np.median(c)) / calls for c, calls in counted if c is not None and len(c)])
    if any(len(pair) != len(ARMS) or not pair[BASELINE] for pair in per_call):
        return None
    candidate, baseline = (float(np.median([pair[arm] for pair in per_call])) for arm in (0, 1))
    ratios = [pair[CANDIDATE] / pair[BASELINE] for pair in per_call]
    value = float(np.median(ratios))
    return Comparison(
        metric="instructions",
        effect=Effect.RATIO,
        value=value,
        low=min(ratios),
        high=max(ratios),
        n=len(ratios),
        fidelity=Fidelity.MEASURED,
        method=Method.DUET,
        candidate=candidate,
        baseline=baseline,
        baseline_name=name,
        scenario=SCENARIO,
        reasons=(f"in user space; interval: smallest and largest of {len(ratios)} duets",),
    )


def _once(
    metric: str, pairs: Sequence[tuple[int, int]], fidelity: Fidelity, name: str, confidence: float
) -> Comparison:
    """Compare what happens once a process: one pair for each duet, loaded in randomised ABBA order."""
    candidate, baseline = ([float(pair[arm]) for pair in pairs] for arm in (CANDIDATE, BASELINE))
    logs = [math.log(c / b) for c, b in zip(candidate, baseline, strict=True)]
    value = math.exp(sum(logs) / len(logs))
    factor = stats.t_half_width_ratio([math.exp(x) for x in logs], confidence) if len(logs) > 1 else None
    return Comparison(
        metric=metric,
        effect=Effect.RATIO,
        value=value,
        low=value / factor if factor else None,
        high=value * factor if factor else None,
        n=len(pairs),
        fidelity=fidelity,
        method=Method.ABBA,
        candidate=stats.median(candidate),
        baseline=stats.median(baseline),
        baseline_name=name,
        scenario=SCENARIO,
        confidence=confidence,
        df=len(pairs) - 1 if factor else None,
    )


def _pooled(arms: Arms, arm: int, p: float) -> float:
    import numpy as np

    return stats.percentile(np.concatenate([b.arms[arm].latency_ns for b in arms.blocks]), p)


def _exp(log_ratio: float | None) -> float | None:
    return None if log_ratio is None else math.exp(log_ratio)
