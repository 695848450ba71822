"""Latency against a baseline where the device can't hold both models at once: fresh processes in turns.

Randomised ABBA order lets a linear drift drop out. Wider than a duet: everything that changes within
seconds is in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness import stats
from harness.measure.against import baseline_settings
from harness.measure.bench import Bench, Observation
from harness.measure.latency import iterations_for, measure_window, require_clock, settings_for
from harness.metrics import PERCENTILES
from harness.model import Comparison, Condition, Effect, Fidelity, Method, Series

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CANDIDATE, BASELINE = 0, 1
ARMS = ("candidate", "baseline")
SCENARIO = "single_stream"
# of ABBA or BAAB; one has no interval but its extremes, which serve on a virtual clock
QUADRUPLES = {Fidelity.MEASURED: 4, Fidelity.VIRTUAL: 1}
# of what a model and its runtime took: room for the other arm's, and for what else the board does (chosen)
ROOM = 1.25
# free memory beyond which nobody needs to look: runtimes take some 50 to 100 MB, models several times their
# files (chosen with room)
PLENTY_BYTES, PLENTY_OF_FILES = 1 << 30, 20


def cpus_for(bench: Bench) -> tuple[int, ...]:
    """Return the cores both arms run on: those of the device's entry, else its last, one a thread.

    On the same core the arms meet the same neighbours.
    """
    if bench.board.device.pinned_cpus:
        return bench.board.device.pinned_cpus
    cpus = sorted(bench.board.facts.details.get("cpus") or ())
    return tuple(cpus[-bench.threads :])


def too_little_memory(bench: Bench, baseline: Bench) -> str | None:
    """Return why the device can't hold both models at once, or None.

    One model loaded shows what it takes; the other is taken to need as much, more by the ratio of the files'
    sizes.
    """
    ours, theirs = (max(1, b.case.artifact.model_bytes) for b in (bench, baseline))
    free = bench.board.conditions().get("mem_available_bytes")
    if free is None or free >= PLENTY_BYTES + PLENTY_OF_FILES * (ours + theirs):
        return None
    with bench.child("memory-of-one", cpus=cpus_for(bench)) as (child, _):
        child.first()
        one = child.sample().vm_hwm_bytes
        free = int(bench.board.conditions()["mem_available_bytes"])
    wanted = one * ROOM * max(1.0, theirs / ours)
    if free >= wanted:
        return None
    return (
        f"with one model loaded {free / 1e6:.0f} MB are free, the other may need {wanted / 1e6:.0f} MB: "
        "fresh processes took turns instead of a duet"
    )


@dataclass
class Turns:
    """What each arm's processes gave, in the order in which they ran."""

    load_ns: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    first_ns: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    latency_ns: tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]]] = field(
        default_factory=lambda: ([], [])
    )
    clock: str | None = None


def measure_in_turns(
    bench: Bench, baseline: Bench, name: str, *, seed: int, why: str, quadruples: int | None = None
) -> Observation:
    """Compare two models by fresh processes in randomised ABBA order; each row says `why` it is no duet."""
    fidelity = require_clock(bench)
    quadruples = quadruples or QUADRUPLES[fidelity]
    order = stats.abba_order(quadruples, seed)
    turns, conditions = Turns(), []
    for number, arm in enumerate(order):
        bench.progress.count("process", number, len(order))
        conditions.append(_take(turns, (bench, baseline)[arm], arm, number, cpus_for(bench)))
    found = [
        _compared(f"latency_p{p}_ns", *_percentiles(turns, p), order, fidelity, name, why)
        for p in PERCENTILES
    ]
    found.append(_compared("load_time_ns", *turns.load_ns, order, fidelity, name, why))
    found.append(_compared("first_inference_ns", *turns.first_ns, order, fidelity, name, why))
    return Observation(
        comparisons=tuple(found),
        series=tuple(_series(turns)),
        conditions=tuple(conditions),
        settings={
            "seed": seed,
            "quadruples": quadruples,
            "order": order,
            "no_duet": why,
            "cpus": list(cpus_for(bench)),
            **baseline_settings(baseline, name),
        },
        scenario=SCENARIO,
    )


def _take(turns: Turns, bench: Bench, arm: int, number: int, cpus: Sequence[int]) -> Condition:
    """Measure one fresh process; return whether it brought samples."""
    settings = settings_for(require_clock(bench))
    with bench.child(f"{ARMS[arm]}-{number}", cpus=cpus) as (child, load_ns):
        started = time.monotonic()
        turns.first_ns[arm].append(child.first())
        call_wall_s = time.monotonic() - started
        wanted = iterations_for(settings, call_wall_s)
        block = measure_window(bench, child, settings, wanted, call_wall_s)
    turns.load_ns[arm].append(load_ns)
    turns.latency_ns[arm].append(block.latency_ns)
    turns.clock = block.clock
    return Condition(
        f"samples (process {number + 1}, {ARMS[arm]})",
        str(len(block.latency_ns)),
        f"{wanted}, or at least 8 when the window's cap ends it",
        len(block.latency_ns) >= min(wanted, 8),
        "Raise the window's cap, or measure a smaller model.",
    )


def _percentiles(turns: Turns, p: float) -> tuple[list[float], list[float]]:
    sides = [[stats.percentile(v, p) for v in side] for side in turns.latency_ns]
    return sides[CANDIDATE], sides[BASELINE]


def _compared(
    metric: str,
    candidate: Sequence[float],
    baseline: Sequence[float],
    order: Sequence[int],
    fidelity: Fidelity,
    name: str,
    why: str,
) -> Comparison:
    found = stats.abba_interval(candidate, baseline, order)
    value = math.exp(found.estimate)
    reasons: tuple[str, ...] = (why,)
    if found.low is not None and found.high is not None:
        low, high = math.exp(found.low), math.exp(found.high)
    else:
        low = min(min(candidate) / max(baseline), value)
        high = max(max(candidate) / min(baseline), value)
        reasons = (why, f"interval: extremes of {len(candidate)} fresh processes of each")
    return Comparison(
        metric=metric,
        effect=Effect.RATIO,
        value=value,
        low=low,
        high=high,
        n=len(candidate),
        fidelity=fidelity,
        method=Method.ABBA,
        candidate=stats.median(candidate),
        baseline=stats.median(baseline),
        baseline_name=name,
        scenario=SCENARIO,
        df=found.df,
        reasons=reasons,
    )


def _series(turns: Turns) -> list[Series]:
    import numpy as np

    found: list[Series] = []
    once: dict[str, Any] = {"load_time_ns": turns.load_ns, "first_inference_ns": turns.first_ns}
    for arm, label in enumerate(ARMS):
        parts = turns.latency_ns[arm]
        each = np.arange(len(parts), dtype=np.int32)
        process = np.repeat(each, [len(part) for part in parts])
        found.append(Series("latency_ns", "ns", np.concatenate(parts), process, turns.clock, arm=label))
        found += [
            Series(metric, "ns", np.array(sides[arm], dtype=np.int64), each, turns.clock, arm=label)
            for metric, sides in once.items()
        ]
    return found
