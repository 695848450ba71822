"""Counts and times of the same networks → calibrations, and what those are good for in words.

How a fit is made and judged is `estimate`'s to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness import units
from harness.errors import ConfigError
from harness.estimate.model import CONFIDENCE, ONE_FACTOR, WIDE_RATIO
from harness.estimating import calibration_name
from harness.fitting.choose import BETTER, Network, say_networks
from harness.fitting.take import Counted, Timed
from harness.model import Device

if TYPE_CHECKING:
    from harness.estimate.calibration import Calibration


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
        named = _names(these)
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
                    named[n.name],
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


def _names(networks: Sequence[Network]) -> dict[str, str]:
    """Return each network's name in a file of one runtime, by its own: letters, digits and `._-` alone."""
    found: dict[str, str] = {}
    for network in networks:
        of_all = network.name.replace(f"@{network.model.runtime}", "")
        name = plain = re.sub(r"[^A-Za-z0-9._-]", "_", of_all).lstrip("._-") or "network"
        number = 2
        while name in found.values():
            name, number = f"{plain}-{number}", number + 1
        found[network.name] = name
    return found


def describe(calibration: Calibration) -> list[str]:
    """Return what a calibration's fits are good for, a line each."""
    return [line for setting in calibration.settings() for line in _describe(calibration, *setting)]


def _describe(calibration: Calibration, precision: str, threads: int) -> list[str]:
    from harness.estimate.calibration import FEWEST_OF_TERMS

    fit = calibration.best_fit(precision, threads)
    residuals = dict(zip((n.name for n in calibration.networks), fit.residuals, strict=True))
    worst = max(residuals, key=lambda name: abs(residuals[name]))
    ratio = fit.band_ratio()
    on = units.counted(threads, "thread")
    lines = [
        f"{calibration.name}: {precision} on {on}: {say_networks(fit.n)}, off by {fit.mean_error_ratio:.1%} "
        f"on average, {fit.worst_error_ratio:.1%} at worst ({worst}), each left out",
        f"  {CONFIDENCE:.0%} band of an estimate: {_band(ratio)}, wider for a network unlike these",
    ]
    if ratio > WIDE_RATIO:
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


def is_too_wide(calibration: Calibration) -> bool:
    """Return whether a calibration's own networks alone have a band that is too wide to be of use."""
    return any(calibration.best_fit(*s).band_ratio() > WIDE_RATIO for s in calibration.settings())


def _band(ratio: float) -> str:
    if ratio > WIDE_RATIO:
        return f"× or ÷ {ratio:.2g}"
    return f"{1 / ratio - 1:+.0%} to {ratio - 1:+.0%}"
