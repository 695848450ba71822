"""Cold build, cold boot and restore of the emulated Pi.

The build starts from an empty cache of its own, package lists and downloads included; its limit is what
anyone who unpacks the same packages has to pay: `dpkg-deb --extract` of each, one after the other. Boots
and restores take turns; each ends when a command has run over SSH.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import devices
from benchmarks.table import Goal, Row, compute_paired_ratio
from harness import cache
from harness.connect.qemu import QemuConnection
from harness.emulation import Profile, boot, build_image, start
from harness.errors import ConfigError
from harness.model import QemuBoard

RESTORE_GOAL = 0.75  # of a cold boot: chosen, below it a snapshot is worth its disk space
BUILD_GOAL_S = 120.0  # chosen: a quarter of the eight minutes that `make demo` may take at first


def run(quick: bool) -> list[Row]:
    """Return three rows: build, boot, restore."""
    device = devices.emulated_device()
    if device.qemu is None:
        raise ConfigError("it is not emulated", where=device.name)
    return [_build(device.qemu), *_boots(2 if quick else 7)]


def _build(board: QemuBoard) -> Row:
    before = os.environ.get(cache.ENV_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as folder:
        os.environ[cache.ENV_VARIABLE] = folder
        try:
            begin = time.monotonic()
            build_image(board)
            build_s = time.monotonic() - begin
        finally:
            if before is None:
                del os.environ[cache.ENV_VARIABLE]
            else:
                os.environ[cache.ENV_VARIABLE] = before
        debs = sorted(Path(folder).rglob("*.deb"))
        unpack_s = _unpack_s(debs)
    what = f"cold build of the emulated Pi, {len(debs)} packages downloaded"
    return Row(what, "s", build_s, unpack_s, "dpkg-deb --extract of them", Goal("ours", high=BUILD_GOAL_S), 1)


def _unpack_s(debs: list[Path]) -> float:
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as target:
        begin = time.monotonic()
        for deb in debs:
            subprocess.run(["dpkg-deb", "--extract", str(deb), target], check=True, timeout=120)
        return time.monotonic() - begin


def _boots(count: int) -> list[Row]:
    until_command_s(Profile.FUNCTIONAL)  # makes the state that is restored
    cold_s: list[float] = []
    restored_s: list[float] = []
    for _ in range(count):
        cold_s.append(until_command_s(Profile.FUNCTIONAL, cold=True))
        restored_s.append(until_command_s(Profile.FUNCTIONAL))
    boot_s, restore_s = statistics.median(cold_s), statistics.median(restored_s)
    ratio = compute_paired_ratio(restored_s, cold_s)
    return [
        Row("cold boot, to a command over SSH", "s", boot_s, n=count),
        Row(
            "restore, to a command over SSH", "s", restore_s, boot_s, "cold boot",
            Goal("ratio", high=RESTORE_GOAL), count, ratio,
        ),
    ]  # fmt: skip


def until_command_s(profile: Profile, *, cold: bool = False) -> float:
    """Return how long the emulated Pi takes, booted cold or restored, until it has run a command over SSH."""
    device = devices.emulated_device()
    if device.qemu is None:
        raise ConfigError("it is not emulated", where=device.name)
    image = build_image(device.qemu)
    launch = boot if cold else start
    begin = time.monotonic()
    with launch(image, device.qemu, name="bench", profile=profile) as machine:
        connection = QemuConnection(device, machine, owns_machine=False)
        try:
            connection.run(["true"], timeout_s=60)
            return time.monotonic() - begin
        finally:
            connection.close()
