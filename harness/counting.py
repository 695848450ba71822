"""What an emulated board counts of one inference, by QEMU's plugin: loaded with the machine, asked for after
latency was measured.

Outside its marks the plugin changes nothing that the guest's clock sees. Where it isn't there, or counting
fails, one factor of that clock serves and the reason is told: what was measured before stands.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import board as boards
from harness.errors import ConfigError, DataError, HarnessError, HostSetupError
from harness.measure.bench import Bench
from harness.model import Device
from harness.units import format_ns

if TYPE_CHECKING:
    from harness.estimate.calibration import Calibration
    from harness.estimate.features import Features

COUNTS = "counts"  # a type's `estimate`
FILE = "counts.txt"  # in the machine's folder
# The plugin counts whatever runs between its marks. In about one of ten counts a tick or more of the board's
# busy loop was among a model's, 4 million instructions each (measured before it stood still meanwhile:
# harness/agent/busyloop.py), and stored bytes out of proportion: 2% more instructions came with 9% more.
AGREE_RATIO = 0.02  # chosen: counts of one model on a quiet board differ by less than 0.5% (measured)
MOST_COUNTS = 8  # chosen
# Two counts that both hold another's instructions can agree: those of a model of 2.5 million came to an
# estimate of 5.7 instead of 1.6 ms. The clock goes a nanosecond an instruction, those of the kernel included:
# a call of the model alone has no more than its median took, but for spread and what the marks cost (both
# chosen; the counts of rpi4-ncnn's 32 networks are 0.98 to 1.02 of their medians).
EXCESS_RATIO = 0.05
EXCESS_INSTRUCTIONS = 50_000
# Four calls are made a count, two of them with the plugin at work, each 5 to 10 times as long as a plain one
# on the host's clock (measured); the rest is for a host that gets busy (chosen).
MAX_PLAIN_CALLS = 100


def plugin_for(device: Device, profile: str) -> tuple[list[str], str]:
    """Return QEMU's arguments that load the plugin for `device`, and why there are none where it was asked
    for."""
    if device.qemu is None or profile != boards.TIMING or device.type.estimate != COUNTS:
        return [], ""
    from pathlib import Path

    from harness.emulation.plugins import build_plugin, plugin_arguments
    from harness.estimate import cores

    try:
        core = cores.core_named(device.qemu.cpu)
        caches = [(level.size_bytes, level.ways) for level in core.caches]
        tlb = (core.tlb_entries, core.tlb_ways)
        return plugin_arguments(build_plugin(), Path(FILE), caches=caches, tlb=tlb), ""
    except (HostSetupError, ConfigError) as why:
        return [], str(why)


def count_features(
    bench: Bench, known: Sequence[Calibration], virtual_ns: float | None = None
) -> tuple[Features | None, str]:
    """Return the features of one inference, and "" or why there are none. `virtual_ns`: see `read_features`.

    It takes a fresh process of its own. A device whose type doesn't ask for counts has none, without a word.
    """
    device = bench.board.device
    if device.qemu is None or device.type.estimate != COUNTS:
        return None, ""
    core = device.qemu.cpu
    if not any(c.device_type == device.type.name and c.core == core for c in known):
        return None, f"nothing was counted: no calibration of {device.type.name} is for a {core}"
    return read_features(bench, virtual_ns)


def read_features(bench: Bench, virtual_ns: float | None = None) -> tuple[Features | None, str]:
    """Return the features of one inference on one thread, in a fresh process, or None and why.

    They serve any number of threads: what a board makes of several is in the coefficients of its fit.
    `virtual_ns` is the model's median on the board's clock: a count of more than that is not of it alone.
    """
    from harness.estimate.counts import parse_counts
    from harness.estimate.features import compute_features

    assert bench.board.device.qemu is not None
    path = bench.board.machine_file(FILE)
    if path is None:
        return None, "nothing was counted: the machine was started without the plugin"
    with open(path, encoding="ascii") as before:
        had = sum(line.startswith("W ") for line in before)
    bench.progress.say("counting a call")
    taken: list[Features] = []
    try:
        # one core is emulated: several threads would count how they wait for each other there
        with bench.child("counted", threads=1) as (child, _):
            started = time.monotonic()
            child.first()
            call_wall_s = time.monotonic() - started
            timeout_s = max(bench.board.device.timeout_s, MAX_PLAIN_CALLS * call_wall_s)
            while not is_sure(_alone(taken, virtual_ns)) and len(taken) < MOST_COUNTS:
                child.count_call(timeout_s=timeout_s)
                with open(path, encoding="ascii") as counts:
                    window = next(itertools.islice(parse_counts(counts), had + len(taken), None), None)
                if window is None:
                    why = "the plugin saw no marks; the board may have been restarted"
                    return None, f"nothing was counted: {why}"
                taken.append(compute_features(window, bench.board.device.qemu.cpu))
    except DataError as why:
        return None, f"what was counted can't be read: {why}"
    except HarnessError as why:  # also a board that went away: the next run opens it anew
        return None, f"nothing was counted: {why.what}"
    alone = _alone(taken, virtual_ns)
    if is_sure(alone):
        return min(alone, key=_instructions), ""
    told = ", ".join(f"{one.instructions / 1e6:.3g}" for one in taken)
    if len(alone) < len(taken) and virtual_ns is not None:
        most = f"a call of {format_ns(virtual_ns)} has at most {virtual_ns / 1e6:.3g}"
        return None, f"other programs' instructions were counted too: {told} million, and {most}"
    return None, f"what was counted differs from call to call: {told} million instructions"


def _alone(taken: Sequence[Features], virtual_ns: float | None) -> list[Features]:
    """Return the counts that can be of the model alone."""
    if virtual_ns is None:
        return list(taken)
    most = virtual_ns * (1 + EXCESS_RATIO) + EXCESS_INSTRUCTIONS
    return [one for one in taken if one.instructions <= most]


def is_sure(taken: Sequence[Features]) -> bool:
    """Return whether what was counted is of the model alone: another program can only have added to a count.

    So it is where the two smallest agree in instructions and in bytes stored.
    """
    least = sorted(taken, key=_instructions)[:2]
    if len(least) < 2:
        return False
    one, other = least
    return _agree(one.instructions, other.instructions) and _agree(one.stored_bytes, other.stored_bytes)


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= AGREE_RATIO * min(one, other)


def _instructions(features: Features) -> int:
    return features.instructions
