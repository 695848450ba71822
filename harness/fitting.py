"""A set of networks on an emulated board and on a real one → calibrations of estimates.

The real board goes first: it is the quicker of the two, and what spoils a fit shows there. It is timed as the
latency suite times; one whose clock moved, that throttled or had other work gives nothing. The emulated one
counts. Each network is kept as a piece as soon as it is taken. What a fit is good for is `estimate`'s to say.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness import board as boards
from harness import counting, fit_identity, units
from harness.errors import ConfigError, HostSetupError, ModelRejected
from harness.estimating import NS_PER_MS, VIRTUAL_METRIC, calibration_name, precision_of
from harness.fit_pieces import EMULATED, REAL, Piece, Pieces, broken
from harness.measure.bench import Bench, Look, Observation
from harness.measure.single_stream import measure_single_stream
from harness.measure.surroundings import Surroundings
from harness.model import Condition, Device, PlanModel

if TYPE_CHECKING:
    from harness.estimate.calibration import Calibration
    from harness.estimate.features import Features
    from harness.workbench import Workbench

FEWEST = 3  # networks of one runtime and precision: fewer leave nothing to judge a fit by
WIDE_HALF = math.log(3)  # of a band, as a log: from a third to three times (chosen)
CLOCK_REMEDY = "Find what sets its CPUs' frequencies (cooling, supply, governor), then measure again."
BETTER = 9  # from here on estimates aren't marked (`estimate.model.FEW`)


@dataclass(frozen=True)
class Network:
    """A chosen network, and what one look into it on the real board told."""

    model: PlanModel
    runtime: str
    precision: str
    look: Look

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the first input's shape, an open size as 1; () for a model that makes its own."""
        inputs = self.look.signature.inputs
        return tuple(size or 1 for size in inputs[0].shape) if inputs else ()

    @property
    def group(self) -> tuple[str, str]:
        return self.runtime, self.precision


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


def with_counts(device: Device) -> Device:
    """Return the emulated device as one whose type asks for counts. Raises ConfigError for a real one."""
    if device.qemu is None:
        raise ConfigError(
            f"its kind is {device.kind}; a calibration sets an emulated board beside a real one.",
            where=device.name,
            next_step="Name an emulated device first, the real unit after --against.",
        )
    return replace(device, type=replace(device.type, estimate=counting.COUNTS))


def require_enough(models: Sequence[PlanModel]) -> None:
    """Raise ConfigError for fewer models than any fit needs."""
    if len(models) < FEWEST:
        raise ConfigError(
            f"{_networks(len(models))}, expected at least {FEWEST} of one runtime and precision, "
            f"better {BETTER}.",
            where="--model",
            next_step="Give more: --model FILE, once for each, or a plan that names them.",
        )


def require_distinct(workbench: Workbench, models: Sequence[PlanModel]) -> None:
    """Raise ConfigError for files of the same content: a network that is there twice is never left out."""
    seen: dict[tuple[str, str], str] = {}
    problems = []
    for model in models:
        case = workbench.case(model)
        key = (case.artifact.sha256, case.runtime.name)
        if key in seen:
            problems.append(f"{model.name} has the same content as {seen[key]}; a network counts once.")
        seen.setdefault(key, model.name)
    if problems:
        raise ConfigError(problems, where="--model", next_step="Leave one of them out.")


def require_plugin(device: Device) -> None:
    """Raise HostSetupError where nothing could count on the emulated device, before anything is measured."""
    _, why_not = counting.plugin_for(device, boards.TIMING)
    if why_not:
        raise HostSetupError(f"nothing can count there: {why_not}", where=device.name)


def look_into(workbench: Workbench, device: Device, model: PlanModel) -> Network:
    """Return a network made ready on the real board. Raises ModelRejected where it won't load."""
    try:
        bench = workbench.bench(device, model, boards.TIMING)
    except ModelRejected as why:
        next_step = "Leave it out, or export it for this runtime."
        raise ModelRejected(why.what, where=f"{device.name}: {model.name}", next_step=next_step) from why
    return Network(model, bench.runtime.name, precision_of(bench), bench.look)


def enough_of(networks: Sequence[Network]) -> tuple[list[Network], list[str]]:
    """Return the networks whose runtime and precision has FEWEST, and a line for each that hasn't.

    Raises ConfigError where none has.
    """
    groups: dict[tuple[str, str], list[Network]] = {}
    for network in networks:
        groups.setdefault(network.group, []).append(network)
    small = {key: found for key, found in groups.items() if len(found) < FEWEST}
    lines = [
        f"{runtime}, {precision}: {_networks(len(found))} ({', '.join(n.name for n in found)}), "
        f"expected at least {FEWEST}"
        for (runtime, precision), found in sorted(small.items())
    ]
    if len(small) == len(groups):
        raise ConfigError(
            lines,
            where="--model",
            next_step="Give more networks of one runtime and precision: --model FILE, once for each.",
        )
    return [n for n in networks if n.group not in small], [f"{line}: left out" for line in lines]


# -- the real board


def take_real(workbench: Workbench, device: Device, network: Network, pieces: Pieces) -> Timed:
    """Return one network's time on the real board, kept or taken now. One with problems isn't kept."""
    bench = workbench.bench(device, network.model, boards.TIMING)
    of = fit_identity.of_real(bench)
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
    after = fit_identity.clock_of(bench.board.conditions())
    return Condition(
        "clock",
        f"{fit_identity.say_clock(before)} before, {fit_identity.say_clock(after)} after",
        "the same range and governor throughout",
        after == before,
        CLOCK_REMEDY,
    )


def moved_between(timed: Mapping[str, Timed]) -> list[str]:
    """Return a line for each network whose CPUs were held to other frequencies than the last one's."""
    last = list(timed)[-1]
    expected = f"{fit_identity.say_clock(timed[last].clock)} as for {last}"
    return [
        f"{name}: clock: {fit_identity.say_clock(one.clock)}, expected {expected}"
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
    of = fit_identity.of_emulated(device, workbench.descriptor(case), case, network.look)
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
    features, why = counting.read_features(bench)
    if features is None:
        raise HostSetupError(workbench.why_no_counts(device) or why, where=f"{device.name}: {model.name}")
    return Counted(features, _p50_ms(seen, bench))


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


# -- both


def make_calibrations(
    networks: Sequence[Network],
    counted: Mapping[str, Counted],
    timed: Mapping[str, Timed],
    *,
    device: Device,
    board: Device,
    described: str,
    threads: int,
) -> list[Calibration]:
    """Return a calibration of each runtime and precision; `counted` and `timed` are by network's name.

    Each is as old as the oldest of its times. Raises DataError for times that can't be fitted.
    """
    from harness.estimate import calibration, cores

    if device.qemu is None:
        raise ConfigError("it isn't emulated, so that nothing was counted.", where=device.name)
    found = []
    for runtime, precision in sorted({n.group for n in networks}):
        these = [n for n in networks if n.group == (runtime, precision)]
        made = calibration.Calibration(
            name=calibration_name(board.name, runtime, precision, threads),
            device_type=device.type.name,
            runtime=runtime,
            runtime_version=these[0].look.runtime_version,
            core=device.qemu.cpu,
            schedule_format=cores.FORMAT,
            taken_on=min(timed[n.name].taken_on for n in these).isoformat(),
            board=described,
            source=f"measured on {board.name} (harness devices fit)",
            statistic="p50",
            networks=tuple(
                calibration.Network(
                    n.name,
                    precision,
                    n.input_shape,
                    counted[n.name].features,
                    counted[n.name].virtual_ms,
                    {threads: timed[n.name].board_ms},
                )
                for n in these
            ),
        )
        made.best_fit(precision, threads)  # all of them can be fitted, or none is kept
        found.append(made)
    return found


def describe(calibration: Calibration) -> list[str]:
    """Return what a calibration's fits are good for, a line each."""
    return [line for setting in calibration.settings() for line in _describe(calibration, *setting)]


def _describe(calibration: Calibration, precision: str, threads: int) -> list[str]:
    from harness.estimate.calibration import FEWEST_OF_TERMS
    from harness.estimate.model import CONFIDENCE, ONE_FACTOR
    from harness.stats.nonnegative import log_half_width

    fit = calibration.best_fit(precision, threads)
    residuals = dict(zip((n.name for n in calibration.networks), fit.residuals, strict=True))
    worst = max(residuals, key=lambda name: abs(residuals[name]))
    half = log_half_width(fit.residuals, len(fit.terms), CONFIDENCE)
    on = units.counted(threads, "thread")
    lines = [
        f"{calibration.name}: {precision} on {on}: {_networks(fit.n)}, off by {fit.mean_error_ratio:.1%} "
        f"on average, {fit.worst_error_ratio:.1%} at worst ({worst}), each left out",
        f"  {CONFIDENCE:.0%} band of an estimate: {_band(half)}, wider for a network unlike these",
    ]
    if half > WIDE_HALF:
        lines.append(
            f"  too wide to be of use: more networks, or leave out what is unlike the others ({worst}?)"
        )
    if fit.terms == ONE_FACTOR:
        lines.append(
            f"  by one factor of the instructions: from {FEWEST_OF_TERMS} networks on, memory counts too"
        )
    if fit.few:
        lines.append(f"  few networks: estimates are marked; {BETTER} or more aren't")
    return lines


def _band(half: float) -> str:
    if half > WIDE_HALF:
        return f"× or ÷ {math.exp(half):.2g}"
    return f"{math.expm1(-half):+.0%} to {math.expm1(half):+.0%}"


def _networks(count: int) -> str:
    return units.counted(count, "network")


def say(problem: Condition) -> str:
    """Return a problem as what was seen against what was expected."""
    return f"{problem.name}: {problem.observed}, expected {problem.expected}"
