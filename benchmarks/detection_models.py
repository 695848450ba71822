"""The slowed models of the detection table: how much work makes how many percent on the platform at hand.

On `local`, work is switched on and off within one process (slowed_cost.py): its median ratio over pairs of
blocks, several processes. On the emulated board, the ratio of instructions in user space. A label is what
was asked for; `true` is what was then measured anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import devices, slowed
from benchmarks.processes import resident
from harness.measure.bench import Bench
from harness.measure.duet import VIRTUAL, fresh_duets
from harness.model import Fidelity
from harness.stats import t_half_width_ratio
from harness.store.atomic import write_text

STEPS = (0.0, 0.002, 0.005, 0.01, 0.03, 0.05, 0.1)
PROCESSES = 12  # of the host, for `true`
PAIRS = 80  # of blocks, in each
SEARCHES = 14  # at most, to find an amount of work
CLOSE = 0.04  # of the step: near enough to bear its label
_PLAN = "models.json"

Cost = Callable[[int], list[float]]  # amount of work → slowdowns (0.01: 1%), one a process


@dataclass(frozen=True)
class Slowed:
    """One model of the table; `true` is its slowdown as measured, `half_width` that of the 90% interval."""

    step: float
    elements: int
    true: float
    half_width: float | None
    path: Path


def make_models(folder: Path, base: Bench) -> list[Slowed]:
    """Return the slowed models for `base`'s model on its board, made and measured where they aren't yet."""
    host = base.time_fidelity is Fidelity.MEASURED
    place = folder / f"models-{'local' if host else 'emulated'}-{base.case.artifact.sha256[:10]}"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / _PLAN).is_file():
        with _on_host(base, place) if host else _emulated(base, place) as (rough, exact):
            made = [_make(step, place, rough, exact) for step in STEPS]
        rows = [{**asdict(m), "path": m.path.name} for m in made]
        write_text(place / _PLAN, json.dumps(rows, indent=1))
    return load_models(place)


def load_models(place: Path) -> list[Slowed]:
    """Return the models that `make_models` left in `place`, in the order of STEPS."""
    rows = json.loads((place / _PLAN).read_text())
    return [Slowed(**{**row, "path": place / row["path"]}) for row in rows]


def _make(step: float, place: Path, rough: Cost, exact: Cost) -> Slowed:
    path = place / f"slowed_{100 * step:g}.onnx"
    elements = find_elements(step, lambda n: statistics.median(rough(n))) if step else slowed.BASE_ELEMENTS
    slowed.write_slowed(devices.MODEL, path, elements)
    if not step:
        return Slowed(step, elements, 0.0, None, path)
    seen = exact(elements)
    half = t_half_width_ratio([1 + s for s in seen]) - 1 if len(seen) > 1 else None
    return Slowed(step, elements, statistics.mean(seen), half, path)


def find_elements(step: float, cost: Callable[[int], float]) -> int:
    """Return the amount of work whose `cost` is nearest to `step`, by brackets and interpolation.

    Raises ValueError where no amount up to 2^20 reaches it.
    """
    low, high = (slowed.BASE_ELEMENTS, 0.0), (2 * slowed.BASE_ELEMENTS, cost(2 * slowed.BASE_ELEMENTS))
    seen = dict([high])
    while high[1] < step:
        low, high = high, (high[0] * 2, cost(high[0] * 2))
        seen.update([high])
        if high[0] > 1 << 20:
            raise ValueError(f"{high[0]} elements cost {high[1]:.2%}, wanted {step:.2%}")
    for _ in range(SEARCHES):
        best = min(seen, key=lambda n: abs(seen[n] - step))
        if abs(seen[best] - step) <= CLOSE * step or high[0] - low[0] <= 1:
            break
        share = min(0.9, max(0.1, (step - low[1]) / (high[1] - low[1])))
        middle = min(high[0] - 1, max(low[0] + 1, round(low[0] + share * (high[0] - low[0]))))
        seen[middle] = cost(middle)
        if seen[middle] < step:
            low = (middle, seen[middle])
        else:
            high = (middle, seen[middle])
    return min(seen, key=lambda n: abs(seen[n] - step))


@contextlib.contextmanager
def _on_host(base: Bench, place: Path) -> Iterator[tuple[Cost, Cost]]:
    model = slowed.write_slowed(devices.MODEL, place / "open.onnx", None)
    cpu = max(os.sched_getaffinity(0))
    argv = [sys.executable, str(Path(__file__).with_name("slowed_cost.py")), devices.site_of(base)]
    argv += [str(model), str(devices.INPUTS), str(cpu), str(slowed.BASE_ELEMENTS)]

    def cost(processes: int, elements: int) -> list[float]:
        found = []
        for _ in range(processes):
            with resident(argv) as peer:
                found.append(float(peer.ask(f"{elements} {PAIRS}")) - 1)
        return found

    yield lambda n: cost(1, n), lambda n: cost(PROCESSES, n)


@contextlib.contextmanager
def _emulated(base: Bench, place: Path) -> Iterator[tuple[Cost, Cost]]:
    def bench(elements: int) -> Bench:
        path = slowed.write_slowed(devices.MODEL, place / f"work_{elements}.onnx", elements)
        return devices.ready(base.board, devices.resolve(path))

    none = bench(slowed.BASE_ELEMENTS)
    settings = replace(VIRTUAL, pairs=2)

    def cost(elements: int) -> list[float]:
        with contextlib.closing(fresh_duets(bench(elements), none, settings, elements)) as duets:
            counts = [arm.instructions for arm in next(duets).blocks.arms]
        if counts[0] is None or counts[1] is None:
            raise RuntimeError("the emulated board counts no instructions")
        return [float(np.median(counts[0]) / np.median(counts[1])) - 1]

    yield cost, cost
