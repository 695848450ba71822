"""A command on an SSH channel, in a process group of its own that can be ended."""

from __future__ import annotations

import secrets
import shlex
import signal
import threading
from collections.abc import Mapping

import paramiko

from harness.connect.ssh_open import Link
from harness.connect.streams import (
    CHUNK_BYTES,
    LAST_WORDS_S,
    STDERR_TAIL_BYTES,
    TERM_GRACE_S,
    Deadline,
    StderrBuffer,
    StdinClosed,
    describe_argv,
)
from harness.errors import ConfigError, ConnectionLost, DeadlineExceeded, DeviceError, Unsupported

_SLICE_S = 0.1  # how soon a blocked read or write notices that its process was closed
_START_TIMEOUT_S = 30.0  # chosen: a shell on a slow, busy board
_KILLED = 128 + signal.SIGKILL
_WINDOW_BYTES = 8 << 20
_PACKET_BYTES = 32 << 10  # RFC 4253, 6.1: what every implementation takes
_MAX_NOISE_BYTES = 64 << 10
# Linux, MAX_ARG_STRLEN: the longest single argument, and sshd hands the command to a shell as one
_MAX_COMMAND_BYTES = (128 << 10) - 1

# A closed channel leaves remote processes alive, and a shell reports a signal only as 128 + n; so each
# command runs under this. Arguments: the script below, a mark, the command. sshd gives each command a
# session of its own (session.c, do_exec_no_pty); where another server doesn't, setsid(1) does.
# proc(5): the fifth field of `stat` is the process group; "(sh)" holds no space.
_BOOT = (
    'read -r _ _ _ _ g _ </proc/$$/stat; s=$1; shift; '
    'if [ "$g" = "$$" ]; then eval "$s"; else exec setsid sh -c "$s" sh "$@"; fi'
)
# The shell takes TERM with its group, reports the command's exit code and ends what it left in the group.
# `exec` in a subshell keeps builtins out: `echo` and `printf` are the programs, as everywhere else.
_SUPERVISE = (
    "printf '%s %s\\n' \"$1\" \"$$\"; shift; trap : TERM INT HUP; "
    '( exec "$@" ); r=$?; trap "" TERM; kill -TERM 0 2>/dev/null; exit $r'
)
# `kill -TERM -- -1` is what POSIX has, but dash's own kill knows no `--` behind a signal's name. A group
# of zombies counts as ended: in a container nobody may reap them. (proc(5): state, parent, group.)
_END_GROUP = (
    'g=$1; kill -TERM "-$g" 2>/dev/null || exit 0; i=0; '
    'while [ $i -lt 20 ] && kill -0 "-$g" 2>/dev/null; do '
    "cat /proc/[0-9]*/stat 2>/dev/null | "
    "awk -v g=\"$g\" '{sub(/.*[)] /, \"\")} $3 == g && $1 !~ /[ZX]/ {n = 1} END {exit !n}'; "
    "[ $? -eq 1 ] && break; sleep 0.1; i=$((i+1)); done; "
    'kill -KILL "-$g" 2>/dev/null; exit 0'
)


def compute_command(argv: tuple[str, ...], env: Mapping[str, str] | None, mark: str) -> bytes:
    """Return the one command line that starts `argv` remotely, quoted once. Raises ConfigError."""
    # sshd drops the environment a client sends unless AcceptEnv names it, so env(1) sets it
    prefix = ["env", *(f"{name}={value}" for name, value in env.items())] if env else []
    words = ["sh", "-c", _BOOT, "sh", _SUPERVISE, mark, *prefix, *argv]
    command = f"exec {shlex.join(words)}".encode("utf-8", "surrogateescape")
    if len(command) > _MAX_COMMAND_BYTES:
        raise ConfigError(
            f"`{describe_argv(argv)}` makes a command line of {len(command)} bytes, "
            f"at most {_MAX_COMMAND_BYTES} can be passed; hand the data over on stdin."
        )
    return command


def open_channel(link: Link, where: str) -> paramiko.Channel:
    """Return a new session channel. Raises ConnectionLost, or Unsupported past the server's limit."""
    try:
        return link.transport.open_session(_WINDOW_BYTES, _PACKET_BYTES, timeout=_START_TIMEOUT_S)
    except paramiko.ChannelException as error:
        raise Unsupported(
            f"{link.address} refuses another session on this connection ({error.text}).",
            where=where,
            next_step="Close a process first, or raise MaxSessions in its sshd_config (10 by default).",
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise connection_lost(link, where, error) from error


def connection_lost(link: Link, where: str, error: BaseException | None = None) -> ConnectionLost:
    reason = link.lost() or (str(error) if error is not None else "") or "the channel ended early"
    return ConnectionLost(
        f"lost {link.address}: {reason}.",
        where=where,
        next_step="Check the board's power and link, then try again.",
    )


class SshProcess:
    """A remote command with binary pipes, as `base.Process` has it."""

    def __init__(
        self,
        link: Link,
        argv: tuple[str, ...],
        *,
        where: str,
        env: Mapping[str, str] | None,
        stderr_limit_bytes: int | None = STDERR_TAIL_BYTES,
    ) -> None:
        self._link, self._argv, self._where = link, argv, where
        self.stderr = StderrBuffer(stderr_limit_bytes)
        self._mark = f"harness-{secrets.token_hex(8)}"
        command = compute_command(argv, env, self._mark)
        self._closing, self._close_lock = False, threading.Lock()
        self._final_code: int | None = None
        self._stdin_open = True
        self._pending = b""
        self._channel = open_channel(link, where)
        self._drain = threading.Thread(target=self._drain_stderr, name=f"{argv[0]}-stderr", daemon=True)
        try:
            self._channel.settimeout(_SLICE_S)
            self._channel.exec_command(command)
            self._drain.start()
            self._group = self._read_group()
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._channel.close()
            raise connection_lost(link, where, error) from error
        except BaseException:
            self._channel.close()
            raise

    def write(self, data: bytes, *, timeout_s: float) -> None:
        deadline, view = Deadline(timeout_s), memoryview(data)
        while view:
            # what fits into the channel's window is accepted also when nobody is left to read it
            if self._closing or not self._stdin_open or self._channel.exit_status_ready():
                raise self._stdin_closed()
            try:
                # paramiko's sendall copies the rest for each packet: 50 MB took 14 s
                view = view[self._channel.send(bytes(view[:_PACKET_BYTES])) :]
            except TimeoutError:
                if deadline.passed:
                    raise self._deadline_exceeded("took no more input", deadline) from None
            except OSError as error:
                self._settle()
                if self._link.lost() is not None:
                    raise connection_lost(self._link, self._where, error) from error
                raise self._stdin_closed() from None

    def read(self, max_bytes: int, *, timeout_s: float) -> bytes:
        if self._pending:
            data, self._pending = self._pending[:max_bytes], self._pending[max_bytes:]
            return data
        deadline = Deadline(timeout_s)
        while True:
            try:
                data = self._channel.recv(max_bytes)
            except TimeoutError:
                if deadline.passed:
                    raise self._deadline_exceeded("wrote nothing", deadline) from None
                continue
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise connection_lost(self._link, self._where, error) from error
            if not data and not self._closing:
                self._check_end_of_file()
            return data

    def read_stderr(self) -> str:
        return self.stderr.value()[-STDERR_TAIL_BYTES:].decode("utf-8", "replace")

    def poll(self) -> int | None:
        if self._final_code is not None:
            return self._final_code
        if not self._channel.exit_status_ready():
            return None
        code = self._channel.exit_status
        if code >= 0:
            return code
        self._settle()
        if self._link.lost() is not None:
            raise connection_lost(self._link, self._where)
        # no exit status: a signal ended the supervising shell too, which only KILL can do
        return _KILLED

    def wait(self, timeout_s: float) -> int:
        deadline = Deadline(timeout_s)
        self._channel.status_event.wait(deadline.remaining_s())
        self._drain.join(deadline.remaining_s())
        code = self.poll()
        if code is None or self._drain.is_alive():
            raise self._deadline_exceeded("is still running", deadline)
        return code

    def close_stdin(self) -> None:
        self._stdin_open = False
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError, paramiko.SSHException):
            return  # the channel has ended, and with it stdin

    def close(self) -> None:
        with self._close_lock:
            if self._closing:
                return
            self._closing = True
            try:
                over = self._channel.exit_status >= 0 and self._channel.eof_received
                if not over and self._link.lost() is None:
                    self._end_group()
            finally:
                if self._channel.exit_status < 0 and self._link.lost() is None:
                    self._final_code = _KILLED
                self._channel.close()

    def _end_group(self) -> None:
        """End the remote group over another channel: TERM, up to 2 s of grace, KILL."""
        try:
            self._run_end_group(self._link)
        except Unsupported:  # the server's limit of sessions is reached: another connection has its own
            link = self._link.reopen()
            try:
                self._run_end_group(link)
            finally:
                link.close()
        self._channel.status_event.wait(TERM_GRACE_S)
        if not self._channel.exit_status_ready() and self._link.lost() is None:
            raise DeviceError(
                f"process group {self._group} (`{describe_argv(self._argv)}`) did not end.",
                where=self._where,
                next_step=f"End it on the device: kill -KILL -{self._group}",
            )

    def _run_end_group(self, link: Link) -> None:
        channel = open_channel(link, self._where)
        try:
            channel.exec_command(shlex.join(["sh", "-c", _END_GROUP, "sh", str(self._group)]))
            channel.status_event.wait(TERM_GRACE_S + _START_TIMEOUT_S)
        except (paramiko.SSHException, EOFError) as error:
            raise connection_lost(link, self._where, error) from error
        finally:
            channel.close()

    def _read_group(self) -> int:
        """Return the remote process group, from the line that the supervising shell writes first.

        A login shell's own chatter before that line is skipped; what follows it is kept for `read`.
        """
        deadline, data = Deadline(_START_TIMEOUT_S), b""
        start = f"{self._mark} ".encode()
        while len(data) < _MAX_NOISE_BYTES:
            chunk = self.read(CHUNK_BYTES, timeout_s=deadline.remaining_s())
            if not chunk:
                break
            data += chunk
            _, found, rest = data.partition(start)
            group, newline, after = rest.partition(b"\n")
            if found and newline:
                self._pending = after
                return int(group)
        self._drain.join(_SLICE_S)
        output = (self.read_stderr().strip() or data.decode("utf-8", "replace").strip())[-400:]
        raise DeviceError(
            f"{self._link.address} lets us in but doesn't run commands: {output or '(no output)'}",
            where=self._where,
            next_step="Check the account's login shell, and that sh and setsid are on its PATH.",
        )

    def _drain_stderr(self) -> None:
        while True:
            try:
                data = self._channel.recv_stderr(CHUNK_BYTES)
            except TimeoutError:
                continue
            except (paramiko.SSHException, EOFError, OSError):
                return  # the connection is gone, which whoever reads or writes reports
            if not data:
                return
            self.stderr.append(data)

    def _check_end_of_file(self) -> None:
        """Return if stdout ended in good order. Raises ConnectionLost when the connection did instead."""
        if self._channel.eof_received or self._channel.exit_status >= 0:
            return
        self._settle()
        if self._link.lost() is not None:
            raise connection_lost(self._link, self._where)

    def _settle(self) -> None:
        """Wait until a closing transport says so: paramiko ends its channels a moment before itself."""
        if not (self._channel.eof_received or self._channel.exit_status >= 0):
            self._link.transport.join(_SLICE_S)

    def _stdin_closed(self) -> StdinClosed:
        """Return the error, with the exit code and last words of a process that ends at this moment."""
        if not self._closing:
            self._channel.status_event.wait(LAST_WORDS_S)
            self._drain.join(LAST_WORDS_S)
        state = "was closed" if self._closing else f"reads no more input (exit code {self.poll()})"
        stderr = self.read_stderr().strip()[-400:] or "(empty)"
        return StdinClosed(f"`{describe_argv(self._argv)}` {state}; stderr: {stderr}", where=self._where)

    def _deadline_exceeded(self, what: str, deadline: Deadline) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"`{describe_argv(self._argv)}` {what} for {deadline.limit_s:g} s "
            f"(timeout_s = {deadline.limit_s:g}).",
            where=self._where,
            next_step="Check the load on the device, or allow more time.",
        )
