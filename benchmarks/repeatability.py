"""Repeatability of virtual latency over boots of the timing profile, with the host kept busy.

Cold boots and restores, each measured as the latency suite does it (fresh processes, their pooled median),
while two processes compute. A cold boot gets the runtime pushed anew, so nothing is shared between boots
but the image.
"""

from __future__ import annotations

import contextlib
import statistics

from benchmarks import devices
from benchmarks.processes import busy_neighbours
from benchmarks.table import Goal, Row, compute_spread
from harness import board as boards
from harness.board import Board
from harness.connect.qemu import QemuConnection
from harness.emulation import Profile, boot, build_image
from harness.errors import ConfigError
from harness.measure.single_stream import measure_single_stream
from harness.model import Device, ModelCase
from harness.remote import AgentClient

NEIGHBOURS = 2
GOAL_SPREAD = 0.001


def run(quick: bool) -> list[Row]:
    """Return one row: spread of the medians over all boots."""
    cold, restored = (1, 1) if quick else (2, 3)
    case = devices.resolve(devices.MODEL)
    device = devices.emulated_device()
    with devices.closing(_restore(device, case)):
        pass  # the image and its snapshot are made before the host gets busy
    with busy_neighbours(NEIGHBOURS):
        medians_ns = [_median_ns(boot_cold(device), case) for _ in range(cold)]
        medians_ns += [_median_ns(_restore(device, case), case) for _ in range(restored)]
    spread = compute_spread(medians_ns)
    virtual = statistics.median(medians_ns) / 1e6
    what = f"spread of virtual p50 ({virtual:.3f} ms), {cold} cold boots and {restored} restores, host busy"
    return [Row(what, "share", spread, GOAL_SPREAD, "limit", Goal("ours", high=GOAL_SPREAD), len(medians_ns))]


def _restore(device: Device, case: ModelCase) -> Board:
    return boards.open_board(device, boards.TIMING, [devices.request_of(case)], devices.quiet())


def boot_cold(device: Device) -> Board:
    """Return a board booted without any saved state, in the timing profile."""
    if device.qemu is None:
        raise ConfigError("it is not emulated", where=device.name)
    machine = boot(build_image(device.qemu), device.qemu, name=device.name, profile=Profile.TIMING)
    with contextlib.ExitStack() as undo:
        undo.callback(machine.close)
        connection = QemuConnection(device, machine)
        client = AgentClient.start(connection, python=device.type.python, timeout_s=device.timeout_s)
        undo.pop_all()
    facts = boards.device_facts(device, boards.TIMING, client.hello, dict(client.hello["facts"]))
    return Board(device, boards.TIMING, connection, client, facts, boards.EMULATED_PLATFORM)


def _median_ns(board: Board, case: ModelCase) -> float:
    with devices.closing(board):
        seen = measure_single_stream(devices.ready(board, case))
    value = next(m.value for m in seen.measurements if m.metric == "latency_p50_ns")
    if value is None:
        raise RuntimeError("the latency suite gave no median")
    return value
