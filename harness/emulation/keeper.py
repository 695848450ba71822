"""The process between the harness and one QEMU: QEMU never outlives what it was started for.

Runs as `python -I -S keeper.py FOLDER PARENT_PID [DESCRIPTOR ...]`, in a session of its own, stdlib only. The
descriptors keep what QEMU reads in the cache; they are closed once QEMU is gone. It ends QEMU and removes
FOLDER when
- the harness ends, however it ends: its standard input (a pipe that only the harness holds) reaches its
  end, or the pidfd of PARENT_PID fires, which also covers a fork of the harness that kept the pipe open;
- it is told to by SIGTERM;
- SIGUSR2 has made the machine supervised, and the lease in FOLDER/lease.json has run out.
If the keeper itself is killed, the kernel kills QEMU (PR_SET_PDEATHSIG), and the next start sweeps FOLDER:
the lock that the keeper inherited is then free.

SIGUSR1 starts QEMU again from FOLDER/spec.json after it has ended (a power cut, then power on).

A spec may name a companion, which serves sockets that QEMU connects to: it is started before QEMU with these
sockets listening, as NAME=DESCRIPTOR after its own arguments, and ends with QEMU.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

PR_SET_PDEATHSIG = 1
LEASE_POLL_S = 60.0  # chosen: in case the wall clock is stepped
WAKE = signal.SIGCHLD  # makes the keeper look at its lease


def lease_seconds_left(lease: Mapping[str, object], now_s: float) -> float:
    """Return for how long a lease is still good at Unix time `now_s`; 0 or less when it has run out."""
    expires = lease.get("expires_at_s")
    return float(expires) - now_s if isinstance(expires, (int, float)) else 0.0


def read_json(path: str) -> dict[str, object]:
    """Return a JSON object from a file, {} if it is missing or broken."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: str, value: Mapping[str, object]) -> None:
    """Write a JSON file so that readers see the old or the new one, whole."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent ends. Runs between fork and exec."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the request
        os._exit(1)


def start_qemu(folder: str) -> subprocess.Popen[bytes]:
    """Start QEMU in FOLDER with the `argv` of its spec.json."""
    spec = read_json(os.path.join(folder, "spec.json"))
    argv = [str(a) for a in spec.get("argv", [])]  # type: ignore[attr-defined]
    keeper_pid = os.getpid()
    with open(os.path.join(folder, "qemu.log"), "ab") as log:
        return subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: die_with_parent(keeper_pid),
        )


def listen(folder: str, name: str) -> socket.socket:
    """Return a socket that listens as FOLDER/NAME; what was there gives way.

    Goes through the folder's descriptor, because a path may be longer than a socket address (unix(7)).
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, name))
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{handle}/{name}")
        listener.listen()
        return listener
    finally:
        os.close(handle)


def start_companion(folder: str) -> subprocess.Popen[bytes] | None:
    """Start the companion that FOLDER/spec.json names, its sockets listening; None: it names none."""
    spec = read_json(os.path.join(folder, "spec.json")).get("companion")
    if not isinstance(spec, dict):
        return None
    listeners = {str(name): listen(folder, str(file)) for name, file in spec["sockets"].items()}
    keeper_pid = os.getpid()
    try:
        with open(os.path.join(folder, "companion.log"), "ab") as log:
            return subprocess.Popen(
                [*map(str, spec["argv"]), *(f"{name}={s.fileno()}" for name, s in listeners.items())],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[s.fileno() for s in listeners.values()],
                preexec_fn=lambda: die_with_parent(keeper_pid),
            )
    finally:
        for listener in listeners.values():
            listener.close()


def parent_handle(parent_pid: int) -> int | None:
    """Return a pidfd of the harness, None where the kernel has none (before 5.3: the pipe suffices).

    Raises ProcessLookupError when it has ended already.
    """
    try:
        return os.pidfd_open(parent_pid)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):
        return None


class Keeper:
    """One QEMU and the conditions under which it must end."""

    def __init__(self, folder: str, parent_pid: int, held_fds: Sequence[int] = ()) -> None:
        self.folder = folder
        self.held_fds = held_fds
        self.supervised = False
        self.told_to_end = False
        self.told_to_start = False
        self.told_to_stay = False
        self.process: subprocess.Popen[bytes] | None = None
        self.companion: subprocess.Popen[bytes] | None = None
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(wake_read, False)
        signal.set_wakeup_fd(wake_write)
        self.wake_fd = wake_read
        self.poller = select.poll()
        self.poller.register(wake_read, select.POLLIN)
        self.ending_fds = {0}
        handle = parent_handle(parent_pid)
        if handle is not None:
            self.ending_fds.add(handle)
        for fd in self.ending_fds:
            self.poller.register(fd, select.POLLIN | select.POLLHUP)

    def on_signal(self, number: int, frame: object) -> None:
        """Note what a signal asks for; the loop acts on it."""
        if number == signal.SIGTERM:
            self.told_to_end = True
        elif number == signal.SIGUSR1:
            self.told_to_start = True
        elif number == signal.SIGUSR2:
            self.told_to_stay = True

    def write_status(self, exit_code: int | None) -> None:
        """Tell what runs in FOLDER/status.json."""
        pid = self.process.pid if self.process is not None else None
        status = {
            "keeper_pid": os.getpid(),
            "qemu_pid": pid,
            "companion_pid": self.companion.pid if self.companion is not None else None,
            "exit_code": exit_code,
            "supervised": self.supervised,
        }
        write_json(os.path.join(self.folder, "status.json"), status)

    def start(self) -> None:
        """Start QEMU, its companion first."""
        self.end_companion()
        self.companion = start_companion(self.folder)
        self.process = start_qemu(self.folder)
        self.write_status(None)

    def end_companion(self) -> None:
        """End the companion, if there is one."""
        if self.companion is not None:
            self.companion.kill()
            self.companion.wait()
            self.companion = None

    def seconds_left(self) -> float | None:
        """Return until when to wait at most; None: no limit."""
        if not self.supervised:
            return None
        return lease_seconds_left(read_json(os.path.join(self.folder, "lease.json")), time.time())

    def stay(self) -> None:
        """Outlive the harness from now on; the lease decides."""
        for fd in self.ending_fds:
            self.poller.unregister(fd)
        self.ending_fds = set()
        self.supervised = True

    def wait(self) -> bool:
        """Wait for something to happen; return whether the machine must end."""
        left = self.seconds_left()
        if left is not None and left <= 0:
            return True
        wait_ms = None if left is None else max(1, int(min(left, LEASE_POLL_S) * 1000))
        events = self.poller.poll(wait_ms)
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_fd, 512)
        return self.told_to_end or any(fd in self.ending_fds for fd, _ in events)

    def run(self) -> None:
        """Start QEMU and return when it must end."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, self.on_signal)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.start()
        noted_exit: int | None = None
        while not self.wait():
            exit_code = self.process.poll() if self.process is not None else None
            if self.told_to_start:
                self.told_to_start = False  # first: a later signal counts for the next round
                if exit_code is not None:
                    self.start()
                    exit_code = noted_exit = None
            if self.told_to_stay and not self.supervised:
                self.stay()
                self.write_status(exit_code)
            if exit_code is not None and noted_exit is None:
                noted_exit = exit_code
                self.write_status(exit_code)

    def end(self) -> None:
        """End QEMU and remove the folder with its disk."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.end_companion()
        for fd in self.held_fds:
            os.close(fd)  # before FOLDER goes, by which others know that the machine is gone
        shutil.rmtree(self.folder, ignore_errors=True)


def main(folder: str, parent_pid: int, held_fds: Sequence[int] = ()) -> int:
    """Keep one machine; see the module's text."""
    if os.fork() != 0:
        os._exit(0)  # belongs to init, so that it never becomes a zombie of who started it
    os.chdir("/")  # stands in no folder's way
    keeper = Keeper(folder, parent_pid, held_fds)
    try:
        keeper.run()
    finally:
        keeper.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), [int(fd) for fd in sys.argv[3:]]))
