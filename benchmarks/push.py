"""Push of 50 MB against scp, and the second push of the same, over a real sshd and into the emulated Pi.

Ours: open a connection, push, close. Theirs: `scp` with the same key to the same server. Then what a
deployment does with it: into the device's content-addressed store (checked against its SHA-256 there),
twice.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import devices
from benchmarks.processes import ROOT
from benchmarks.table import Goal, Row, compute_paired_ratio, failed
from harness import board as boards
from harness import deploy
from harness.board import Board
from harness.connect.base import Connection
from harness.connect.qemu import QemuConnection, compute_address
from harness.connect.ssh import SshConnection
from harness.model import Device, DeviceType, SshAddress

SIZE_BYTES = 50_000_000
PUSH_GOAL = 1.5  # of scp's time: chosen
AGAIN_GOAL = 0.25  # of the first push: chosen; the device hashes what it holds, nothing is sent
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Route:
    """A server, and the folder there that files go to."""

    label: str
    address: SshAddress
    folder: str


def run(quick: bool) -> list[Row]:
    """Return two rows for each of the two servers."""
    return [*_over_loopback(2 if quick else 5), *_into_the_guest(1 if quick else 3)]


def _over_loopback(count: int) -> list[Row]:
    sys.path.append(str(ROOT / "tests"))
    from support.sshd import find_sshd, running_sshd  # type: ignore[import-not-found]  # tests/ is no package

    try:
        find_sshd()
    except FileNotFoundError as error:
        return [failed("push of 50 MB, sshd on loopback", str(error))]
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as name:
        folder = Path(name)
        with running_sshd(folder) as server:
            home = folder / "home"
            route = Route("sshd on loopback", server.address(), str(folder))
            device = Device("loopback", DeviceType("local"), "ssh", ssh=route.address, home=str(home))
            with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
                return _compare(route, board, count)


def _into_the_guest(count: int) -> list[Row]:
    device = devices.emulated_device()
    with devices.closing(boards.open_board(device, boards.FUNCTIONAL, [], devices.quiet())) as board:
        if not isinstance(board.connection, QemuConnection):
            raise TypeError(f"{type(board.connection).__name__} leads to no emulated device")
        address = compute_address(board.connection.machine)
        return _compare(Route("emulated Pi", address, board.connection.home()), board, count)


def _compare(route: Route, board: Board, count: int) -> list[Row]:
    kept: dict[str, list[float]] = {"ours": [], "scp": [], "first": [], "again": []}
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as folder:
        source = Path(folder) / "object"
        for index in range(count + 1):
            source.write_bytes(os.urandom(SIZE_BYTES))  # nothing to compress, never the same twice
            sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
            times = (
                _push_s(route, source),
                _scp_s(route, source),
                _store_s(board, source, sha256),
                _store_s(board, source, sha256),
            )
            deploy.collect_garbage(board.client, keep_versions=1)
            if index:  # the first round warms both servers
                for series, value in zip(kept.values(), times, strict=True):
                    series.append(value)
    ours, scp, first, again = kept.values()
    return [
        Row(
            f"push of 50 MB, {route.label}", "s", statistics.median(ours), statistics.median(scp), "scp",
            Goal("ratio", high=PUSH_GOAL), count, compute_paired_ratio(ours, scp),
        ),
        Row(
            f"second push into its store, {route.label}", "s", statistics.median(again),
            statistics.median(first), "the first", Goal("ratio", high=AGAIN_GOAL), count,
            compute_paired_ratio(again, first),
        ),
    ]  # fmt: skip


def _push_s(route: Route, source: Path) -> float:
    target = f"{route.folder}/pushed"
    begin = time.monotonic()
    connection: Connection = SshConnection(route.label, route.address, hermetic=True)
    try:
        connection.push(source, target, timeout_s=TIMEOUT_S)
    finally:
        connection.close()
    return time.monotonic() - begin


def _scp_s(route: Route, source: Path) -> float:
    at = route.address
    argv = ["scp", "-q", "-B", "-F", "none", "-P", str(at.port), "-i", str(at.identity_path)]
    argv += ["-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]
    argv += ["-o", "UserKnownHostsFile=/dev/null"]
    begin = time.monotonic()
    subprocess.run(
        [*argv, str(source), f"{at.user}@{at.host}:{route.folder}/copied"],
        check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT_S,
    )  # fmt: skip
    return time.monotonic() - begin


def _store_s(board: Board, source: Path, sha256: str) -> float:
    begin = time.monotonic()
    deploy.push_object(board.connection, board.client, source, sha256, SIZE_BYTES)
    return time.monotonic() - begin
