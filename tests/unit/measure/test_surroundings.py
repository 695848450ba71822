"""Readings around a run: how long it waits for a quiet device, and a governor that can't be set."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.measure.surroundings import QUIET_WAIT_S, Surroundings
from harness.model import Device, DeviceType, Fidelity, Scope
from harness.progress import Progress

DEVICE = Device("desk", DeviceType("host"), "local")


class FakeBoard:
    """A board whose pressure follows a script; the last of it stays."""

    def __init__(self, pressures: list[float | None], governor: dict[str, Any]) -> None:
        self.pressures, self.governor = pressures, governor

    def conditions(self) -> dict[str, Any]:
        pressure = self.pressures.pop(0) if len(self.pressures) > 1 else self.pressures[0]
        return {"boot_id": "b", "monotonic_ns": 1, "realtime_ns": 1, "psi_cpu_some_avg10": pressure}


def around(*pressures: float | None, virtual: bool = False, **governor: Any) -> Surroundings:
    fidelity = Fidelity.VIRTUAL if virtual else Fidelity.MEASURED
    board = FakeBoard(list(pressures), governor)
    bench: Any = SimpleNamespace(board=board, time_fidelity=fidelity, progress=Progress(None))
    return Surroundings(bench, DEVICE)


@pytest.mark.parametrize(
    ("pressures", "slept"),
    [((5.0,), 0), ((30.0,), 0), ((None,), 0), ((80.0, 60.0, 20.0), 2)],
)
def test_it_waits_while_others_press(pressures, slept):
    naps: list[float] = []
    it = around(*pressures)
    assert it.wait_until_quiet(sleep=naps.append)
    assert len(naps) == slept
    load = next(c for c in it.conditions() if c.name == "load")
    assert load.ok is not False


def test_it_gives_up_after_a_bounded_time_and_the_run_is_no_good_for_absolute_numbers():
    naps: list[float] = []
    it = around(90.0)
    assert not it.wait_until_quiet(sleep=naps.append)
    assert sum(naps) == pytest.approx(QUIET_WAIT_S)
    load = next(c for c in it.conditions() if c.name == "load")
    assert (load.ok, load.scope) == (False, Scope.ABSOLUTE)


def test_on_a_virtual_clock_nothing_is_waited_for():
    naps: list[float] = []
    assert around(90.0, virtual=True).wait_until_quiet(sleep=naps.append)
    assert naps == []


def test_a_governor_that_could_not_be_set_is_a_breach_of_absolute_numbers():
    (line,) = (c for c in around(1.0, asked="performance", not_set="no right").conditions() if c.ok is False)
    assert (line.name, line.expected, line.scope) == ("governor", "performance", Scope.ABSOLUTE)
    assert "no right" in line.observed


def test_a_governor_that_was_set_needs_no_line_of_its_own():
    assert not [c for c in around(1.0, asked="performance", was={}).conditions() if c.name == "governor"]
