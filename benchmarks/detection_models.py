"""The slowed models of the detection table: how much work makes how many percent on the platform at hand.

What an element of work costs, as a share of a whole inference, is the slope of a line through several
amounts. On `local` they are switched within one process (slowed_cost.py), because two processes differ by
more than what is looked for; on the emulated board instructions in user space are counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import devices, slowed
from benchmarks.processes import resident
from harness.measure.bench import Bench
from harness.measure.duet import VIRTUAL, fresh_duets
from harness.model import Fidelity
from harness.remote.duet import DuetArm
from harness.stats import t_half_width_ratio
from harness.store.atomic import write_text

STEPS = (0.0, 0.002, 0.005, 0.01, 0.03, 0.05, 0.1)
PROCESSES = 12  # of the host
PAIRS = 20  # of blocks for each amount, in each process
AMOUNTS = tuple(range(1060, 2048, 76))  # on the host; slowed.BASE_ELEMENTS says why these
EMULATED_AMOUNTS = (1530, 4030)
_PLAN = "models.json"


@dataclass(frozen=True)
class Slowed:
    """One model of the table; `true` is its slowdown by its work, `half_width` that of the 90% interval."""

    step: float
    elements: int
    true: float
    half_width: float
    path: Path


def make_models(folder: Path, base: Bench) -> list[Slowed]:
    """Return the slowed models for `base`'s model on its board, made where they aren't yet."""
    host = base.time_fidelity is Fidelity.MEASURED
    place = place_of(folder, virtual=not host)
    place.mkdir(parents=True, exist_ok=True)
    if not (place / _PLAN).is_file():
        slopes = _host_slopes(base, place) if host else [_emulated_slope(base, place)]
        made = [_make(step, place, slopes) for step in STEPS]
        rows = [{**asdict(m), "path": m.path.name} for m in made]
        write_text(place / _PLAN, json.dumps(rows, indent=1))
    return load_models(place)


def place_of(folder: Path, *, virtual: bool) -> Path:
    """Return the folder of one platform's models, and of all that is measured with them."""
    return folder / f"{'emulated' if virtual else 'local'}-{slowed.compute_key(devices.MODEL)}"


def load_models(place: Path) -> list[Slowed]:
    """Return the models that `make_models` left in `place`, in the order of STEPS."""
    rows = json.loads((place / _PLAN).read_text())
    return [Slowed(**{**row, "path": place / row["path"]}) for row in rows]


def _make(step: float, place: Path, slopes: Sequence[float]) -> Slowed:
    slope = statistics.mean(slopes)
    more = round(step / slope)
    path = place / f"slowed_{100 * step:g}.onnx"
    slowed.write_slowed(devices.MODEL, path, slowed.BASE_ELEMENTS + more)
    half = (t_half_width_ratio(slopes) - 1) * slope * more if len(slopes) > 1 else 0.0
    return Slowed(step, slowed.BASE_ELEMENTS + more, slope * more, half, path)


def compute_slope(amounts: Sequence[int], ratios: Sequence[float]) -> float:
    """Return what an element costs as a share of the inference with slowed.BASE_ELEMENTS, by least squares.

    The line needn't pass through 1 at that amount: where buffers lie moves single amounts by some 0.3%.
    """
    slope, intercept = np.polyfit(np.asarray(amounts) - slowed.BASE_ELEMENTS, ratios, 1)
    return float(slope / intercept)


def _host_slopes(base: Bench, place: Path) -> list[float]:
    model = slowed.write_slowed(devices.MODEL, place / "open.onnx", None)
    argv = [sys.executable, str(Path(__file__).with_name("slowed_cost.py")), devices.site_of(base)]
    argv += [str(model), str(devices.INPUTS), str(max(os.sched_getaffinity(0))), str(slowed.BASE_ELEMENTS)]
    slopes = []
    for _ in range(PROCESSES):
        with resident(argv) as peer:
            ratios = [float(peer.ask(f"{amount} {PAIRS}")) for amount in AMOUNTS]
        slopes.append(compute_slope(AMOUNTS, ratios))
    return slopes


def _emulated_slope(base: Bench, place: Path) -> float:
    def bench(elements: int) -> Bench:
        path = slowed.write_slowed(devices.MODEL, place / f"work_{elements}.onnx", elements)
        return devices.ready(base.board, devices.resolve(path))

    none, ratios = bench(slowed.BASE_ELEMENTS), []
    for amount in EMULATED_AMOUNTS:
        with contextlib.closing(fresh_duets(bench(amount), none, replace(VIRTUAL, pairs=2), 1)) as duets:
            ratios.append(count_ratio(next(duets).blocks.arms))
    return compute_slope(EMULATED_AMOUNTS, ratios)


def count_ratio(arms: Sequence[DuetArm]) -> float:
    """Return candidate ÷ baseline of instructions per call. Raises RuntimeError where none were counted."""
    per_call = []
    for arm in arms:
        if arm.instructions is None:
            raise RuntimeError(f"no instructions were counted: {arm.not_counted}")
        per_call.append(float(np.median(arm.instructions)) / arm.calls)
    return per_call[0] / per_call[1]
