"""A soak on an emulated board that suffers one fault after the other, and is collected meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.connect.qemu import QemuConnection, compute_address
from harness.connect.ssh import SshConnection
from harness.emulation import Machine
from harness.errors import TransientError
from harness.model import SoakTable
from harness.remote import AgentClient
from harness.remote.soak import SoakClient, SoakStatus
from harness.soak.collector import Collector, CollectSettings, Visit
from harness.soak.ledger import Ledger
from harness.soak.table import read_table
from support.bench import eventually
from support.device import emulated_device
from support.soaking import S, command_spec

TIMEOUT_S = 240.0  # only ends what hangs
EVERY_S = 0.2  # between two looks: each keeps the board busy
WINDOW_S = 0.5
BOXED_BYTES = 96 << 20
TIGHT_BYTES = 1 << 20  # less than any interpreter takes
# with the memory that fallocate(2) gives and takes at once; the last blocks one by one
_FILL = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
at = 0
for step in (1 << 26, 1 << 22, 1 << 16, 4096):
    while True:
        try:
            os.posix_fallocate(file, at, step)
        except OSError:
            break
        at += step
print(at)
"""
_STEP = "import sys, time; time.clock_settime(time.CLOCK_REALTIME, time.time() + float(sys.argv[1]))"


class Suffering:
    """A soak of two streams on `machine`: `main`, and `boxed`, which has a cgroup with a memory limit."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self._during_visit: Callable[[], None] | None = None  # done once, within the next visit
        self._board: QemuConnection | None = None
        self._open: SoakClient | None = None  # of `at_the_board`
        with self._login() as connection:
            made = connection.run(["mktemp", "-d", "-p", connection.home()], timeout_s=TIMEOUT_S)
            self.place = made.stdout.decode().strip()
            spec = command_spec(connection, self.place, folder, reboot=True)
            connection.run(["cp", f"{self.place}/doubling.py", f"{self.place}/boxed.py"], timeout_s=TIMEOUT_S)
            spec["streams"].append(_boxed(spec["streams"][0], f"{self.place}/boxed.py"))
            spec |= {"window_ns": int(WINDOW_S * S), "slice_ns": int(WINDOW_S * S)}
            with AgentClient.start(connection, timeout_s=TIMEOUT_S) as agent:
                soaks = SoakClient(agent)
                soaks.start(spec)
                # both children serve, and windows come
                assert eventually(lambda: soaks.status(spec["id"]).seq >= 4, TIMEOUT_S, EVERY_S)
                self.began = soaks.status(spec["id"])
        self.ledger = Ledger.create(folder / "soaks", spec, {})
        settings = CollectSettings(poll_s=0.3, longest_poll_s=1.0)
        self.collector = Collector(self.visit, self.ledger, settings=settings)

    @contextlib.contextmanager
    def _login(self) -> Iterator[QemuConnection]:
        """Open a connection of the board's user."""
        device = emulated_device(self.machine.name)
        with contextlib.closing(QemuConnection(device, self.machine, owns_machine=False)) as connection:
            yield connection

    @contextlib.contextmanager
    def _root(self) -> Iterator[SshConnection]:
        """Open a connection of the board's root user."""
        address = compute_address(self.machine, user="root")
        with contextlib.closing(SshConnection("root", address, hermetic=True)) as connection:
            yield connection

    @contextlib.contextmanager
    def visit(self) -> Iterator[SoakClient]:
        """Open the way that the collector goes: a connection and an agent of its own, or those at hand."""
        if self._open is not None:
            yield self._open
            return
        with self._login() as connection, AgentClient.start(connection, timeout_s=TIMEOUT_S) as agent:
            act, self._during_visit = self._during_visit, None
            if act is not None:
                act()
            yield SoakClient(agent)

    @contextlib.contextmanager
    def at_the_board(self) -> Iterator[None]:
        """Have one connection for all of the block: opening one takes a busy host seconds."""
        with self._login() as connection, AgentClient.start(connection, timeout_s=TIMEOUT_S) as agent:
            self._board, self._open = connection, SoakClient(agent)
            try:
                yield
            finally:
                self._board = self._open = None

    def collect(self) -> Visit:
        """Collect what there is; return the visit. Those that fail are tried again."""
        visits: list[Visit | None] = [None]

        def visited() -> bool:
            visits[0] = self.collector.visit_once()
            return visits[0] is not None

        assert eventually(visited, TIMEOUT_S, EVERY_S)
        assert visits[0] is not None
        return visits[0]

    def read(self) -> SoakTable:
        """Return all that was collected."""
        return read_table(self.ledger.folder)

    def wait_for(self, kind: str, count: int = 1, stream: str = "") -> None:
        """Collect until the device has told of so many such events."""

        def told() -> bool:
            self.collect()
            found = [e for e in self.read().events if e.kind == kind and stream in ("", e.stream)]
            return len(found) >= count

        assert eventually(told, TIMEOUT_S, EVERY_S), f"{kind}: {[e.kind for e in self.read().events]}"

    def wait_for_single_window(self) -> Visit:
        """Collect until a window has come that is no merged one; return a visit after it.

        On a busy host those that come late are merged, so no number of windows is sure to hold one.
        """
        known = len(self.read().merged)

        def came() -> bool:
            self.collect()
            return bool((self.read().merged[known:] == 1).any())

        assert eventually(came, TIMEOUT_S, EVERY_S)
        return self.collect()

    # the faults

    def cut_link(self) -> SoakStatus:
        """Cut the link in a visit until that takes the board for lost; return the status afterwards."""
        try:
            self._visit_in_vain(lambda: self.machine.set_link(False))
        finally:
            self.machine.set_link(True)
        return self.collect().status

    def kill_sshd(self) -> None:
        """Kill every sshd within a visit, the visit's own too; init starts another."""

        def kill() -> None:
            with contextlib.suppress(TransientError), self._root() as root:
                root.run(["pkill", "-KILL", "-x", "sshd"], timeout_s=TIMEOUT_S)

        self._visit_in_vain(kill)
        self.collect()

    def _visit_in_vain(self, act: Callable[[], None]) -> None:
        """Visit until `act` was done within a visit, which fails by it."""
        self._during_visit = act
        while self._during_visit is not None:
            assert self.collector.visit_once() is None

    def run(self, *argv: str, stdin: bytes = b"", check: bool = True) -> str:
        """Run a command as the board's user, within `at_the_board`; return what it printed."""
        assert self._board is not None
        return self._board.run(argv, stdin=stdin, timeout_s=TIMEOUT_S, check=check).stdout.decode().strip()

    def find_command(self, script: str) -> str:
        """Return the pid of the one command that runs `script`."""
        # the login's own shell has the pattern among its arguments too
        (pid,) = self.run("pgrep", "-f", f"^[^ ]*python3 -I -S [^ ]*/{script}$").split()
        return pid

    def crash_command(self, script: str) -> None:
        """Send SIGSEGV to the command."""
        self.run("kill", "-s", "SEGV", self.find_command(script))

    def crash_child(self, script: str) -> None:
        """Send SIGABRT to the child that drives the command."""
        self.run("kill", "-s", "ABRT", self.run("ps", "-o", "ppid=", "-p", self.find_command(script)))

    def tighten(self, script: str) -> None:
        """Give the command's group less memory than it has: the kernel kills all of it."""
        group = self.run("cat", f"/proc/{self.find_command(script)}/cgroup").removeprefix("0::")
        assert group.rpartition("/")[2].startswith("hil-"), group
        # its group may be removed before the write is answered
        self.run("tee", f"/sys/fs/cgroup{group}/memory.max", stdin=str(TIGHT_BYTES).encode(), check=False)

    @contextlib.contextmanager
    def clock_set(self, seconds: float) -> Iterator[None]:
        """Set the board's clock by so much for the block, and back."""
        with self._root() as root:
            root.run(["python3", "-c", _STEP, str(seconds)], timeout_s=TIMEOUT_S)
            yield
            root.run(["python3", "-c", _STEP, str(-seconds)], timeout_s=TIMEOUT_S)

    @contextlib.contextmanager
    def disk_full(self) -> Iterator[int]:
        """Take all the room that the board's user may have for the block; yield how many bytes that is."""
        path = f"{self.place}/filler"
        yield int(self.run("python3", "-c", _FILL, path))
        self.run("rm", path)


def _boxed(main: dict[str, Any], script: str) -> dict[str, Any]:
    (variant,) = main["variants"]
    options = {**variant["options"], "argv": ["python3", "-I", "-S", script]}
    limits = {"memory_max_bytes": BOXED_BYTES}
    return {**main, "name": "boxed", "variants": [{**variant, "options": options, "cgroup": limits}]}
