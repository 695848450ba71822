"""Waiting for a guest's SSH server: short at first, longer on a busy host."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from harness.emulation import launch


def greeting() -> Any:
    machine: Any = SimpleNamespace(ssh_port=22)
    return launch._Greeting(machine)


def test_each_time_with_more_patience_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(launch, "_greets", lambda port, timeout_s: waited.append(timeout_s))
    ask = greeting()
    assert not any(ask() for _ in range(12))
    assert waited[0] == launch.BANNER_TIMEOUT_S
    assert waited == sorted(waited)
    assert waited[-1] == launch.MAX_BANNER_TIMEOUT_S
    assert sum(waited[:5]) < 10  # a boot that greets late isn't noticed late


def test_a_greeting_is_one_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, is_greeting in ((b"SSH-2.0-x\r\n", True), (b"HTTP/1.1 400\r\n", False)):
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            peer.sendall(said)
            monkeypatch.setattr(socket, "create_connection", lambda *_, c=client, **__: c)
            assert launch._greets(1, 5.0) is is_greeting
            peer.close()
            monkeypatch.undo()


def test_nobody_there_is_no_greeting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not launch._greets(port, 5.0)
