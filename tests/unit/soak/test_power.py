"""Power cycles on a schedule: told before they are made, made once, and never left half-way."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DeadlineExceeded
from harness.soak.ledger import Ledger
from harness.soak.power import PowerSchedule
from harness.soak.table import read_table

HOUR_NS = 3600 * 10**9


class Switch:
    """A switch that writes down what is done to it, and what the ledger said then."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.lit = True
        self.done: list[tuple[str, list[str]]] = []
        self.fails = ""

    def is_on(self) -> bool:
        return self.lit

    def off(self) -> None:
        self._do("off", False)

    def on(self) -> None:
        self._do("on", True)

    def _do(self, what: str, lit: bool) -> None:
        self.done.append((what, kinds(self.ledger)))
        if self.fails == what:
            raise DeadlineExceeded(f"{what} took too long")
        self.lit = lit


def kinds(ledger: Ledger) -> list[str]:
    return [str(r["event"]) for r in ledger.read_events()]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path, {"id": "s"}, {})


def schedule(ledger: Ledger, switch: Switch, hours: float = 10) -> PowerSchedule:
    return PowerSchedule(switch, 2 * HOUR_NS, round(hours * HOUR_NS))


def test_a_cycle_is_told_before_it_is_made_and_after(ledger: Ledger):
    switch = Switch(ledger)
    assert not schedule(ledger, switch).run_due(ledger, 2 * HOUR_NS - 1)
    assert schedule(ledger, switch).run_due(ledger, 2 * HOUR_NS)
    assert switch.done == [("off", ["power_cut"]), ("on", ["power_cut"])]
    cut, back = read_table(ledger.folder).events
    assert (cut.kind, cut.t_s, cut.details) == ("power_cut", 7200.0, {"number": 1, "planned": True})
    assert (back.kind, back.details) == ("power_on", {"number": 1})


def test_each_is_made_once_whoever_collects_and_missed_ones_are_not_made_up_for(ledger: Ledger):
    switch = Switch(ledger)
    times_h = [0, 1.9, 2.1, 3.9, 4, 4.5, 9.5, 9.9, 10, 11]
    cycled = [schedule(ledger, switch).run_due(ledger, round(h * HOUR_NS)) for h in times_h]
    assert [h for h, done in zip(times_h, cycled, strict=True) if done] == [2.1, 4, 9.5]


def test_nothing_is_cut_at_the_very_end(ledger: Ledger):
    switch = Switch(ledger)
    assert not schedule(ledger, switch, hours=4).run_due(ledger, 4 * HOUR_NS)
    assert switch.done == []


def test_the_power_comes_back_even_where_cutting_it_failed(ledger: Ledger):
    switch = Switch(ledger)
    switch.fails = "off"
    with pytest.raises(DeadlineExceeded, match="off took"):
        schedule(ledger, switch).run_due(ledger, 3 * HOUR_NS)
    assert [what for what, _ in switch.done] == ["off", "on"]


def test_what_was_left_off_is_switched_on_by_the_next_collector(ledger: Ledger):
    switch = Switch(ledger)
    switch.fails = "on"
    with pytest.raises(DeadlineExceeded):
        schedule(ledger, switch).run_due(ledger, 3 * HOUR_NS)
    assert kinds(ledger) == ["power_cut"]
    switch.fails = ""
    assert schedule(ledger, switch).recover(ledger, 3 * HOUR_NS)
    assert switch.lit
    assert kinds(ledger) == ["power_cut", "power_on"]
    assert not schedule(ledger, switch).recover(ledger, 3 * HOUR_NS)
    assert not schedule(ledger, switch).run_due(ledger, 3 * HOUR_NS)


def test_when_the_next_is_due(ledger: Ledger):
    times = schedule(ledger, Switch(ledger), hours=6)  # every 2 h, and none at the end
    due = [times.next_due_ns(round(h * HOUR_NS)) for h in (0, 1.9, 2, 3.9, 4, 5.9, 6)]
    assert due == [2 * HOUR_NS, 2 * HOUR_NS, 4 * HOUR_NS, 4 * HOUR_NS, None, None, None]
