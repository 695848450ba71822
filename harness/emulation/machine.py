"""One running machine: its handle, and what can be done to it. `launch.py` makes them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.emulation import command, console, keeper, runs, snapshots
from harness.emulation.cache import prune_cache
from harness.emulation.command import Profile
from harness.emulation.image import Image
from harness.emulation.qmp import Qmp
from harness.emulation.sensors.client import Sensors
from harness.errors import ConnectionLost, DataError, DeadlineExceeded, DeviceError, HarnessError
from harness.model import QemuBoard

END_TIMEOUT_S = 15.0
SAVE_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 60.0


class Machine:
    """A running emulated board. Closing an ephemeral one ends it and removes its disk.

    A supervised one stays up: `close` only lets go of it, `stop_machine` ends it.
    """

    def __init__(
        self,
        folder: Path,
        image: Image,
        board: QemuBoard,
        info: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.image = image
        self.board = board
        self.name: str = info["name"]
        self.serial: str = info["serial"]
        self.profile = Profile(info["profile"])
        self.parent_snapshot: str | None = info["parent_snapshot"]  # its folder
        self.ssh_port: int = info.get("ssh_port", 0)  # on 127.0.0.1
        self._pipe_fd: int | None = None  # while it is open, the keeper keeps an ephemeral machine running
        self.qmp = Qmp(folder / "qmp.sock", self.name)
        self.sensors = Sensors(folder / command.SENSOR_SOCKETS["chips"], self.name, self._control)

    @property
    def boot_console_path(self) -> Path:
        """What the guest has printed on its console; gone after close."""
        return self.folder / "console.log"

    @property
    def supervised(self) -> bool:
        """Whether it outlives this process."""
        return self.folder.parent == runs.supervised_root()

    def status(self) -> dict[str, Any]:
        """Return what the keeper says: `keeper_pid`, `qemu_pid`, `exit_code` (None while QEMU runs)."""
        return dict(keeper.read_json(str(self.folder / "status.json")))

    @property
    def pid(self) -> int:
        """The process id of its QEMU. Raises ConnectionLost when the machine is gone."""
        pid = self.status().get("qemu_pid")
        if not isinstance(pid, int):
            raise ConnectionLost("it is not running", where=self.name)
        return pid

    def is_running(self) -> bool:
        """Return whether its QEMU lives."""
        status = self.status()
        return bool(status) and status.get("exit_code") is None and runs.is_alive(self.folder)

    def console_tail(self, max_bytes: int = 2000) -> str:
        """Return the end of what the guest printed and of what QEMU complained about."""
        parts = []
        for name in ("console.log", "qemu.log"):
            with contextlib.suppress(FileNotFoundError):
                tail = (self.folder / name).read_bytes()[-max_bytes:]
                parts.append(tail.decode("utf-8", "replace").strip())
        return "\n".join(p for p in parts if p)

    def set_unit(self, timeout_s: float) -> None:
        """Set the guest's wall clock and serial number; returns once the guest has answered.

        A restored guest has the time of when it was saved, and its sister machines' serial number.
        """
        console.request(
            self.folder / "console.sock",
            self.name,
            lambda request_id: f"unit {request_id} {time.time():.6f} {self.serial}",
            timeout_s=timeout_s,
            alive=self.is_running,
        )

    def sync(self, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Have the guest write everything to its disk."""
        self._control("sync", timeout_s)

    def wait_for_sensors(self) -> None:
        """Wait until the guest's drivers have found the I2C bus; it takes a moment after a cold boot."""
        self._control("sensors")

    def set_spin(self, on: bool, *, at_most_s: int | None = None) -> None:
        """Let the busy loop of the timing profile run, or stop it: then idle guest time costs no wall time.

        Any agent that starts lets it run again. With `at_most_s` the guest stops it after so many of its own
        seconds, whatever becomes of this process. Raises DeviceError where there is no such loop.
        """
        limit = f" {at_most_s}" if on and at_most_s is not None else ""
        self._control(f"spin on{limit}" if on else "spin off")

    def _control(self, line: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Send a request to the guest's console: a word, then perhaps another."""
        word, _, rest = line.partition(" ")
        console.request(
            self.folder / "console.sock",
            self.name,
            lambda request_id: f"{word} {request_id} {rest}".rstrip(),
            timeout_s=timeout_s,
            alive=self.is_running,
        )

    def pause(self) -> None:
        """Stop the machine and its clock."""
        self.qmp.execute("stop")

    def resume(self, *, set_clock: bool = True) -> None:
        """Let a paused machine go on, and set its wall clock, which stood still, unless told not to."""
        self.qmp.execute("cont")
        if set_clock:
            self.set_unit(ANSWER_TIMEOUT_S)

    def set_link(self, up: bool) -> None:
        """Plug or pull its network cable."""
        self.qmp.execute("set_link", {"name": "net0", "up": up})

    def reset(self) -> None:
        """Press its reset button; what it hasn't written to disk is lost. Doesn't wait for the boot."""
        self.qmp.execute("system_reset")

    def block_throttle(self, bytes_per_s: int | None) -> None:
        """Limit its disk to `bytes_per_s`, read and write together; None lifts the limit."""
        limit = 0 if bytes_per_s is None else bytes_per_s
        rest = dict.fromkeys(("bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        self.qmp.execute("block_set_io_throttle", {"id": "blk0", "bps": limit, **rest})

    def power_cut(self) -> None:
        """Cut its power: QEMU is killed, the disk keeps what the guest had flushed. `power_on` boots it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if not runs.wait_until(lambda: self.status().get("exit_code") is not None, END_TIMEOUT_S):
            raise DeadlineExceeded(f"QEMU did not end within {END_TIMEOUT_S:g} s of SIGKILL", where=self.name)

    def save(self, key: str) -> None:
        """Save its state under `key`; `start(…, snapshot=key)` restores it, in any number of machines.

        The machine stands still meanwhile and goes on afterwards. A state that was saved under the key
        gives way. Whole or not at all.
        """
        link = snapshots.snapshot_link(self.image, self.board, self.profile, key)
        parent = Path(self.parent_snapshot) if self.parent_snapshot else None
        state = self.folder / "state"
        self.qmp.execute("stop")
        try:
            self._write_state()
            with snapshots.publishing(link, key) as work:
                os.replace(state, work / "state")  # one file system: both are in the cache
                snapshots.merge_disk(
                    self.folder / "disk.qcow2",
                    parent / "disk.qcow2" if parent else None,
                    work / "disk.qcow2",
                    os.path.relpath(self.image.disk_path, work),
                )
        except BaseException:
            state.unlink(missing_ok=True)
            with contextlib.suppress(HarnessError):  # the first error tells more
                self.qmp.execute("cont")
            raise
        self.resume()
        prune_cache(keep=(link.resolve(),))

    def _write_state(self) -> None:
        """Have QEMU stream its state into the run folder."""
        self.qmp.execute("migrate-set-parameters", {"max-bandwidth": 100 << 30})
        self.qmp.execute("migrate", {"uri": "exec:cat >state"})  # its working folder is the run folder
        deadline = time.monotonic() + SAVE_TIMEOUT_S
        while True:
            answer = self.qmp.execute("query-migrate")
            if answer.get("status") == "completed":
                return
            if answer.get("status") in ("failed", "cancelled"):
                reason = answer.get("error-desc", "no reason given")
                raise DeviceError(f"its state could not be saved: {reason}", where=self.name)
            if time.monotonic() > deadline:
                self.qmp.execute("migrate_cancel")
                raise DeadlineExceeded(f"saving took over {SAVE_TIMEOUT_S:g} s", where=self.name)
            time.sleep(0.02)

    def close(self) -> None:
        """End an ephemeral machine and wait until it is gone; let go of a supervised one."""
        if self._pipe_fd is None:
            return
        os.close(self._pipe_fd)
        self._pipe_fd = None
        if not runs.wait_until(lambda: not self.folder.exists(), END_TIMEOUT_S):
            raise DeadlineExceeded(f"did not end within {END_TIMEOUT_S:g} s", where=self.name)

    @property
    def owned(self) -> bool:
        """Whether this handle's `close` ends the machine."""
        return self._pipe_fd is not None

    def adopt(self, pipe_fd: int) -> None:
        """Own the machine through the pipe whose closing ends it."""
        self._pipe_fd = pipe_fd

    def release(self) -> None:
        """Let go of a machine that its keeper keeps without us."""
        if self._pipe_fd is not None:
            os.close(self._pipe_fd)
            self._pipe_fd = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_info(folder: Path) -> dict[str, Any]:
    """Return a run folder's info.json. Raises DataError when it isn't whole."""
    info = dict(keeper.read_json(str(folder / "info.json")))
    missing = {"name", "serial", "profile", "ssh_port", "parent_snapshot", "image", "board"} - set(info)
    if missing:
        raise DataError(f"info.json lacks {', '.join(sorted(missing))}", where=str(folder))
    return info
