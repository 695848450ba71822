"""The duet: candidate and baseline sit loaded in two processes on one device and take turns in blocks.

Drift, heat and neighbours hit both arms alike, so their ratio stands where absolute numbers wouldn't. Several
fresh duets show what varies between processes. Each also loads both models anew, in randomised ABBA order,
which compares load time and first inference.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from harness import stats
from harness.agent.model import SETTLE_NS
from harness.measure.against import baseline_settings
from harness.measure.bench import Bench, Observation
from harness.measure.in_turns import ARMS, BASELINE, CANDIDATE, cpus_for, measure_in_turns, too_little_memory
from harness.measure.latency import require_clock
from harness.metrics import PERCENTILES
from harness.model import Comparison, Condition, Effect, Fidelity, Method, Series
from harness.remote import Child, DuetBlocks, run_duet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SCENARIO = "single_stream"
MIN_PAIRS = 2
Undecided = Callable[[Sequence[Comparison]], bool]


@dataclass(frozen=True)
class DuetSettings:
    """How much is compared. `looks` is the cap: after each it may stop, or go on if undecided."""

    duets: int  # fresh pairs of processes, a look
    looks: int
    pairs: int  # of blocks, a duet
    max_duet_s: float  # device time
    warmup_calls: int
    settle_ns: int  # busy before each block
    block_ns: int = 20_000_000
    block_calls: int = 4  # at least
    drop: int = 1  # first calls of a block: their caches are the other arm's
    wall_cap_s: float = 240.0  # the longest wait for one duet, on the host's clock


# On a physical clock the noise lies between processes (memory layout: 0.5% from duet to duet of one model,
# measured on a shared 2-core host), so time goes into many short duets. There blocks of 5 ms gave half-widths
# of 0.11% in 35 s, blocks of 20 ms 0.14%; with two busy neighbours 0.17% and 0.24%. On a virtual clock duets
# agree within 0.01%.
MEASURED = DuetSettings(12, 3, 12, 2.0, 2000, 0, block_ns=5_000_000)
VIRTUAL = DuetSettings(2, 2, 4, 600.0, 4, SETTLE_NS)


def settings_for(fidelity: Fidelity) -> DuetSettings:
    return VIRTUAL if fidelity is Fidelity.VIRTUAL else MEASURED


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


def measure_duet(
    bench: Bench,
    baseline: Bench,
    name: str,
    *,
    seed: int,
    undecided: Undecided = lambda comparisons: False,
    settings: DuetSettings | None = None,
) -> Observation:
    """Compare `bench`'s model with `baseline`'s, on the same board; `name` is what the baseline is called.

    Goes on to the declared cap of looks while `undecided` says so of the comparisons; each look's intervals
    are as wide as looking that often asks for. Where the device's memory can't hold both, fresh processes
    take turns instead, and the rows say so. Raises Unsupported where the clock says nothing.
    """
    fidelity = require_clock(bench)
    settings = settings or settings_for(fidelity)
    if (why := too_little_memory(bench, baseline)) is not None:
        return measure_in_turns(bench, baseline, name, seed=seed, why=why)
    duets = fresh_duets(bench, baseline, settings, seed)

    def draw(so_far: int) -> Duet:
        bench.progress.count("duet", so_far, settings.duets * settings.looks)
        return next(duets)

    arms, comparisons, looks = take_looks(draw, settings, fidelity, name, seed=seed, undecided=undecided)
    return Observation(
        comparisons=tuple(_told(c, looks, settings.looks) for c in comparisons),
        series=tuple(_series(arms)),
        conditions=_conditions(arms, settings),
        settings={
            **asdict(settings),
            "seed": seed,
            "looks_taken": looks,
            "cpus": list(cpus_for(bench)),
            **baseline_settings(baseline, name),
        },
        scenario=SCENARIO,
    )


def take_looks(
    draw: Callable[[int], Duet],
    settings: DuetSettings,
    fidelity: Fidelity,
    name: str,
    *,
    seed: int,
    undecided: Undecided,
    metrics: Collection[str] | None = None,
) -> tuple[Arms, tuple[Comparison, ...], int]:
    """Return the duets, what they say, and how many looks that took: the rule by which a comparison ends.

    `draw` is given how many duets there are and returns the next. `metrics`: None for all.
    """
    arms = Arms()
    comparisons: tuple[Comparison, ...] = ()
    looks = 0
    for confidence in stats.pocock_confidences(settings.looks, per_look=settings.duets):
        for _ in range(settings.duets):
            arms.append(draw(len(arms.blocks)))
        looks += 1
        comparisons = compare(arms, fidelity, name, confidence, seed, metrics)
        if not undecided(comparisons):
            break
    return arms, comparisons, looks


def fresh_duets(
    bench: Bench, baseline: Bench, settings: DuetSettings, seed: int
) -> Generator[Duet, None, None]:
    """Yield duets of fresh processes without end; every second one loads them in the other order."""
    order = random.Random(seed)
    first = CANDIDATE
    for turn in itertools.count():
        first = 1 - first if turn % 2 else order.randrange(2)
        yield _play(bench, baseline, settings, first, turn, order.getrandbits(32))


def _play(bench: Bench, baseline: Bench, settings: DuetSettings, first: int, turn: int, seed: int) -> Duet:
    """Return one duet of fresh processes; arm `first` is loaded first."""
    benches = (bench, baseline)
    load_ns, first_ns = [0, 0], [0, 0]
    children: dict[int, Child] = {}
    with contextlib.ExitStack() as stack:
        for arm in (first, 1 - first):
            entered = benches[arm].child(f"{ARMS[arm]}-{turn}", cpus=cpus_for(bench))
            child, load_ns[arm] = stack.enter_context(entered)
            first_ns[arm] = child.first()
            children[arm] = child
        with bench.board.connection.quiet():
            blocks = run_duet(
                bench.board.client,
                (children[CANDIDATE], children[BASELINE]),
                pairs=settings.pairs,
                seed=seed,
                block_ns=settings.block_ns,
                block_calls=settings.block_calls,
                drop=settings.drop,
                settle_ns=settings.settle_ns,
                warmup_max=settings.warmup_calls,
                max_duration_ns=int(settings.max_duet_s * 1e9),
                timeout_s=bench.board.device.timeout_s + settings.wall_cap_s,
            )
    return Duet(first, (load_ns[0], load_ns[1]), (first_ns[0], first_ns[1]), blocks)


# --- what the blocks say --------------------------------------------------------------------------


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


def _told(c: Comparison, looks: int, cap: int) -> Comparison:
    if cap == 1 or c.confidence == 0.9:
        return c
    what = f"look {looks} of at most {cap}, declared beforehand: its interval is at {100 * c.confidence:.1f}%"
    return replace(c, reasons=(*c.reasons, what))


# --- what is kept ---------------------------------------------------------------------------------


def _series(arms: Arms) -> list[Series]:
    import numpy as np

    found = []
    for arm, label in enumerate(ARMS):
        sides = [blocks.arms[arm] for blocks in arms.blocks]
        process = np.repeat(np.arange(len(sides), dtype=np.int32), [len(s.latency_ns) for s in sides])
        found.append(
            Series(
                "latency_ns",
                "ns",
                np.concatenate([s.latency_ns for s in sides]),
                process,
                arms.blocks[0].clock,
                arm=label,
                block=np.concatenate([s.block for s in sides]),
            )
        )
        each = np.arange(len(sides), dtype=np.int32)
        for metric, pairs in (("load_time_ns", arms.load_ns), ("first_inference_ns", arms.first_ns)):
            values = np.array([pair[arm] for pair in pairs], dtype=np.int64)
            found.append(Series(metric, "ns", values, each, arms.blocks[0].clock, arm=label))
    return found


def _conditions(arms: Arms, settings: DuetSettings) -> tuple[Condition, ...]:
    lines = []
    for number, blocks in enumerate(arms.blocks, 1):
        lines.append(
            Condition(
                f"pairs of blocks (duet {number})",
                str(blocks.pairs_got),
                f"{settings.pairs}, or at least {MIN_PAIRS} when its time ends it",
                blocks.pairs_got >= MIN_PAIRS,
                "Compare a smaller model, or give the duet more time.",
            )
        )
        for arm, label in enumerate(ARMS):
            taken = blocks.arms[arm]
            lines.append(
                Condition(
                    f"warm-up flat (duet {number}, {label})",
                    f"{'yes' if taken.warmup_flat else 'no'} after {taken.warmup_iterations} calls",
                    "medians of blocks within 2%",
                    True if taken.warmup_flat else None,
                    "The cap ended warm-up: early blocks may be slow, in both arms.",
                )
            )
    return tuple(lines)
