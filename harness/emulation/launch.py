"""Starting machines: cold, or from a saved state in seconds."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.cache import file_lock
from harness.emulation import command, console, keeper, runs, snapshots
from harness.emulation.cache import hold, prune_cache, write_atomically
from harness.emulation.command import Profile
from harness.emulation.host import check_host
from harness.emulation.image import Image
from harness.emulation.machine import Machine
from harness.emulation.qmp import connect_unix
from harness.errors import ConfigError, ConnectionLost, DeadlineExceeded, HarnessError, TransientError
from harness.model import QemuBoard

Progress = Callable[[str, float], None]
LAUNCH_TIMEOUT_S = 30.0
COLD_BOOT_TIMEOUT_S = 240.0  # takes about 4 s on an idle host; busy ones are much slower
RESTORE_TIMEOUT_S = 90.0  # takes about 1 s
BANNER_TIMEOUT_S = 0.6  # QEMU accepts a connection before the guest can, which then never answers
MAX_BANNER_TIMEOUT_S = 8.0  # chosen: a login takes 0.4 s on a quiet host
DEFAULT_LIFETIME_S = 12 * 3600.0


def unit_serial(name: str) -> str:
    """Return the serial number of the unit `name`: 16 hexadecimal digits, as a Pi's."""
    return hashlib.sha256(f"emulated unit {name}".encode()).hexdigest()[:16]


def device_tree(image: Image, board: QemuBoard, profile: Profile) -> Path:
    """Return the device tree for such a machine, made on first use."""
    path = image.folder / "boards" / command.machine_hash(board, profile) / "board.dtb"
    if not path.exists():
        with file_lock(image.folder / "boards" / ".lock"):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, command.make_device_tree(board, profile, path.parent))
    return path


def start(
    image: Image,
    board: QemuBoard,
    *,
    name: str,
    profile: Profile,
    snapshot: str | None = None,
    progress: Progress | None = None,
    supervised: bool = False,
    lifetime_s: float = DEFAULT_LIFETIME_S,
    extra_arguments: Sequence[str] = (),
) -> Machine:
    """Return a machine that answers on SSH, its wall clock set.

    `extra_arguments` go to QEMU beside its own and change nothing that a saved state depends on (a plugin);
    a machine that is powered on again is without them.

    `snapshot` None: from the state right after boot, which the first call makes; a key: from what was
    saved under it. Raises ConfigError when there is no such snapshot, HostSetupError when the host lacks
    a package, DeadlineExceeded or ConnectionLost (with the console's last lines) when it doesn't come up.
    """
    check_host(build=False)
    report = progress or (lambda step, done: None)
    board = replace(board, disk_bytes=image.board.disk_bytes)
    key = snapshots.WARM if snapshot is None else snapshot
    if key == snapshots.WARM:
        _make_warm(image, board, profile, report)
    report("restoring", 0.0)
    machine = _launch(image, board, name, profile, key, lifetime_s if supervised else None, extra_arguments)
    report("restoring", 1.0)
    return machine


def boot(image: Image, board: QemuBoard, *, name: str, profile: Profile) -> Machine:
    """Return an ephemeral machine booted cold, without any saved state."""
    check_host(build=False)
    board = replace(board, disk_bytes=image.board.disk_bytes)
    return _launch(image, board, name, profile, None, None)


def _make_warm(image: Image, board: QemuBoard, profile: Profile, report: Progress) -> None:
    """Save the state right after boot, unless it is there. Processes that want it at once make one."""
    if snapshots.has_snapshot(image, profile, snapshots.WARM, board=board):
        return
    with file_lock(snapshots.snapshots_folder(image, board, profile) / ".warm.lock"):
        if snapshots.has_snapshot(image, profile, snapshots.WARM, board=board):
            return
        report("booting for the first time", 0.0)
        with boot(image, board, name="warm", profile=profile) as machine:
            report("saving the booted state", 0.5)
            machine.wait_for_sensors()
            machine.sync()
            machine.save(snapshots.WARM)
        report("saving the booted state", 1.0)
    prune_cache(keep=(image.folder,))


def _launch(
    image: Image,
    board: QemuBoard,
    name: str,
    profile: Profile,
    key: str | None,
    lifetime_s: float | None,
    extra_arguments: Sequence[str] = (),
) -> Machine:
    """Start a machine from the state `key`, cold if None; supervised if it has a lifetime."""
    supervised = lifetime_s is not None
    folder, lock_fd = runs.new_folder(name, supervised=supervised)
    fds = [lock_fd]
    machine: Machine | None = None
    try:
        snapshot = snapshots.open_snapshot(image, board, profile, key) if key is not None else None
        fds += [hold(path) for path in (image.folder, snapshot) if path is not None]
        if snapshot is not None:
            snapshots.make_overlay(folder / "disk.qcow2", snapshot / "disk.qcow2", "qcow2")
        else:
            snapshots.make_overlay(folder / "disk.qcow2", image.disk_path, "raw")
        info: dict[str, Any] = {
            "name": name,
            "serial": unit_serial(name),
            "profile": str(profile),
            "parent_snapshot": str(snapshot) if snapshot else None,
            "image": image.recipe_hash,
            "board": asdict(board),
        }
        keeper.write_json(str(folder / "lease.json"), {"expires_at_s": time.time() + (lifetime_s or 0)})
        machine = Machine(folder, image, board, info)
        write_spec(machine, snapshot / "state" if snapshot else None, extra_arguments)
        machine.adopt(_start_keeper(folder, lock_fd, fds[1:]))
        wait_ready(machine, RESTORE_TIMEOUT_S if snapshot else COLD_BOOT_TIMEOUT_S, cold=snapshot is None)
        info["ssh_port"] = machine.ssh_port
        keeper.write_json(str(folder / "info.json"), info)
        if supervised:
            _hand_over(machine)
        return machine
    except BaseException:
        if machine is not None and machine.owned:
            machine.close()
        else:
            runs.discard(folder)
        raise
    finally:
        for fd in fds:
            os.close(fd)


def write_spec(machine: Machine, state: Path | None, extra_arguments: Sequence[str] = ()) -> None:
    """Write what the keeper shall start: cold, or from `state`."""
    image = machine.image
    argv = command.machine_arguments(
        machine.board,
        machine.profile,
        kernel=image.kernel_path,
        initrd=image.initrd_path,
        device_tree=device_tree(image, machine.board, machine.profile),
        serial=machine.serial,
    )
    argv += extra_arguments
    argv += ["-name", f"hil-{machine.name}"]  # for who looks at `ps`
    if state is not None:
        (machine.folder / "incoming").symlink_to(state)
        argv += ["-incoming", "exec:cat incoming"]  # any QEMU; 9.1 deprecates `fd:` of a file
    keeper.write_json(str(machine.folder / "spec.json"), {"argv": argv, "companion": companion()})


def companion() -> dict[str, Any]:
    """Return how the keeper starts the server of the machine's sensors."""
    # `sensors` as a top-level package: without the harness's own packages it starts at once
    code = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); from sensors.serve import main"
    return {
        "argv": [sys.executable, "-I", "-S", "-c", f"{code}; sys.exit(main(sys.argv[1:]))"],
        "sockets": command.SENSOR_SOCKETS,
    }


def _start_keeper(folder: Path, lock_fd: int, held_fds: Sequence[int]) -> int:
    """Start the keeper; return the pipe end whose closing, by us or by our death, ends the machine.

    It has `lock_fd` for as long as it lives, `held_fds` (`hold`) until its QEMU has ended.
    """
    read_fd, write_fd = os.pipe()
    held = [str(fd) for fd in held_fds]
    argv = [sys.executable, "-I", "-S", keeper.__file__, str(folder), str(os.getpid()), *held]
    try:
        with (folder / "qemu.log").open("ab") as log:
            subprocess.run(
                argv,
                stdin=read_fd,
                stdout=log,
                stderr=log,
                pass_fds=(lock_fd, *held_fds),
                start_new_session=True,  # Ctrl-C in the terminal is for the harness alone
                timeout=LAUNCH_TIMEOUT_S,
                check=True,
            )
    except BaseException:
        os.close(write_fd)
        raise
    finally:
        os.close(read_fd)
    return write_fd


def _hand_over(machine: Machine) -> None:
    """Make the machine outlive this process: its lease alone decides from now on."""
    os.kill(int(machine.status()["keeper_pid"]), signal.SIGUSR2)
    if not runs.wait_until(lambda: machine.status().get("supervised") is True, LAUNCH_TIMEOUT_S):
        raise DeadlineExceeded("its keeper did not take it over", where=machine.name)
    machine.release()


def wait_ready(machine: Machine, timeout_s: float, *, cold: bool) -> None:
    """Wait until QEMU runs, the guest answers on its console and SSH greets; sets `ssh_port`."""
    deadline = time.monotonic() + timeout_s
    try:
        _wait_for_monitor(machine)
        machine.ssh_port = command.parse_forwarded_port(machine.qmp.hmp("info usernet"))
        if not cold:
            _wait_for(machine, lambda: not _is_loading(machine), deadline, "end of the restore")
            machine.resume(set_clock=False)  # it was stopped while its state was saved
        else:
            _wait_for(machine, lambda: console.is_ready(machine.boot_console_path), deadline, "boot")
        machine.set_unit(deadline - time.monotonic())
        _wait_for(machine, _Greeting(machine), deadline, "SSH greeting")
    except TransientError as error:
        tail = machine.console_tail()
        raise type(error)(
            f"{error.what.rstrip('.')}. Its console ends with: {tail or '(nothing)'}\n",
            where=error.where,
            next_step="Try again; if it stays so, remove the saved state (`harness cache`) to start afresh.",
        ) from error


def _wait_for(machine: Machine, condition: Callable[[], bool], deadline: float, what: str) -> None:
    """Wait until `condition` holds. Raises when the machine ends or `deadline` (monotonic) passes first."""
    began = time.monotonic()

    def over() -> bool:
        if condition():
            return True
        if not machine.is_running():
            raise ConnectionLost("the machine ended while it was starting", where=machine.name)
        return False

    if not runs.wait_until(over, deadline - began):
        raise DeadlineExceeded(f"no {what} within {time.monotonic() - began:.0f} s", where=machine.name)


def _wait_for_monitor(machine: Machine) -> None:
    """Wait until QEMU's monitor is there; QEMU opens it before the guest's first instruction."""

    def up_or_over() -> bool:
        if machine.status().get("exit_code") is not None:
            return True
        try:
            connect_unix(machine.folder / "qmp.sock").close()
        except OSError:  # not there yet, or bound and not listening yet
            return False
        return True

    if not runs.wait_until(up_or_over, LAUNCH_TIMEOUT_S):
        raise DeadlineExceeded(f"QEMU did not start within {LAUNCH_TIMEOUT_S:g} s", where=machine.name)
    exit_code = machine.status().get("exit_code")
    if exit_code is not None:
        raise ConnectionLost(f"QEMU ended with {exit_code} at once", where=machine.name)


def _is_loading(machine: Machine) -> bool:
    return bool(machine.qmp.execute("query-status")["status"] == "inmigrate")


class _Greeting:
    """Asks for an SSH greeting, each time with more patience.

    Short at first: what connects before the guest's network is up is never answered. On a busy host the
    guest's sshd takes seconds to greet, and those who hang up early only give it more to do.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._timeout_s = BANNER_TIMEOUT_S

    def __call__(self) -> bool:
        if _greets(self._machine.ssh_port, self._timeout_s):
            return True
        self._timeout_s = min(1.5 * self._timeout_s, MAX_BANNER_TIMEOUT_S)
        return False


def _greets(port: int, timeout_s: float) -> bool:
    """Return whether an SSH server greets on this port within `timeout_s`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as stream:
            stream.settimeout(timeout_s)
            return stream.recv(64).startswith(b"SSH-")
    except OSError:
        return False


def power_on(machine: Machine) -> None:
    """Boot a machine after `power_cut`, or after its guest switched it off, from the disk as it was left.

    `machine.ssh_port` may change. Raises as `start` does.
    """
    if machine.status().get("exit_code") is None:
        raise ConfigError("it is running; cut its power first", where=machine.name)
    write_spec(machine, None)
    for name in ("qmp.sock", "console.sock", "console.log"):
        (machine.folder / name).unlink(missing_ok=True)
    try:
        os.kill(int(machine.status()["keeper_pid"]), signal.SIGUSR1)
    except (KeyError, ProcessLookupError) as error:
        raise ConnectionLost("its keeper is gone", where=machine.name) from error
    if not runs.wait_until(lambda: machine.status().get("exit_code") is None, LAUNCH_TIMEOUT_S):
        raise HarnessError("its keeper did not start QEMU again", where=machine.name)
    wait_ready(machine, COLD_BOOT_TIMEOUT_S, cold=True)
    info = keeper.read_json(str(machine.folder / "info.json"))
    keeper.write_json(str(machine.folder / "info.json"), {**info, "ssh_port": machine.ssh_port})
