"""The duet: candidate and baseline sit loaded in two processes on one device and take turns in blocks.

Drift, heat and neighbours hit both arms alike, so their ratio stands where absolute numbers wouldn't. Several
fresh duets show what varies between processes. Each also loads both models anew, in randomised ABBA order,
which compares load time and first inference.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import asdict, dataclass, replace

from harness import stats
from harness.agent.model import SETTLE_NS
from harness.measure.against import baseline_settings
from harness.measure.bench import Bench, Observation
from harness.measure.duet_effects import SCENARIO, Arms, Duet, compare
from harness.measure.in_turns import ARMS, BASELINE, CANDIDATE, cpus_for, measure_in_turns, too_little_memory
from harness.measure.latency import require_clock
from harness.model import Comparison, Condition, Fidelity, Series
from harness.remote import Child, run_duet

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
        conditions=(_alike(bench, baseline), *_conditions(arms, settings)),
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


def _alike(bench: Bench, baseline: Bench) -> Condition:
    """Return whether both arms are fed the same: what differs is another job, and the reader should know."""
    alike = bench.inputs.sha256 == baseline.inputs.sha256
    return Condition(
        "inputs of both arms",
        "the same" if alike else "each its own: the models take different ones",
        "the same",
        True if alike else None,
        "Compare models that take the same inputs, or read the ratio as one of two jobs.",
    )


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
