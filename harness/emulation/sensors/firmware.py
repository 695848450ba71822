"""The emulated board's firmware: integrates the board model in guest time and throttles what runs on it.

Runs in the guest as root, only while it is asked for. A port leads to the host (`serve`): down it come the
board's parameters, up go its readings, which the chips on the I2C bus then show to the guest's own drivers.

How busy the board is comes from the cgroup that all logins and measured processes live in, and not from
/proc/stat: there a busy loop that only keeps virtual time going counts as work, and ticks of 4 ms see a
process that runs 1 of every 2 ms as always or never running. Throttling is that group's `cpu.max`.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import select
import signal
import time
from dataclasses import fields, replace
from types import FrameType
from typing import Any

from .board_model import Parameters, State, start, step

GROUP = "/sys/fs/cgroup/harness"
PORT_NAME = "hil.board"  # as QEMU's command line has it
SPIN_PID = "/run/hil/spin.pid"
READINGS = "/run/hil/board"  # what `vcgencmd` shows; there while the firmware runs
PERIOD_US = 1000  # at least this much quota: the least that the kernel takes (sched-bwc)
BUSY_CORES = 0.1  # chosen: what is below it is the harness's own housekeeping
MAX_LINE_BYTES = 4096


class Stopped(Exception):
    """The firmware is to end."""


def find_port(root: str = "") -> str:
    """Return the device of the port to the host. Raises FileNotFoundError."""
    for path in glob.glob(root + "/sys/class/virtio-ports/*/name"):
        with open(path, encoding="ascii") as file:
            if file.read().strip() == PORT_NAME:
                return root + "/dev/" + os.path.basename(os.path.dirname(path))
    raise FileNotFoundError("no virtio port named " + PORT_NAME)


def parse_usage_ns(text: str) -> int:
    """Return the CPU time of a cgroup out of its cpu.stat (kernel: admin-guide/cgroup-v2)."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "usage_usec":
            return int(value) * 1000
    raise ValueError("cpu.stat has no usage_usec")


def parse_parameters(values: dict[str, Any]) -> Parameters:
    """Return the parameters in a message of the host."""
    return Parameters(**{field.name: values[field.name] for field in fields(Parameters)})


class Throttle:
    """Slows the group of all logins down, and undoes it."""

    def __init__(self, root: str = "", kill: Any = os.kill) -> None:
        self._root = root
        self._kill = kill
        self._loop_stopped = False

    def apply(self, ratio: float | None) -> None:
        """Give the group `ratio` of one core; None: no limit."""
        period_us = None if ratio is None else int(PERIOD_US / ratio)
        text = "max 100000" if period_us is None else f"{PERIOD_US} {period_us}"
        with open(self._root + GROUP + "/cpu.max", "w", encoding="ascii") as file:
            file.write(text)

    def keep_time(self, stop: bool) -> None:
        """Stop the busy loop of the timing profile while throttled work runs, else let it run.

        On a core that isn't idle a process whose quota is new comes back only at the next tick of 4 ms.
        """
        if stop or self._loop_stopped:  # the agent may have continued it: stop it again
            try:
                with open(self._root + SPIN_PID, encoding="ascii") as file:
                    self._kill(int(file.read()), signal.SIGSTOP if stop else signal.SIGCONT)
            except (FileNotFoundError, ProcessLookupError):
                return  # the functional profile has none
            self._loop_stopped = stop


class Firmware:
    """One board that runs."""

    def __init__(self, port_fd: int, root: str = "") -> None:
        self._port_fd = port_fd
        self._root = root
        self._received = b""
        self.throttle = Throttle(root)
        self.board: Parameters | None = None
        self.period_s = 0.1

    def run(self) -> None:
        """Run until the host or a signal ends it; then nothing is throttled any more."""
        self.send({"hello": 1})
        try:
            while self.board is None:
                self._listen(None)
            self._run(self.board)
        except Stopped:
            pass
        finally:
            self.throttle.apply(None)
            self.throttle.keep_time(False)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._root + READINGS)
            self.send({"bye": 1})

    def _run(self, board: Parameters) -> None:
        state = start(board)
        with open(self._root + READINGS, "wb", buffering=0) as shown:
            at_ns, used_ns = time.monotonic_ns(), self._usage_ns()
            due_ns = at_ns
            while True:
                self._show(shown.fileno(), at_ns, state)
                due_ns = max(due_ns + int(self.period_s * 1e9), at_ns)
                self._listen(due_ns)
                before_ns, used_before_ns = at_ns, used_ns
                at_ns, used_ns = time.monotonic_ns(), self._usage_ns()
                elapsed_ns = max(at_ns - before_ns, 1)
                was = state.throttled
                state = step(
                    self.board or board, state, elapsed_ns / 1e9, (used_ns - used_before_ns) / elapsed_ns
                )
                if state.throttled != was:
                    self.throttle.apply(board.throttled_speed_ratio if state.throttled else None)
                self.throttle.keep_time(state.throttled and state.busy_cores > BUSY_CORES)

    def _usage_ns(self) -> int:
        with open(self._root + GROUP + "/cpu.stat", encoding="ascii") as file:
            return parse_usage_ns(file.read())

    def _show(self, fd: int, at_ns: int, state: State) -> None:
        """Tell the host and, in a file of fixed length, `vcgencmd`."""
        os.pwrite(fd, b"throttled=0x%-8x\ntemp=%-8.1f\n" % (state.throttled_bits, state.temp_c), 0)
        self.send(
            {
                "at_ns": at_ns,
                "temp_c": state.temp_c,
                "power_w": state.power_w,
                "busy_cores": state.busy_cores,
                "throttled_bits": state.throttled_bits,
            }
        )

    def send(self, message: dict[str, Any]) -> None:
        """Send one line to the host."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._port_fd, data) :]

    def _listen(self, until_ns: int | None) -> None:
        """Obey the host until the monotonic clock shows `until_ns`; None: until it has said something."""
        while True:
            timeout_s = None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / 1e9)
            if not select.select([self._port_fd], [], [], timeout_s)[0]:
                return
            data = os.read(self._port_fd, MAX_LINE_BYTES)
            if not data:  # nobody at the other end, where a port is always readable
                time.sleep(0.1)
            self._received += data
            *lines, self._received = self._received.split(b"\n")
            for line in lines:
                self._obey(json.loads(line))
            if until_ns is None:
                return

    def _obey(self, message: dict[str, Any]) -> None:
        if "parameters" in message:
            self.board = parse_parameters(message["parameters"])
            self.period_s = float(message["period_s"])
        if "ambient_c" in message and self.board is not None:
            self.board = replace(self.board, ambient_c=float(message["ambient_c"]))


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def main() -> int:
    """Run the firmware; see the module's text."""
    signal.signal(signal.SIGTERM, _stop)
    port_fd = os.open(find_port(), os.O_RDWR)
    Firmware(port_fd).run()
    return 0
