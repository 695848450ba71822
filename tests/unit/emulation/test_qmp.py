import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.emulation.qmp import Qmp
from harness.errors import ConnectionLost, DeadlineExceeded, DeviceError

VERSION = {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}
GREETING = {"QMP": {"version": VERSION, "capabilities": []}}


@pytest.fixture
def monitor(tmp_path) -> Iterator[Callable[[dict[str, Any]], Path]]:
    """Start a monitor whose answers are given per command; one without an answer is never answered."""
    server = socket.socket(socket.AF_UNIX)
    path = tmp_path / "qmp.sock"

    def start(answers: dict[str, Any]) -> Path:
        server.bind(str(path))
        server.listen(4)

        def serve() -> None:
            while True:
                try:
                    stream, _ = server.accept()
                except OSError:
                    return
                with stream, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    stream.sendall(json.dumps(GREETING).encode() + b"\r\n")
                    received = ""
                    while data := stream.recv(4096):
                        received += data.decode()
                        request, end = json.JSONDecoder().raw_decode(received)  # no newline between them
                        received = received[end:].lstrip()
                        answer = {"qmp_capabilities": {"return": {}}, **answers}.get(request["execute"])
                        if answer is not None:
                            same_id = {"id": request["id"]} if "id" in request else {}
                            stream.sendall(json.dumps({**answer, **same_id}).encode() + b"\r\n")

        threading.Thread(target=serve, daemon=True).start()
        return path

    yield start
    server.close()


def test_the_answer_is_returned_again_and_again(monitor):
    qmp = Qmp(monitor({"query-status": {"return": {"status": "running"}}}), "rpi4")
    assert [qmp.execute("query-status")["status"] for _ in range(3)] == ["running"] * 3


def test_it_works_inside_a_running_event_loop(monitor):
    qmp = Qmp(monitor({"human-monitor-command": {"return": "text\r\n"}}), "rpi4")

    async def caller() -> str:
        return qmp.hmp("info usernet")

    assert asyncio.run(caller()) == "text\r\n"


def test_a_refusal_names_the_machine_and_the_command(monitor):
    refusal = {"error": {"class": "GenericError", "desc": "Device 'nic9' not found"}}
    qmp = Qmp(monitor({"set_link": refusal}), "rpi4-07")
    with pytest.raises(DeviceError, match="rpi4-07: QEMU refused `set_link`: Device 'nic9' not found"):
        qmp.execute("set_link", {"name": "nic9", "up": True})


def test_silence_ends_at_the_deadline(monitor):
    qmp = Qmp(monitor({}), "rpi4")
    with pytest.raises(DeadlineExceeded, match=r"no answer to `stop` within 0\.1 s"):
        qmp.execute("stop", timeout_s=0.1)


def test_a_machine_that_is_gone_is_a_lost_connection(tmp_path):
    with pytest.raises(ConnectionLost, match="rpi4: its QEMU is not there"):
        Qmp(tmp_path / "absent.sock", "rpi4").execute("stop")
