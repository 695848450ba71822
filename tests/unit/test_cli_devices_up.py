"""`harness devices up`: the machine that it starts counts where its type does, as a session's own would."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness import counting, emulation
from harness.cli.main import main

DEVICES = """
schema_version = 1
[types.rpi4]
[devices.pi]
type = "rpi4"
kind = "qemu"
"""
PLUGIN = ["-plugin", "count.so"]


@pytest.fixture
def started(tmp_path, monkeypatch) -> list[dict[str, Any]]:
    """No machine is started; what it would have been given is noted."""
    given: list[dict[str, Any]] = []

    def start(image, board, **more):
        given.append(more)
        return SimpleNamespace(ssh_port=22)

    monkeypatch.setenv("HIL_HARNESS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(DEVICES)
    monkeypatch.setattr(emulation, "build_image", lambda board, progress: None)
    monkeypatch.setattr(emulation, "start", start)
    monkeypatch.setattr(
        counting, "plugin_for", lambda device, profile: (PLUGIN if profile == "timing" else [], "")
    )
    return given


@pytest.mark.parametrize(("profile", "plugin"), [("timing", PLUGIN), ("functional", [])])
def test_it_has_the_plugin_in_the_timing_profile(started, profile, plugin):
    assert main(["devices", "up", "pi", "--profile", profile]) == 0
    assert [given["extra_arguments"] for given in started] == [plugin]


def test_it_comes_up_without_the_plugin_and_says_so(started, monkeypatch, capsys):
    monkeypatch.setattr(counting, "plugin_for", lambda device, profile: ([], "no C compiler."))
    assert main(["devices", "up", "pi", "--profile", "timing"]) == 0
    assert started[0]["extra_arguments"] == []
    assert capsys.readouterr().err == "pi: no C compiler.\n"
