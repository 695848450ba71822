"""Supervised machines: found by name from any process of this user, ended on request or by their lease."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from harness.emulation import keeper, runs
from harness.emulation.command import Profile
from harness.emulation.image import open_image
from harness.emulation.machine import END_TIMEOUT_S, Machine, read_info
from harness.errors import DataError, DeadlineExceeded, TransientError, UnknownDevice
from harness.model import QemuBoard


@dataclass(frozen=True)
class MachineInfo:
    """One supervised machine as a listing shows it. `state`: "starting", "running" or "off"."""

    name: str
    state: str
    profile: Profile | None
    ssh_port: int | None
    seconds_left: float  # of its lease


def _folders() -> list[Path]:
    root = runs.supervised_root()
    return sorted(f for f in root.iterdir() if runs.is_alive(f)) if root.is_dir() else []


def _describe(folder: Path) -> MachineInfo:
    left = keeper.lease_seconds_left(keeper.read_json(str(folder / "lease.json")), time.time())
    try:
        info = read_info(folder)
    except DataError:  # not ready yet
        return MachineInfo(folder.name, "starting", None, None, left)
    off = keeper.read_json(str(folder / "status.json")).get("exit_code") is not None
    return MachineInfo(
        folder.name, "off" if off else "running", Profile(info["profile"]), info["ssh_port"], left
    )


def list_machines() -> tuple[MachineInfo, ...]:
    """Return the supervised machines that are up, by name."""
    return tuple(_describe(folder) for folder in _folders())


def _folder(name: str) -> Path:
    runs.check_name(name)
    folder = runs.supervised_root() / name
    if not runs.is_alive(folder):
        names = ", ".join(f.name for f in _folders()) or "none"
        raise UnknownDevice(
            f"no supervised machine `{name}` is up; up: {names}.",
            where="emulated device",
            next_step=f"Start it with `harness devices up {name}`.",
        )
    return folder


def find_machine(name: str) -> Machine:
    """Return the supervised machine `name`. Raises UnknownDevice, with the names that are up."""
    folder = _folder(name)
    if not (folder / "info.json").exists():
        raise TransientError("is still starting.", where=name, next_step="Try again in some seconds.")
    info = read_info(folder)
    board = QemuBoard(**info["board"])
    return Machine(folder, open_image(info["image"], board), board, info)


def extend_lease(name: str, lifetime_s: float) -> None:
    """Let the supervised machine `name` live for `lifetime_s` from now."""
    folder = _folder(name)
    keeper.write_json(str(folder / "lease.json"), {"expires_at_s": time.time() + lifetime_s})
    _signal_keeper(folder, keeper.WAKE)


def _signal_keeper(folder: Path, number: signal.Signals) -> None:
    pid = keeper.read_json(str(folder / "status.json")).get("keeper_pid")
    if isinstance(pid, int):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def stop_machine(name: str) -> None:
    """End the supervised machine `name`; its disk goes with it. Raises UnknownDevice if it isn't up."""
    folder = _folder(name)
    _signal_keeper(folder, signal.SIGTERM)
    if not runs.wait_until(lambda: not folder.exists(), END_TIMEOUT_S):
        raise DeadlineExceeded(f"did not end within {END_TIMEOUT_S:g} s", where=name)
