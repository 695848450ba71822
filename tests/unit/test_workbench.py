"""How a workbench opens emulated boards: with the counting plugin, and without it where that can't be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.tiny import MODELS

from harness import workbench
from harness.errors import ConnectionLost
from harness.model import Device, DeviceFacts, DeviceType, Plan, PlanModel, QemuBoard
from harness.progress import Progress
from harness.selection import Target

PLUGIN = ["-plugin", "count.so"]
PI = Device("pi", DeviceType("rpi4"), "qemu", qemu=QemuBoard())
MODEL = PlanModel("tiny", MODELS / "tiny.onnx")


@pytest.fixture
def opened(monkeypatch, tmp_path) -> list[Any]:
    """Boards are fakes; what QEMU was given is noted."""
    tries: list[Any] = []

    def open_board(device, profile, wanted, progress, qemu_arguments=()):
        tries.append((profile, list(qemu_arguments)))
        facts = DeviceFacts(device.name, device.type.name, device.kind, None, "linux-aarch64")
        return SimpleNamespace(device=device, profile=profile, facts=facts, close=lambda: None)

    monkeypatch.setenv("HIL_HARNESS_STATE", str(tmp_path))
    monkeypatch.setattr(workbench.boards, "open_board", open_board)
    monkeypatch.setattr(workbench, "prepare", lambda board, *_, **__: SimpleNamespace(board=board, look=None))
    monkeypatch.setattr(
        workbench.counting, "plugin_for", lambda device, p: (PLUGIN if p == "timing" else [], "")
    )
    return tries


@pytest.fixture
def bench_of():
    made = workbench.Workbench(Plan(None), [Target(PI, MODEL)], None, 1, Progress(None), "test")
    yield made
    made.close()


def test_the_timing_machine_has_the_plugin_and_no_other(opened, bench_of):
    bench_of.bench(PI, MODEL, "functional")
    bench_of.bench(PI, MODEL, "timing")
    bench_of.bench(PI, MODEL, "timing")
    assert opened == [("functional", []), ("timing", PLUGIN)]
    assert bench_of.why_no_counts(PI) == ""


def test_a_machine_that_ends_at_once_with_the_plugin_is_started_without(opened, bench_of, monkeypatch):
    plain = workbench.boards.open_board

    def refuse(*asked, qemu_arguments=()):
        if qemu_arguments:
            opened.append("refused")
            raise ConnectionLost("QEMU ended with 1 at once")
        return plain(*asked)

    monkeypatch.setattr(workbench.boards, "open_board", refuse)
    bench_of.bench(PI, MODEL, "timing")
    assert opened == ["refused", ("timing", [])]
    assert "did not start with the counting plugin: QEMU ended with 1" in bench_of.why_no_counts(PI)


def test_a_machine_that_does_not_start_at_all_says_so(opened, bench_of, monkeypatch):
    def refuse(*asked, **more):
        raise ConnectionLost("QEMU ended with 1 at once")

    monkeypatch.setattr(workbench.boards, "open_board", refuse)
    with pytest.raises(ConnectionLost):
        bench_of.bench(PI, MODEL, "timing")
