"""Which networks a fit is made of, and all that is refused before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness import board as boards
from harness import counting, units
from harness.errors import ConfigError, HostSetupError, ModelRejected
from harness.estimating import precision_of
from harness.measure.bench import Look
from harness.model import Device, PlanModel
from harness.workbench import Workbench

FEWEST = 3  # networks of one runtime and precision: fewer leave nothing to judge a fit by
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
            f"{say_networks(len(models))}, expected at least {FEWEST} of one runtime and precision, "
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
        key = (case.artifact.sha256, case.runtime.name)  # whatever its build: a calibration is of one
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


def require_one_build(networks: Sequence[Network]) -> None:
    """Raise ConfigError for two builds of one runtime and precision, whose calibration is of one."""
    builds: dict[tuple[str, str], dict[str, str]] = {}
    for network in networks:
        builds.setdefault(network.group, {}).setdefault(network.look.runtime_version or "", network.name)
    problems = [
        f"{runtime}, {precision}: builds "
        + " and ".join(f"{version} ({name})" for version, name in sorted(found.items()))
        + ", expected one: a calibration is of one build."
        for (runtime, precision), found in sorted(builds.items())
        if len(found) > 1
    ]
    if problems:
        raise ConfigError(problems, where="--runtime", next_step="Name one: --runtime NAME==VERSION.")


def enough_of(networks: Sequence[Network]) -> tuple[list[Network], list[str]]:
    """Return the networks whose runtime and precision has FEWEST, and a line for each that hasn't.

    Raises ConfigError where none has.
    """
    groups: dict[tuple[str, str], list[Network]] = {}
    for network in networks:
        groups.setdefault(network.group, []).append(network)
    small = {key: found for key, found in groups.items() if len(found) < FEWEST}
    lines = [
        f"{runtime}, {precision}: {say_networks(len(found))} ({', '.join(n.name for n in found)}), "
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


def say_networks(count: int) -> str:
    """Return a number of networks in words, such as "1 network"."""
    return units.counted(count, "network")
