"""The counting plugin's marks: their code, and the order in which a call is framed by them."""

from __future__ import annotations

import gc
import os
import platform
from types import SimpleNamespace

import pytest

from harness.agent import marks
from harness.agent.faults import Fault
from harness.agent.model import Calls


@pytest.fixture
def said(monkeypatch) -> list[object]:
    """What happens, in order; a pause is none."""
    said: list[object] = []
    monkeypatch.setattr(marks, "make_mark", lambda number: lambda: said.append(number))
    monkeypatch.setattr(marks, "time", SimpleNamespace(sleep=lambda s: said.append(f"pause of {s}")))
    return said


def test_a_mark_is_a_hint_and_a_return():
    # `hint #97; ret`, as GNU as encodes them
    assert marks.encode(97) == bytes.fromhex("3f2c03d5c0035fd6")


def test_the_last_call_alone_is_between_the_marks_after_a_pause_for_other_programs(said):
    calls = Calls(None, lambda: said.append("call"), lambda number: None)
    assert marks.counted_call(calls) == {"counted": 1}
    assert said == ["pause of 0.05", "call", "call", 96, "call", 97, "call", 98, 99]
    assert gc.isenabled()


def test_making_the_next_call_ready_is_outside_the_marks(said):
    def ready():
        said.append("ready")
        return lambda: said.append("call")

    marks.counted_call(Calls(ready, lambda: None, lambda number: None))
    assert said[-6:] == ["call", "ready", 97, "call", 98, 99]


def test_another_machine_has_no_such_code(monkeypatch):
    if platform.machine() == "aarch64":
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "", "", "", "x86_64")))
    with pytest.raises(Fault, match="marks are aarch64 code"):
        marks.make_mark(96)
