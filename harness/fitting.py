"""A set of networks on an emulated board and on a real one → a calibration of estimates.

The emulated board counts, the real one is timed as the latency suite times; what the fit is good for is
`estimate`'s to say. A real board whose clock moved, that throttled or that had other work gives nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness import board as boards
from harness import counting
from harness.errors import ConfigError, HostSetupError
from harness.estimating import NS_PER_MS, VIRTUAL_METRIC, precision_of
from harness.measure.bench import Bench, Observation
from harness.measure.single_stream import measure_single_stream
from harness.measure.surroundings import Surroundings
from harness.model import Device, PlanModel

if TYPE_CHECKING:
    from harness.estimate.calibration import Calibration
    from harness.estimate.features import Features
    from harness.workbench import Workbench

FEWEST = 3  # networks of one runtime and precision: fewer leave nothing to judge a fit by


@dataclass(frozen=True)
class Emulated:
    """One network on the emulated board."""

    runtime: str
    runtime_version: str
    precision: str
    input_shape: tuple[int, ...]
    features: Features
    virtual_ms: float


@dataclass(frozen=True)
class Real:
    """One network on the real board; `problems` say why its time doesn't count."""

    board_ms: float
    problems: tuple[str, ...]


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
            f"{len(models)} networks, expected at least {FEWEST} of one runtime and precision, better 9.",
            where="--model",
            next_step="Give more: --model FILE, once for each, or a plan that names them.",
        )


def take_emulated(workbench: Workbench, device: Device, model: PlanModel) -> Emulated:
    """Time and count one network on the emulated board. Raises HostSetupError where nothing can count."""
    bench = workbench.bench(device, model, boards.TIMING)
    seen = measure_single_stream(bench)
    features, why = counting.read_features(bench)
    if features is None:
        raise HostSetupError(workbench.why_no_counts(device) or why, where=device.name)
    shape = bench.signature.inputs[0].shape if bench.signature.inputs else ()
    return Emulated(
        bench.runtime.name,
        bench.look.runtime_version,
        precision_of(bench),
        tuple(size or 1 for size in shape),
        features,
        _p50_ms(seen, bench),
    )


def take_real(workbench: Workbench, device: Device, model: PlanModel) -> Real:
    """Time one network on the real board, with what its surroundings did meanwhile."""
    bench = workbench.bench(device, model, boards.TIMING)
    around = Surroundings(bench, device)
    around.wait_until_quiet()
    seen = measure_single_stream(bench)
    conditions = (*around.conditions(), *seen.conditions)
    return Real(
        _p50_ms(seen, bench),
        tuple(
            f"{model.name}: {c.name}: {c.observed}, expected {c.expected}"
            for c in conditions
            if c.ok is False
        ),
    )


def _p50_ms(seen: Observation, bench: Bench) -> float:
    value = next((m.value for m in seen.measurements if m.metric == VIRTUAL_METRIC), None)
    if value is None:
        raise ConfigError(f"{bench.case.name} has no median latency.", where=bench.board.device.name)
    return value / NS_PER_MS


def make_calibrations(
    emulated: Mapping[str, Emulated],
    real: Mapping[str, Real],
    *,
    device: Device,
    board: Device,
    described: str,
    threads: int,
    today: datetime.date,
) -> tuple[list[Calibration], list[str]]:
    """Return a calibration of each runtime, and a line for each group of networks that is too small.

    `emulated` and `real` have the same networks. A group is those of one runtime and precision. Raises
    ConfigError where none has FEWEST.
    """
    from harness.estimate import cores
    from harness.estimate.calibration import Calibration, Network

    assert device.qemu is not None
    groups: dict[tuple[str, str], list[str]] = {}
    for name, one in emulated.items():
        groups.setdefault((one.runtime, one.precision), []).append(name)
    small = {key: names for key, names in groups.items() if len(names) < FEWEST}
    lines = [
        f"{runtime}, {precision}: {len(names)} networks, expected at least {FEWEST}: left out"
        for (runtime, precision), names in sorted(small.items())
    ]
    if len(small) == len(groups):
        raise ConfigError(lines, next_step="Give more networks of one runtime and precision: --model FILE.")
    found = []
    for runtime in sorted({key[0] for key in groups if key not in small}):
        names = [n for (r, p), ns in groups.items() if r == runtime and (r, p) not in small for n in ns]
        networks = tuple(
            Network(
                n,
                emulated[n].precision,
                emulated[n].input_shape,
                emulated[n].features,
                emulated[n].virtual_ms,
                {threads: real[n].board_ms},
            )
            for n in names
        )
        found.append(
            Calibration(
                name=f"{board.name}-{runtime}",
                device_type=device.type.name,
                runtime=runtime,
                runtime_version=emulated[names[0]].runtime_version,
                core=device.qemu.cpu,
                schedule_format=cores.FORMAT,
                taken_on=today.isoformat(),
                board=described,
                source=f"measured on {board.name} (harness devices fit)",
                statistic="p50",
                networks=networks,
            )
        )
    return found, lines


def describe(calibration: Calibration) -> list[str]:
    """Return what a calibration's fits are good for, a line each."""
    lines = []
    for precision, threads in calibration.settings():
        fit = calibration.best_fit(precision, threads)
        on = f"{threads} thread{'s' if threads > 1 else ''}"
        line = (
            f"{calibration.name}: {precision} on {on}: {fit.n} networks, off by {fit.mean_error_ratio:.1%} "
            f"on average, {fit.worst_error_ratio:.1%} at worst, each left out"
        )
        few = f"; few networks: estimates are marked, no band is narrower than {fit.worst_error_ratio:.1%}"
        lines.append(line + few if fit.few else line)
    return lines
