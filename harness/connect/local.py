"""This host as a device: commands in process groups of their own, files by copy and rename. No SSH."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness import cache
from harness.connect import files
from harness.connect.base import Completed, Progress
from harness.connect.streams import (
    CHUNK_BYTES,
    LAST_WORDS_S,
    STDERR_TAIL_BYTES,
    TERM_GRACE_S,
    Deadline,
    StderrBuffer,
    StdinClosed,
    check_argv,
    describe_argv,
    run_to_end,
)
from harness.errors import DeadlineExceeded, DeviceError
from harness.model import Device

_POLL_SLICE_MS = 100  # how soon a blocked read or write notices that its process was closed
# A shell reports a command it can't execute on stderr, with 126 or 127 (POSIX, Shell Command Language 2.8.2).
_CANNOT_EXECUTE = 'printf "%s: %s\\n" "$1" "$2" >&2; exit "$3"'


class LocalProcess:
    """A child in its own session. Its first process stays unreaped until `close`, so its group id can't
    be given to anyone else before the group has been ended."""

    def __init__(
        self,
        argv: tuple[str, ...],
        *,
        where: str,
        env: Mapping[str, str] | None,
        cwd: str,
        stderr_limit_bytes: int | None = STDERR_TAIL_BYTES,
    ) -> None:
        self._argv, self._where = argv, where
        self.stderr = StderrBuffer(stderr_limit_bytes)
        self._popen = _spawn(argv, env, cwd)
        self._stdin_fd, self._stdout_fd, self._stderr_fd = _detach_pipes(self._popen)
        self._stdin_lock, self._stdout_lock = threading.Lock(), threading.Lock()
        self._closing = False
        self._close_lock = threading.Lock()
        self._returncode: int | None = None
        self._exited = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"{argv[0]}-{name}", daemon=True)
            for target, name in ((self._watch_exit, "exit"), (self._drain_stderr, "stderr"))
        ]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # Ctrl-C while a thread starts: nobody else knows of the process yet
            self._signal_group(signal.SIGKILL)
            raise

    def write(self, data: bytes, *, timeout_s: float) -> None:
        deadline, view = Deadline(timeout_s), memoryview(data)
        with self._stdin_lock:
            while view:
                if self._closing or self._stdin_fd < 0:
                    raise self._stdin_closed()
                if not _ready(self._stdin_fd, select.POLLOUT, deadline):
                    if deadline.passed:
                        raise self._deadline_exceeded("took no more input", deadline)
                    continue
                try:
                    view = view[os.write(self._stdin_fd, view[:CHUNK_BYTES]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise self._stdin_closed() from None

    def read(self, max_bytes: int, *, timeout_s: float) -> bytes:
        deadline = Deadline(timeout_s)
        with self._stdout_lock:
            while not self._closing:
                if _ready(self._stdout_fd, select.POLLIN, deadline):
                    return os.read(self._stdout_fd, max_bytes)
                if deadline.passed:
                    raise self._deadline_exceeded("wrote nothing", deadline)
        return b""

    def read_stderr(self) -> str:
        return self.stderr.value()[-STDERR_TAIL_BYTES:].decode("utf-8", "replace")

    def poll(self) -> int | None:
        return self._returncode

    def wait(self, timeout_s: float) -> int:
        deadline = Deadline(timeout_s)
        for thread in self._threads:
            thread.join(deadline.remaining_s())
        if self._returncode is None or self._threads[1].is_alive():
            raise self._deadline_exceeded("is still running", deadline)
        return self._returncode

    def close_stdin(self) -> None:
        with self._stdin_lock:
            if self._stdin_fd >= 0:
                os.close(self._stdin_fd)
                self._stdin_fd = -1

    def close(self) -> None:
        with self._close_lock:
            if self._closing:
                return
            self._closing = True
            try:
                self._end_group()
            finally:
                self.close_stdin()
                with self._stdout_lock:
                    os.close(self._stdout_fd)

    def _end_group(self) -> None:
        """End the whole group: TERM, up to 2 s of grace, KILL."""
        grace = Deadline(TERM_GRACE_S)
        self._signal_group(signal.SIGTERM)
        self._exited.wait(grace.remaining_s())
        if self._exited.is_set():
            self._popen.wait()  # reaped, so that only what is left of the group still counts as alive
        while self._signal_group(0) and not grace.passed and _has_living_member(self._popen.pid):
            time.sleep(0.01)
        self._signal_group(signal.SIGKILL)
        if not self._exited.wait(TERM_GRACE_S):
            raise DeviceError(
                f"process {self._popen.pid} (`{describe_argv(self._argv)}`) survives SIGKILL.",
                where=self._where,
                next_step="It waits inside the kernel: check the host's disks and mounts.",
            )
        self._popen.wait()

    def _signal_group(self, number: int) -> bool:
        """Signal the group; return False once nothing of it is left."""
        try:
            os.killpg(self._popen.pid, number)
        except (ProcessLookupError, PermissionError):
            return False  # EPERM: a group that changed its user can't be ended by us
        return True

    def _watch_exit(self) -> None:
        """Wait for the first process, leaving it unreaped, then end what it left behind in its group."""
        status = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        if status is not None:
            self._returncode = status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status
        self._signal_group(signal.SIGTERM)
        self._exited.set()

    def _drain_stderr(self) -> None:
        try:
            while not self._closing:
                if _ready(self._stderr_fd, select.POLLIN, Deadline(_POLL_SLICE_MS / 1000)):
                    data = os.read(self._stderr_fd, CHUNK_BYTES)
                    if not data:
                        return
                    self.stderr.append(data)
        finally:
            os.close(self._stderr_fd)

    def _stdin_closed(self) -> StdinClosed:
        """Return the error, with the exit code and last words of a process that ends at this moment."""
        for thread in () if self._closing else self._threads:
            thread.join(LAST_WORDS_S)
        state = "was closed" if self._closing else f"reads no more input (exit code {self._returncode})"
        stderr = self.read_stderr().strip()[-400:] or "(empty)"
        return StdinClosed(f"`{describe_argv(self._argv)}` {state}; stderr: {stderr}", where=self._where)

    def _deadline_exceeded(self, what: str, deadline: Deadline) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"`{describe_argv(self._argv)}` {what} for {deadline.limit_s:g} s "
            f"(timeout_s = {deadline.limit_s:g}).",
            where=self._where,
            next_step="Check the load on the host, or allow more time.",
        )


def _spawn(argv: tuple[str, ...], env: Mapping[str, str] | None, cwd: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **(env or {})}

    def popen(command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )

    try:
        return popen(argv)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC):
            raise DeviceError(f"can't start `{describe_argv(argv)}`: {error.strerror}") from error
        found = error.errno in (errno.EACCES, errno.ENOEXEC)
        reason, code = (os.strerror(error.errno), "126") if found else ("not found", "127")
        return popen(["/bin/sh", "-c", _CANNOT_EXECUTE, "sh", argv[0], reason, code])


def _has_living_member(group: int) -> bool:
    """Return whether the process group holds more than zombies, which init may reap seconds later."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # proc(5): the name in parentheses may hold anything; then state, parent, process group
            state, _parent, process_group = path.read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if int(process_group) == group and state not in "ZX":
            return True
    return False


def _detach_pipes(popen: subprocess.Popen[bytes]) -> tuple[int, int, int]:
    """Return stdin, stdout and stderr as descriptors that are ours to close; stdin never blocks."""
    pipes = []
    for pipe in (popen.stdin, popen.stdout, popen.stderr):
        assert pipe is not None  # all three were asked for
        pipes.append(os.dup(pipe.fileno()))
        pipe.close()
    os.set_blocking(pipes[0], False)
    return pipes[0], pipes[1], pipes[2]


def _ready(descriptor: int, event: int, deadline: Deadline) -> bool:
    """Wait one slice for `descriptor`; errors and hang-ups count as ready: the next call reports them."""
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(min(_POLL_SLICE_MS, deadline.remaining_s() * 1000)))


class LocalConnection:
    """The contract of `base.Connection`, on this host."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._processes: weakref.WeakSet[LocalProcess] = weakref.WeakSet()

    @property
    def device_name(self) -> str:
        return self._device.name

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        command = check_argv(argv, env, self.device_name)
        deadline = Deadline(timeout_s)
        process = self._start(command, env, stderr_limit_bytes=None)
        try:
            return run_to_end(
                process, command, stdin=stdin, deadline=deadline, where=self.device_name, check=check
            )
        except BaseException:  # also one that comes before `run_to_end` has begun to look after it
            process.close()
            raise

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> LocalProcess:
        return self._start(check_argv(argv, env, self.device_name), env, stderr_limit_bytes=STDERR_TAIL_BYTES)

    def _start(
        self, argv: tuple[str, ...], env: Mapping[str, str] | None, *, stderr_limit_bytes: int | None
    ) -> LocalProcess:
        process = LocalProcess(
            argv, where=self.device_name, env=env, cwd=self.home(), stderr_limit_bytes=stderr_limit_bytes
        )
        self._processes.add(process)
        return process

    def push(self, source: Path, target: str, *, timeout_s: float, progress: Progress | None = None) -> None:
        files.check_absolute(target, self.device_name)
        self._copy(files.open_source(source), Path(target), timeout_s, progress, files.device_write_error)

    def pull(self, source: str, target: Path, *, timeout_s: float, progress: Progress | None = None) -> None:
        files.check_absolute(source, self.device_name)
        try:
            stream = io.FileIO(source)
        except OSError as error:
            raise files.device_read_error(self.device_name, source, error) from error
        self._copy(stream, target, timeout_s, progress, files.host_write_error)

    def _copy(
        self,
        stream: io.FileIO,
        target: Path,
        timeout_s: float,
        progress: Progress | None,
        describe: Callable[[str, str, OSError, int], Exception],
    ) -> None:
        deadline = Deadline(timeout_s)
        with stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            try:
                with files.replacing(target) as out:
                    files.copy(stream, out.write, size_bytes, deadline, progress, self.device_name)
            except OSError as error:
                raise describe(self.device_name, str(target), error, size_bytes) from error

    def home(self) -> str:
        configured = self._device.home
        path = Path(configured).expanduser() if configured else cache.root() / "local-device"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.device_write_error(self.device_name, str(path), error, 0) from error
        return str(path.absolute())

    def quiet(self) -> contextlib.AbstractContextManager[None]:
        """Nothing is sent here anyway; see `SshConnection.quiet`."""
        return contextlib.nullcontext()

    def close(self) -> None:
        for process in list(self._processes):
            process.close()
