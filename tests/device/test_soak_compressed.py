"""Compressed soaks on an emulated board: hours in seconds, whole whatever ends, resets or cuts what."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bench import eventually
from support.device import emulated_device
from support.soaking import command_spec

from harness.connect.qemu import QemuConnection
from harness.emulation import Profile, find_machine, list_machines, stop_machine
from harness.model import Device, SoakTable
from harness.progress import Progress
from harness.remote import AgentClient
from harness.remote.soak import SoakClient
from harness.soak.attach import collect, ledger_from_device
from harness.soak.collector import HostClock, Visit
from harness.soak.ledger import Ledger
from harness.soak.machines import ensure_machine
from harness.soak.reach import reach_for
from harness.soak.start import describe_device
from harness.soak.table import read_table

pytestmark = pytest.mark.device
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600.0  # only ends what hangs
WINDOW_S = 300.0
HOOK = "/home/pi/.hil-boot"  # what has the runner come back at a boot
S = 10**9

Begin = Callable[..., Ledger]


@pytest.fixture
def device() -> Iterator[Device]:
    """Return a unit whose machine was started for a soak; what a test leaves of it is ended."""
    unit = emulated_device(f"rpi4-{secrets.token_hex(3)}")
    assert ensure_machine(unit, Profile.TIMING, (), lifetime_s=3600.0, progress=Progress(None))
    yield unit
    if unit.name in {info.name for info in list_machines()}:
        stop_machine(unit.name)


@pytest.fixture
def begin(device: Device, tmp_path: Path) -> Begin:
    """Return what starts a compressed soak of so many hours there, and lets its time fly."""

    def start(hours: float, **settings: Any) -> Ledger:
        machine = find_machine(device.name)
        with (
            contextlib.closing(QemuConnection(device, machine, owns_machine=False)) as connection,
            AgentClient.start(connection, timeout_s=TIMEOUT_S) as agent,
        ):
            made = connection.run(["mktemp", "-d", "-p", connection.home()], timeout_s=TIMEOUT_S).stdout
            folder = made.decode().strip()
            spec = command_spec(connection, folder, tmp_path, reboot=True, duration_s=hours * 3600)
            spec |= {
                "window_ns": int(WINDOW_S * S),
                "slice_ns": int(WINDOW_S * S),
                "compressed": True,
                "about": {"settings": settings},
            }
            spec["streams"][0]["cycle"] = {"kind": "every", "period_ns": 100 * S}
            assert SoakClient(agent).start(spec)["boot_hook"] == "hil-boot"
            assert connection.run(["test", "-e", HOOK], timeout_s=TIMEOUT_S, check=False).returncode == 0
        machine.set_spin(False)
        return Ledger.create(tmp_path / "soaks", spec, describe_device(device))

    return start


class Brisk(HostClock):
    """Looks soon again until `done`: on a fast host hours are over within one pause of a collector's own."""

    def __init__(self, done: Callable[[], bool], pause_s: float) -> None:
        self._done, self._pause_s = done, pause_s

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds if self._done() else min(seconds, self._pause_s))


def check_whole(table: SoakTable, hours: float, *, lives: int = 1) -> None:
    """Check that every window is there once, and each full one has its three calls."""
    assert (table.missing_seq, table.doubled_seq, table.ended) == ((), (), "duration")
    assert len(table.lives) == lives
    assert table.end_s[-1] == pytest.approx(hours * 3600, abs=WINDOW_S)
    calls = table.channels["main/calls"]
    full = table.end_s - table.start_s > 0.99 * WINDOW_S
    assert np.nansum(calls[full]) == pytest.approx(3 * full.sum(), abs=3 * lives)
    assert np.nansum(table.channels["main/errors"]) == 0


def busy_loop(device: Device) -> str:
    """Return the state of the guest's busy loop: "R" while time passes slowly, "T" while idle time flies."""
    machine = find_machine(device.name)
    with contextlib.closing(QemuConnection(device, machine, owns_machine=False)) as connection:
        argv = ["sh", "-c", "cat /proc/$(cat /run/hil/spin.pid)/stat"]
        stat = connection.run(argv, timeout_s=TIMEOUT_S).stdout
    return stat.decode().rpartition(")")[2].split()[0]


def is_there(device: Device, path: str) -> bool:
    """Return whether the guest has this file."""
    machine = find_machine(device.name)
    with contextlib.closing(QemuConnection(device, machine, owns_machine=False)) as connection:
        return connection.run(["test", "-e", path], timeout_s=TIMEOUT_S, check=False).returncode == 0


def test_hours_pass_in_seconds_though_a_collector_is_killed_and_the_machine_ends_with_its_soak(
    device: Device, begin: Begin, tmp_path: Path
):
    ledger = begin(2)
    child = start_collecting(device, ledger, tmp_path)
    try:  # within its first visit: then the guest itself has to let time fly again
        assert eventually(lambda: ledger.read_state().seen != {}, TIMEOUT_S)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(TIMEOUT_S)
    assert eventually(lambda: busy_loop(device) == "T", TIMEOUT_S)
    collect(device, ledger)  # its holder is gone: no take-over needed
    table = read_table(ledger.folder)
    check_whole(table, 2)
    assert len(table.start_s) == 24
    # the waits were skipped, and no call's time with them
    assert np.nanmax(table.channels["main/max_ns"]) < S
    assert table.events == ()
    assert device.name not in {info.name for info in list_machines()}


def test_power_cycles_on_schedule_are_told_before_their_reboot(device: Device, begin: Begin):
    ledger = begin(4, power_cycle_every_s=7200.0)
    seen_s: list[float] = []
    clock = Brisk(lambda: bool(seen_s) and seen_s[-1] >= 7200, 1.0)
    collect(device, ledger, on_visit=lambda visit: seen_s.append(visit.t_s), clock=clock)
    table = read_table(ledger.folder)
    kinds = [event.kind for event in table.events if event.kind in ("power_cut", "power_on", "reboot")]
    cycles = kinds.count("power_cut")
    assert cycles == 1
    assert kinds.count("power_on") == kinds.count("reboot") == cycles
    check_whole(table, 4, lives=1 + cycles)


def test_a_reset_seen_from_another_host_on_a_machine_that_was_up_before(
    device: Device, begin: Begin, tmp_path: Path
):
    (find_machine(device.name).folder / "soak.json").unlink()  # as `harness devices up` leaves it
    assert not ensure_machine(device, Profile.TIMING, (), lifetime_s=7200.0, progress=Progress(None))
    begun = begin(3)
    ledger = ledger_from_device(device, begun.soak_id, tmp_path / "elsewhere")
    assert ledger.read_spec() == begun.read_spec()
    done: list[float] = []

    def reset_once(visit: Visit) -> None:
        if visit.t_s > 0 and not done and not visit.ended:
            done.append(visit.t_s)
            find_machine(device.name).reset()

    collect(device, ledger, on_visit=reset_once, clock=Brisk(lambda: bool(done), 0.5))
    assert done
    table = read_table(ledger.folder)
    check_whole(table, 3, lives=2)  # the runner came back
    kinds = [event.kind for event in table.events]
    assert kinds.count("reboot") == 1
    assert "power_cut" not in kinds
    assert table.lives[0].boot_id != table.lives[1].boot_id
    with reach_for(device, compressed=None)() as soaks:
        assert [status.state for status in soaks.list()] == ["ended"]
    assert not is_there(device, HOOK)  # nothing is started at the next boot
    assert busy_loop(device) == "R"  # it stays, and its time is nobody's to skip any more


_COLLECT = """
import json, sys
from pathlib import Path
from harness.model import Device, DeviceType, QemuBoard
from harness.soak import reach
from harness.soak.attach import collect
from harness.soak.ledger import Ledger
reach.VISIT_AT_MOST_S = 5  # what is waited for once it is killed
name, board, folder = json.loads(sys.argv[1])
device = Device(name, DeviceType("rpi4"), "qemu", qemu=QemuBoard(**board))
collect(device, Ledger.open(Path(folder)))
"""


def start_collecting(device: Device, ledger: Ledger, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Start a process that collects the soak."""
    assert device.qemu is not None
    told = json.dumps([device.name, asdict(device.qemu), str(ledger.folder)])
    return subprocess.Popen(
        [sys.executable, "-c", _COLLECT, told],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
    )
