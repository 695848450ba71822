"""A peer that goes away: noticed in seconds, reported as such, and a new connection works once it is back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bench import Bench, eventually
from support.sshd import Sshd, running_sshd

from harness.connect.liveness import DEAD_AFTER_S
from harness.connect.ssh import SshConnection
from harness.errors import ConnectionLost, DeadlineExceeded

LONG_S = 240.0  # far more than it takes to notice: whoever waited for it would be told DeadlineExceeded
ENDLESS = ["sh", "-c", "while echo; do sleep 1; done"]  # until nobody takes its output


Silence = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def silence(request: pytest.FixtureRequest, ssh_bench: Bench) -> Silence:
    """What makes the device go silent without closing anything."""
    if ssh_bench.kind == "ssh":
        server: Sshd = request.getfixturevalue("sshd")
        return server.sessions_stopped
    machine = request.getfixturevalue("emulated_machine")

    @contextlib.contextmanager
    def cable_pulled() -> Iterator[None]:
        machine.set_link(False)
        try:
            yield
        finally:
            machine.set_link(True)

    return cable_pulled


def test_silence_is_noticed_by_whoever_waits(ssh_bench: Bench, silence: Silence, tmp_path: Path) -> None:
    """One silence for all: a read, a command and a push wait for it at the same time."""
    with open(tmp_path / "big", "wb") as big:
        big.truncate(8_000_000_000)  # more than any device takes in some seconds
    connection = ssh_bench.open()
    home = connection.home()
    process = connection.start(["cat"])
    errors: dict[str, BaseException] = {}
    started = threading.Barrier(4)

    def wait_in(name: str, call: Callable[[], object]) -> threading.Thread:
        def body() -> None:
            started.wait()
            try:
                call()
            except BaseException as error:
                errors[name] = error
                if not isinstance(error, Exception):
                    raise

        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        return thread

    waiting = [
        wait_in("read", lambda: process.read(1, timeout_s=LONG_S)),
        wait_in("run", lambda: connection.run(ENDLESS, timeout_s=LONG_S)),
        wait_in("push", lambda: connection.push(tmp_path / "big", f"{home}/dead-peer", timeout_s=LONG_S)),
    ]
    started.wait()
    with silence():
        for thread in waiting:
            thread.join()
        assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(
            ("read", "run", "push"), ConnectionLost
        )
        assert f"silent for {DEAD_AFTER_S:.0f} s" in str(errors["read"])  # in seconds that this host ran
        with pytest.raises(ConnectionLost, match="silent for"):
            connection.run(["true"], timeout_s=LONG_S)
        connection.close()
    again = ssh_bench.open()
    assert again.run(["echo", "back"], timeout_s=LONG_S).stdout == b"back\n"
    again.run(["find", home, "-name", ".harness-*.part", "-delete"], timeout_s=LONG_S)
    again.close()


def test_a_session_that_ends_is_noticed_at_once(tmp_path: Path) -> None:
    with running_sshd(tmp_path) as sshd:
        connection = SshConnection("board", sshd.address(), home=str(tmp_path))
        process = connection.start(["sh", "-c", "echo $$; cat"])
        pid = int(process.read(100, timeout_s=LONG_S))
        sshd.end_sessions()
        with pytest.raises(ConnectionLost, match="closed the connection"):
            process.read(1, timeout_s=LONG_S)
        with pytest.raises(ConnectionLost):
            connection.run(["true"], timeout_s=LONG_S)
        connection.close()
        # what reads its input ends with the connection, as the agent does
        assert eventually(lambda: not Path(f"/proc/{pid}/fd/0").exists())


def test_a_short_silence_is_survived(tmp_path: Path) -> None:
    with running_sshd(tmp_path) as sshd:
        connection = SshConnection("board", sshd.address(), home=str(tmp_path))
        process = connection.start(["cat"])
        with sshd.sessions_stopped():
            process.write(b"x", timeout_s=LONG_S)
            with pytest.raises(DeadlineExceeded, match=r"timeout_s = 0\.5"):
                process.read(1, timeout_s=0.5)
        assert process.read(1, timeout_s=LONG_S) == b"x"
        connection.close()
