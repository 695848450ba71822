"""What every connection can do. `local`, `ssh` and `qemu` obey the same contract tests.

Commands are argument lists; a connection quotes them once. Everything that waits takes a deadline in
seconds. Nothing here knows what is run: that is deploy's and measure's job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


@dataclass(frozen=True)
class Completed:
    """A finished command. A process that a signal ended has `returncode` 128 + signal, as in a shell."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes


class Process(Protocol):
    """A running remote process with binary pipes. Closing it ends its whole process group."""

    def write(self, data: bytes, *, timeout_s: float) -> None:
        """Write all of `data` to its stdin. Raises ConnectionLost or DeadlineExceeded."""

    def read(self, max_bytes: int, *, timeout_s: float) -> bytes:
        """Return 1 to `max_bytes` bytes of its stdout, b"" at its end. Raises as `write` does."""

    def read_stderr(self) -> str:
        """Return what it has written to stderr so far (the last 64 KiB), without waiting."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs. Never waits."""

    def close(self) -> None:
        """End the remote process group: TERM, then KILL after 2 s. Safe to call twice."""


class Connection(Protocol):
    """A way to one device."""

    @property
    def device_name(self) -> str: ...

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        """Run a command to its end. With `check`, raises CommandFailed on a non-zero exit.

        Past `timeout_s` the remote process group is killed and DeadlineExceeded raised; when the peer is
        gone, ConnectionLost within seconds.
        """

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Process:
        """Start a command with binary pipes on stdin and stdout, in a process group of its own."""

    def push(self, source: Path, target: str, *, timeout_s: float, progress: Progress | None = None) -> None:
        """Copy a local file to the absolute remote path `target`, whole or not at all visible under
        that name (temporary name, rename). Parent folders must exist. Raises DeviceFull when it doesn't
        fit."""

    def pull(self, source: str, target: Path, *, timeout_s: float, progress: Progress | None = None) -> None:
        """Copy a remote file to a local path, under a temporary name first."""

    def home(self) -> str:
        """Return the absolute path of the folder on the device that belongs to the harness (created)."""

    def quiet(self) -> AbstractContextManager[None]:
        """Send nothing of its own accord inside the block: for timed windows, which keep-alives disturb.
        A peer that goes away meanwhile is noticed by the deadline of whoever waits."""

    def close(self) -> None:
        """Release the connection. Safe to call twice."""
