"""Small parts that every connection shares: deadlines, the tail of stderr, running a command to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.connect.base import Completed, Process
from harness.errors import CommandFailed, ConfigError, ConnectionLost, DeadlineExceeded, HarnessError

STDERR_TAIL_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
TERM_GRACE_S = 2.0
"""How long a process group has between TERM and KILL."""
LAST_WORDS_S = 0.5
"""How long an error waits for the exit code and stderr that explain it."""


class Deadline:
    """A point on the monotonic clock. `limit_s` is kept for messages."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end_s = time.monotonic() + limit_s

    def remaining_s(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self._end_s - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end_s


class StderrBuffer:
    """What a process wrote to stderr: all of it, or only the last `limit_bytes`. Safe between threads."""

    def __init__(self, limit_bytes: int | None = STDERR_TAIL_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        with self._lock:
            self._data += data
            if self._limit_bytes is not None and len(self._data) > 2 * self._limit_bytes:
                del self._data[: -self._limit_bytes]

    def value(self) -> bytes:
        with self._lock:
            return bytes(self._data if self._limit_bytes is None else self._data[-self._limit_bytes :])


class PipedProcess(Process, Protocol):
    """What `run_to_end` needs beyond the public contract."""

    stderr: StderrBuffer

    def close_stdin(self) -> None:
        """Deliver end of file on its stdin. Safe to call twice, and after the process has gone."""

    def wait(self, timeout_s: float) -> int:
        """Return its exit code once all it wrote to stderr is in `stderr`. Raises DeadlineExceeded."""


class StdinClosed(ConnectionLost):
    """The process no longer reads its stdin. Not an error while a command is run to its end."""


def check_argv(argv: Sequence[str], env: Mapping[str, str] | None, where: str) -> tuple[str, ...]:
    """Return `argv` as a tuple. Raises ConfigError for what no command line can carry."""
    problems = []
    if isinstance(argv, str) or not argv or not argv[0]:
        problems.append(f"a command must be a non-empty list of arguments, got {argv!r}")
    elif any("\0" in argument for argument in argv):
        problems.append(f"an argument holds a NUL byte, which no command line can carry: {argv!r}")
    for name, value in (env or {}).items():
        if not name or "=" in name or "\0" in name + value:
            problems.append(f"environment variable {name!r}={value!r}: empty name, `=` in the name, or NUL")
    if problems:
        raise ConfigError(problems, where=where)
    return tuple(argv)


def describe_argv(argv: Sequence[str]) -> str:
    """Return a command line short enough for a message."""
    text = " ".join(argv)
    return text if len(text) <= 120 else text[:117] + "…"


def run_to_end(
    process: PipedProcess,
    argv: tuple[str, ...],
    *,
    stdin: bytes,
    deadline: Deadline,
    where: str,
    check: bool,
) -> Completed:
    """Return the finished command's output and exit code; `process` is closed in any case.

    stdin is fed by a thread of its own while stdout is read here and stderr by the process's own
    thread, so that no order of reading and writing at the far end can block both sides.
    """
    feeder = _StdinFeeder(process, stdin, deadline)
    stdout = bytearray()
    try:
        feeder.start()
        while chunk := process.read(CHUNK_BYTES, timeout_s=deadline.remaining_s()):
            stdout += chunk
        returncode = process.wait(deadline.remaining_s())
    except DeadlineExceeded as inner:
        error = DeadlineExceeded(
            f"`{describe_argv(argv)}` has not finished after {deadline.limit_s:g} s "
            f"(timeout_s = {deadline.limit_s:g}), with {len(stdout)} bytes on stdout; "
            "its process group was ended.",
            where=where,
            next_step="Check the load on the device, or allow more time.",
        )
        _close_after(process, error)
        raise error from inner
    except BaseException as error:
        _close_after(process, error)
        raise
    process.close()
    feeder.join(TERM_GRACE_S)
    if feeder.error is not None:
        raise feeder.error
    completed = Completed(argv, returncode, bytes(stdout), process.stderr.value())
    if check and returncode != 0:
        stderr = completed.stderr[-STDERR_TAIL_BYTES:].decode("utf-8", "replace")
        raise CommandFailed(argv, returncode, stderr, where=where)
    return completed


def _close_after(process: Process, error: BaseException) -> None:
    """Close `process` because of `error`, which a failure to close must not hide."""
    try:
        process.close()
    except HarnessError as second:
        error.add_note(f"and then: {second}")


class _StdinFeeder(threading.Thread):
    """Writes stdin and ends it. A command that doesn't read its input to the end is not an error."""

    def __init__(self, process: PipedProcess, data: bytes, deadline: Deadline) -> None:
        super().__init__(name="stdin-feeder", daemon=True)
        self._process, self._data, self._deadline = process, data, deadline
        self.error: HarnessError | None = None

    def run(self) -> None:
        try:
            if self._data:
                self._process.write(self._data, timeout_s=self._deadline.remaining_s())
        except (StdinClosed, DeadlineExceeded):
            return  # the reader meets the same deadline and reports it
        except HarnessError as error:
            self.error = error
        else:
            self._process.close_stdin()
