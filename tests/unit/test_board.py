"""An open device: profiles, facts, and that a failed opening leaves nothing open."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import board as boards
from harness.errors import ConnectionLost, RuntimeUnavailable
from harness.model import Device, DeviceType, Fidelity, RuntimeSpec
from harness.progress import Progress
from harness.runtimes import RuntimeDescriptor

QUIET = Progress(None)
EMULATED = Device("pi", DeviceType("rpi4"), "qemu")


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Device:
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))
    return Device("desk", DeviceType("host"), "local", serial="of-the-file", home=str(tmp_path / "home"))


def own(adapter: Path, requirements: tuple[str, ...] = ()) -> RuntimeDescriptor:
    return RuntimeDescriptor("own", ("onnx",), "1.0", lambda version, python: requirements, adapter)


def test_only_an_emulated_device_has_profiles(desk):
    assert boards.profile_for(EMULATED, boards.TIMING) == "timing"
    assert boards.profile_for(desk, boards.TIMING) == "native"


@pytest.mark.parametrize(
    ("profile", "fidelity"),
    [("native", Fidelity.MEASURED), ("timing", Fidelity.VIRTUAL), ("functional", None)],
)
def test_the_clock_of_each_profile(profile, fidelity):
    nothing = SimpleNamespace()
    board = boards.Board(EMULATED, profile, nothing, nothing, nothing, nothing)
    assert board.time_fidelity is fidelity


def test_an_open_board_says_what_it_is_and_holds_what_was_asked_for(desk, tmp_path):
    adapter = tmp_path / "adapter.py"
    adapter.write_text("NAME = 'own'\n")
    board = boards.open_board(desk, boards.NATIVE, [(RuntimeSpec("own"), own(adapter))], QUIET)
    try:
        assert (board.facts.name, board.facts.type, board.facts.kind) == ("desk", "host", "local")
        assert board.facts.serial == "of-the-file"
        assert board.facts.details["profile"] == "native"
        assert board.platform.machine in board.facts.platform
        assert len(board.client.request("env_status").args["envs"]) == 1
        path = board.push_bytes(b"bytes", "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9")
        assert Path(path).read_bytes() == b"bytes"
        assert board.conditions()["boot_id"] == board.facts.details["boot_id"]
    finally:
        board.close()
    assert not board.client.is_running


def test_an_opening_that_fails_closes_what_was_open(desk, tmp_path, monkeypatch):
    opened = []
    real = boards.connect.open_connection

    def watched(device):
        opened.append(real(device))
        return opened[-1]

    def none(*args):
        raise RuntimeUnavailable("no wheels.")

    monkeypatch.setattr(boards.connect, "open_connection", watched)
    monkeypatch.setattr(boards.runtimes, "environment", none)
    started = []
    real_start = boards.AgentClient.start

    def start(*args, **kwargs):
        started.append(real_start(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(boards.AgentClient, "start", start)
    with pytest.raises(RuntimeUnavailable, match="no wheels"):
        boards.open_board(desk, boards.NATIVE, [(RuntimeSpec("own"), own(tmp_path))], QUIET)
    assert not started[0].is_running
    assert len(opened) == 1


def test_the_connection_is_closed_even_if_the_agent_can_not_be():
    closed = []

    def fail():
        raise ConnectionLost("gone.")

    board = boards.Board(
        EMULATED,
        "timing",
        SimpleNamespace(close=lambda: closed.append("connection")),
        SimpleNamespace(close=fail),
        SimpleNamespace(),
        SimpleNamespace(),
    )
    with pytest.raises(ConnectionLost):
        board.close()
    assert closed == ["connection"]


def test_an_image_of_another_platform_is_refused(monkeypatch):
    closed = []
    hello = {"machine": "aarch64", "python": "3.12.1", "libc": "glibc-2.39", "facts": {}, "agent_sha256": "a"}
    client = SimpleNamespace(hello=hello, close=lambda: closed.append("client"))
    monkeypatch.setattr(boards.AgentClient, "start", lambda *args, **kwargs: client)
    with pytest.raises(RuntimeUnavailable, match=r"CPython 3\.12, glibc 2\.39, expected linux aarch64"):
        boards._start_agent(EMULATED, boards.TIMING, SimpleNamespace())
    assert closed == ["client"]
