"""What was counted of one call, out of the machine's file; and every reason for why nothing was."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from harness import counting
from harness.emulation import plugins
from harness.errors import ConnectionLost, HarnessError, HostSetupError, Unsupported
from harness.estimate import estimator
from harness.model import Device, DeviceType, QemuBoard
from harness.progress import Progress

NOP = "d503201f"
HEADER = "H 1 2\n"
WINDOW = f"W {{}}\nB {{}} 1000 {NOP}{NOP}\nC {{}} {{}} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\nE\n"


def window(number: int, passes: int = 5) -> str:
    return WINDOW.format(number, number, number, passes)


def device(estimate="counts", cpu="cortex-a72", **more) -> Device:
    return Device("pi", DeviceType("rpi4", estimate=estimate), "qemu", qemu=QemuBoard(cpu=cpu), **more)


SECOND = window(1)


def bench(path, marks=SECOND, fault: HarnessError | None = None, of: Device | None = None, waits=None) -> Any:
    def count_call(timeout_s):
        if waits is not None:
            waits.append(timeout_s)
        if fault is not None:
            raise fault
        with open(path, "a", encoding="ascii") as file:
            file.write(marks if isinstance(marks, str) else next(marks))

    @contextlib.contextmanager
    def child(name, threads):
        assert threads == 1  # whatever the bench has
        yield SimpleNamespace(count_call=count_call, first=lambda: 1), 0

    file = path if path is not None and path.exists() else None
    board = SimpleNamespace(device=of or device(), machine_file=lambda name: file)
    return SimpleNamespace(board=board, child=child, progress=Progress(None))


def test_a_type_counts_unless_it_says_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "build_plugin", lambda: tmp_path / "count.so")
    assert DeviceType("rpi4").estimate == "counts"
    arguments, why = counting.plugin_for(device(), "timing")
    assert (arguments[0], why) == ("-plugin", "")
    assert arguments[1].endswith(",out=counts.txt,cache=32768:2,cache=1048576:16,tlb=1024:4")
    assert counting.plugin_for(device(), "functional") == ([], "")
    assert counting.plugin_for(device("clock"), "timing") == ([], "")
    assert counting.plugin_for(Device("desk", DeviceType("host"), "local"), "native") == ([], "")


def test_why_there_is_no_plugin_is_kept(monkeypatch):
    def refuse():
        raise HostSetupError("no C compiler: `cc` is not on PATH.")

    monkeypatch.setattr(plugins, "build_plugin", refuse)
    arguments, why = counting.plugin_for(device(), "timing")
    assert arguments == []
    assert "no C compiler" in why
    assert "no pipeline table" in counting.plugin_for(device(cpu="cortex-a53"), "timing")[1]


def test_the_window_of_this_call_counts(tmp_path):
    path = tmp_path / "counts.txt"
    path.write_text(HEADER + window(0))  # of an earlier model
    features, why = counting.read_features(bench(path))
    assert why == ""
    assert features is not None
    assert features.instructions == 10


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"marks": ""}, "the plugin saw no marks"),
        ({"fault": Unsupported("marks are aarch64 code")}, "nothing was counted: marks are aarch64 code"),
        # latency was measured before: a board that goes away now doesn't take it along
        (
            {"fault": ConnectionLost("the agent's stream ended.")},
            "nothing was counted: the agent's stream ended",
        ),
        ({"marks": "W 1\nC nonsense\n"}, "what was counted can't be read"),
        ({"marks": "W 1\n"}, "what was counted can't be read"),
    ],
)
def test_whatever_keeps_it_from_counting_is_told(tmp_path, more, why):
    path = tmp_path / "counts.txt"
    path.write_text(HEADER)
    features, told = counting.read_features(bench(path, **more))
    assert features is None
    assert why in told


def test_a_slow_model_is_waited_for_by_what_its_first_call_took(tmp_path, monkeypatch):
    path = tmp_path / "counts.txt"
    path.write_text(HEADER)
    waits: list[float] = []
    counting.read_features(bench(path, waits=waits))
    now = iter((0.0, 7.0))
    monkeypatch.setattr(counting, "time", SimpleNamespace(monotonic=lambda: next(now)))
    counting.read_features(bench(path, waits=waits))
    assert waits == [device().timeout_s] * 2 + [700.0] * 2


@pytest.mark.parametrize(
    ("passes", "counted"),
    [
        ((500, 500), 1000),
        ((2500, 500, 500), 1000),  # another program ran in the first
        ((500, 2500, 505), 1000),
        ((2500, 900, 500, 1300, 500), 1000),
        ((510_000_000, 500_000_000), 1_000_000_000),
    ],
)
def test_it_counts_until_two_counts_agree(tmp_path, passes, counted):
    path = tmp_path / "counts.txt"
    path.write_text(HEADER)
    marks = iter([window(number, count) for number, count in enumerate(passes)])
    features, why = counting.read_features(bench(path, marks=marks))
    assert why == ""
    assert features is not None
    assert features.instructions == counted
    assert next(marks, None) is None


def test_counts_whose_bytes_differ_do_not_agree():
    def counted(instructions: int, stored_bytes: int) -> Any:
        return SimpleNamespace(instructions=instructions, stored_bytes=stored_bytes)

    quiet, beside_another = counted(2_000_000_000, 100_000_000), counted(2_030_000_000, 107_000_000)
    assert not counting.is_sure([quiet, beside_another])
    assert counting.is_sure([quiet, beside_another, counted(2_000_100_000, 100_400_000)])


def test_counts_that_never_agree_are_told(tmp_path):
    path = tmp_path / "counts.txt"
    path.write_text(HEADER)
    marks = iter([window(number, 500_000 * 2**number) for number in range(8)])
    features, why = counting.read_features(bench(path, marks=marks))
    assert features is None
    told = "1, 2, 4, 8, 16, 32, 64, 128 million instructions"
    assert why == f"what was counted differs from call to call: {told}"


@pytest.mark.parametrize("passes", [(3_000_000, 3_000_000, 1_250_000, 1_250_000), (1_250_000, 1_250_000)])
def test_counts_that_agree_in_holding_another_program_are_not_the_models(tmp_path, passes):
    path = tmp_path / "counts.txt"
    path.write_text(HEADER)
    marks = iter([window(number, count) for number, count in enumerate(passes)])
    features, why = counting.read_features(bench(path, marks=marks), 2.49e6)
    assert why == ""
    assert features is not None
    assert features.instructions == 2_500_000


def test_a_board_that_is_never_alone_has_no_counts(tmp_path):
    path = tmp_path / "counts.txt"
    path.write_text(HEADER)
    marks = iter([window(number, 3_000_000) for number in range(counting.MOST_COUNTS)])
    features, why = counting.read_features(bench(path, marks=marks), 2.49e6)
    assert features is None
    assert why.startswith("other programs' instructions were counted too: 6, 6,")
    assert why.endswith("6 million, and a call of 2.49 ms has at most 2.49")


def test_a_machine_without_the_plugin_is_told(tmp_path):
    features, why = counting.read_features(bench(tmp_path / "none"))
    assert features is None
    assert "started without the plugin" in why


def test_nothing_is_counted_where_nobody_asks_or_no_calibration_is_for_the_core(tmp_path):
    known = estimator.shipped()
    assert counting.count_features(bench(None, of=device("clock")), known) == (None, "")
    _, why = counting.count_features(bench(None, of=device(cpu="cortex-a76")), known)
    assert "no calibration of rpi4 is for a cortex-a76" in why
    _, why = counting.count_features(bench(None), known)
    assert "started without the plugin" in why
