"""Networks on the real board, where they are timed, and on the emulated one, where they are counted.

The real board goes first: it is the quicker of the two, and what spoils a fit shows there. It is timed as the
latency suite times; one whose clock moved, that throttled or had other work gives nothing. Each network is
kept as a piece as soon as it is taken.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness import board as boards
from harness import counting
from harness.errors import ConfigError, HostSetupError
from harness.estimating import NS_PER_MS, VIRTUAL_METRIC
from harness.fitting import identity
from harness.fitting.choose import Network
from harness.fitting.pieces import EMULATED, REAL, Piece, Pieces, broken
from harness.measure.bench import Bench, Observation
from harness.measure.single_stream import measure_single_stream
from harness.measure.surroundings import Surroundings
from harness.model import Condition, Device, PlanModel
from harness.workbench import Workbench

if TYPE_CHECKING:
    from harness.estimate.features import Features

CLOCK_REMEDY = "Find what sets its CPUs' frequencies (cooling, supply, governor), then measure again."


@dataclass(frozen=True)
class Counted:
    """One network on the emulated board."""

    features: Features
    virtual_ms: float
    note: str = ""  # that it was kept from an earlier call, or why what was kept no longer holds


@dataclass(frozen=True)
class Timed:
    """One network on the real board. `problems` say why its time doesn't count, `clock` is what its CPUs were
    held to meanwhile."""

    board_ms: float
    clock: Mapping[str, Any]
    taken_on: datetime.date
    problems: tuple[Condition, ...] = ()
    note: str = ""


def say(problem: Condition) -> str:
    """Return a problem as what was seen against what was expected."""
    return f"{problem.name}: {problem.observed}, expected {problem.expected}"


# -- the real board


def take_real(workbench: Workbench, device: Device, network: Network, pieces: Pieces) -> Timed:
    """Return one network's time on the real board, kept or taken now. One with problems isn't kept."""
    bench = workbench.bench(device, network.model, boards.TIMING)
    of = identity.of_real(bench)
    kept, note = pieces.find(REAL, network.name, of)
    if kept is not None:
        return replace(_timed(kept, pieces), note=f"kept from {kept.taken_at}")
    around = Surroundings(bench, device)
    around.wait_until_quiet()
    seen = measure_single_stream(bench)
    conditions = (*around.conditions(), *seen.conditions, _held(of["clock"], bench))
    problems = tuple(c for c in conditions if c.ok is False)
    values = {"board_ms": _p50_ms(seen, bench)}
    piece = pieces.make(REAL, network.name, of, values)
    if not problems:
        pieces.add(piece)
    return replace(_timed(piece, pieces), problems=problems, note=note)


def _held(before: Mapping[str, Any], bench: Bench) -> Condition:
    """Return whether the CPUs were held to the same frequencies after a run as before it."""
    after = identity.clock_of(bench.board.conditions())
    return Condition(
        "clock",
        f"{identity.say_clock(before)} before, {identity.say_clock(after)} after",
        "the same range and governor throughout",
        after == before,
        CLOCK_REMEDY,
    )


def moved_between(timed: Mapping[str, Timed]) -> list[str]:
    """Return a line for each network whose CPUs were held to other frequencies than the last one's."""
    last = list(timed)[-1]
    expected = f"{identity.say_clock(timed[last].clock)} as for {last}"
    return [
        f"{name}: clock: {identity.say_clock(one.clock)}, expected {expected}"
        for name, one in timed.items()
        if one.clock != timed[last].clock
    ]


def _timed(piece: Piece, pieces: Pieces) -> Timed:
    try:
        return Timed(float(piece.values["board_ms"]), piece.of["clock"], piece.taken_on)
    except (KeyError, TypeError, ValueError) as error:
        raise broken(pieces.path, f"{piece.network}: {error!r}") from error


# -- the emulated board


def take_emulated(workbench: Workbench, device: Device, network: Network, pieces: Pieces) -> Counted:
    """Return what was counted of one network, kept or counted now. Raises as `count` does."""
    case = workbench.case(network.model)
    of = identity.of_emulated(device, workbench.descriptor(case), case, network.look)
    kept, note = pieces.find(EMULATED, network.name, of)
    if kept is not None:
        return replace(_counted(kept, pieces), note=f"kept from {kept.taken_at}")
    counted = count(workbench, device, network.model)
    values = {"virtual_ms": counted.virtual_ms, "features": asdict(counted.features)}
    pieces.add(pieces.make(EMULATED, network.name, of, values))
    return replace(counted, note=note)


def count(workbench: Workbench, device: Device, model: PlanModel) -> Counted:
    """Time and count one network on the emulated board, on one thread.

    Raises HostSetupError where nothing can count.
    """
    bench = replace(workbench.bench(device, model, boards.TIMING), threads=1)
    seen = measure_single_stream(bench)
    wrong = [f"{c.name}: {c.observed}, expected {c.expected}" for c in seen.conditions if c.ok is False]
    if wrong:
        raise HostSetupError("; ".join(wrong), where=f"{device.name}: {model.name}")
    p50_ms = _p50_ms(seen, bench)
    features, why = counting.read_features(bench, p50_ms * NS_PER_MS)
    if features is None:
        raise HostSetupError(workbench.why_no_counts(device) or why, where=f"{device.name}: {model.name}")
    return Counted(features, p50_ms)


def _counted(piece: Piece, pieces: Pieces) -> Counted:
    from harness.estimate.features import FIELDS, LISTS, Features

    try:
        had = piece.values["features"]
        fields = {key: tuple(int(n) for n in had[key]) if key in LISTS else int(had[key]) for key in FIELDS}
        return Counted(Features(**fields), float(piece.values["virtual_ms"]))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise broken(pieces.path, f"{piece.network}: {error!r}") from error


def _p50_ms(seen: Observation, bench: Bench) -> float:
    value = next((m.value for m in seen.measurements if m.metric == VIRTUAL_METRIC), None)
    if value is None:
        raise ConfigError(f"{bench.case.name} has no median latency.", where=bench.board.device.name)
    return value / NS_PER_MS
