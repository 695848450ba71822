import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.emulation import console
from harness.errors import ConnectionLost, DeadlineExceeded, DeviceError

Guest = Callable[[str], bytes]


@pytest.fixture
def guest(tmp_path, monkeypatch) -> Iterator[Callable[[Guest], Path]]:
    """Start a guest that answers each request line as the given function says."""
    monkeypatch.setattr(console, "RESEND_S", 0.05)
    servers = []

    def start(answer: Guest) -> Path:
        # deeper than a socket address may be long
        folder = tmp_path / ("d" * 100)
        folder.mkdir()
        here = socket.socket(socket.AF_UNIX)
        short = tmp_path / "s"
        here.bind(str(short))
        short.rename(folder / "console.sock")
        here.listen(1)
        servers.append(here)

        def serve() -> None:
            try:
                stream, _ = here.accept()
            except OSError:  # the test is over
                return
            with stream, stream.makefile("r") as lines, contextlib.suppress(ConnectionError):
                for line in lines:
                    if line.strip():
                        stream.sendall(answer(line.strip()))

        threading.Thread(target=serve, daemon=True).start()
        return folder / "console.sock"

    yield start
    for server in servers:
        server.close()


def _request(path: Path, timeout_s: float = 5.0, alive: Callable[[], bool] = lambda: True) -> None:
    console.request(path, "rpi4", lambda request_id: f"sync {request_id}", timeout_s=timeout_s, alive=alive)


def test_an_ok_ends_the_request_whatever_the_kernel_prints_between(guest):
    _request(guest(lambda line: f"[ 1.0] noise\r\nHIL {line.split()[1]} ok\r\n[ 2".encode()))


def test_an_unanswered_request_is_sent_again(guest):
    lines: list[str] = []

    def answer(line: str) -> bytes:
        lines.append(line)
        return b"" if len(lines) < 3 else f"HIL {line.split()[1]} ok\n".encode()

    _request(guest(answer))
    assert len(lines) == 3
    assert len(set(lines)) == 1


def test_a_refusal_that_repeats_is_an_error(guest):
    with pytest.raises(DeviceError, match="rpi4: the guest answered `failed`, expected `ok`"):
        _request(guest(lambda line: f"HIL {line.split()[1]} failed\n".encode()))


def test_silence_ends_with_the_machine(guest):
    path = guest(lambda line: b"")
    with pytest.raises(ConnectionLost, match="ended"):
        _request(path, alive=lambda: False)


def test_silence_ends_at_the_deadline(guest):
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.2 s"):
        _request(guest(lambda line: b"HIL other ok\n"), timeout_s=0.2)


def test_readiness_is_what_the_guest_prints(tmp_path):
    log = tmp_path / "console.log"
    assert not console.is_ready(log)
    log.write_bytes(b"booting\r\n\r\nHIL control ready\r\n")
    assert console.is_ready(log)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_an_answer_is_found_only_when_its_line_is_whole(before, after):
    line = b"HIL 1f-2 ok\n"
    assert console.parse_answer(before + b"\n" + line + after, "1f-2") == "ok"
    assert console.parse_answer(line[:-1], "1f-2") is None
    assert console.parse_answer(line, "1f-3") is None
