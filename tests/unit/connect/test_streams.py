"""Deadlines, the tail of stderr, and running a scripted process to its end."""

from __future__ import annotations

import pytest

from harness.connect.streams import (
    STDERR_TAIL_BYTES,
    Deadline,
    StderrBuffer,
    StdinClosed,
    check_argv,
    describe_argv,
    run_to_end,
)
from harness.errors import CommandFailed, ConfigError, ConnectionLost, DeadlineExceeded

ARGV = ("tool", "x")


class ScriptedProcess:
    """Plays back stdout; an exception in the script is raised."""

    def __init__(
        self, stdout: list[bytes | Exception], code: int = 0, write_error: Exception | None = None
    ) -> None:
        self.script, self.code, self.write_error = list(stdout), code, write_error
        self.stderr = StderrBuffer(None)
        self.written = b""
        self.stdin_closed = self.closed = False

    def write(self, data: bytes, *, timeout_s: float) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.written += data

    def read(self, max_bytes: int, *, timeout_s: float) -> bytes:
        item = self.script.pop(0) if self.script else b""
        if isinstance(item, BaseException):
            raise item
        return item

    def read_stderr(self) -> str:
        return self.stderr.value().decode()

    def poll(self) -> int | None:
        return self.code

    def wait(self, timeout_s: float) -> int:
        return self.code

    def close_stdin(self) -> None:
        self.stdin_closed = True

    def close(self) -> None:
        self.closed = True


def run(process: ScriptedProcess, stdin: bytes = b"", check: bool = True) -> bytes:
    done = run_to_end(process, ARGV, stdin=stdin, deadline=Deadline(5), where="dev", check=check)
    return done.stdout


def test_output_is_put_together_and_stdin_is_ended() -> None:
    process = ScriptedProcess([b"a", b"bc"])
    assert run(process, stdin=b"in") == b"abc"
    assert (process.written, process.stdin_closed, process.closed) == (b"in", True, True)


def test_a_failure_raises_only_when_it_is_to_be_checked() -> None:
    assert run(ScriptedProcess([b"x"], code=2), check=False) == b"x"
    process = ScriptedProcess([], code=2)
    process.stderr.append(b"bad thing\n")
    with pytest.raises(CommandFailed, match="dev: tool exited with 2, expected 0: bad thing"):
        run(process)


def test_a_deadline_says_how_far_it_came_and_closes() -> None:
    process = ScriptedProcess([b"12345", DeadlineExceeded("inner")])
    with pytest.raises(DeadlineExceeded, match=r"`tool x` has not finished after 5 s .* 5 bytes on stdout"):
        run(process)
    assert process.closed


@pytest.mark.parametrize("error", [ConnectionLost("gone"), KeyboardInterrupt()])
def test_whatever_ends_it_closes_the_process(error: BaseException) -> None:
    process = ScriptedProcess([b"1", error])
    with pytest.raises(type(error)):
        run(process)
    assert process.closed


def test_input_that_is_not_read_is_no_error() -> None:
    assert run(ScriptedProcess([b"ok"], write_error=StdinClosed("closed")), stdin=b"in") == b"ok"


def test_a_connection_lost_while_writing_is_reported() -> None:
    with pytest.raises(ConnectionLost, match="cut"):
        run(ScriptedProcess([b"ok"], write_error=ConnectionLost("cut")), stdin=b"in")


def test_stderr_keeps_its_end() -> None:
    buffer = StderrBuffer()
    for _ in range(100):
        buffer.append(b"x" * 10_000)
    buffer.append(b"end")
    assert len(buffer.value()) == STDERR_TAIL_BYTES
    assert buffer.value().endswith(b"xend")


def test_all_of_stderr_where_no_limit_is_set() -> None:
    buffer = StderrBuffer(None)
    for _ in range(100):
        buffer.append(b"x" * 10_000)
    assert len(buffer.value()) == 1_000_000


def test_problems_of_a_command_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        check_argv([], {"": "x", "A=B": "y", "OK": "1", "NUL": "\0"}, "dev")
    assert len(caught.value.problems) == 4


def test_a_long_command_is_cut_in_messages() -> None:
    assert len(describe_argv(["x" * 1000])) <= 120


def test_a_failure_to_close_does_not_hide_the_first_error() -> None:
    process = ScriptedProcess([DeadlineExceeded("inner")])

    def fail() -> None:
        raise ConnectionLost("no way to end it")

    process.close = fail  # type: ignore[method-assign]
    with pytest.raises(DeadlineExceeded) as caught:
        run(process)
    assert caught.value.__notes__ == ["and then: no way to end it"]
