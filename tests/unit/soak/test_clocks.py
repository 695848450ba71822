"""Governor and limits of a soak's CPUs: recorded at its start, a change invalidates what is timed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support import records
from support.soak_ledgers import ABOUT
from support.soak_tables import a_table

from harness.metrics import METRICS, TIMED_KINDS
from harness.model import Condition, SoakEvent, SoakLife, SoakTable, Verdict
from harness.results import results_of
from harness.soak.clocks import clock_conditions, governors_of
from harness.soak.observe import observe

POLICY0 = {"governor": "ondemand", "min_hz": 600_000_000, "max_hz": 1_500_000_000, "cpus": [0, 1, 2, 3]}
POLICY4 = {"governor": "schedutil", "min_hz": 408_000_000, "max_hz": 2_400_000_000, "cpus": [4, 6]}


def table(*events: SoakEvent, **policies: Any) -> SoakTable:
    lives = (
        SoakLife(1, 0.0, 0.0, "start", "a", {}, policies),
        SoakLife(2, 60.0, 0.0, "boottime", "a", {}, {}),
    )
    return a_table(72.0, lives=lives, events=events)


def line(soak: SoakTable, **settings: Any) -> Condition:
    (condition,) = clock_conditions(soak, settings)
    return condition


def test_governor_and_limits_are_those_of_the_start():
    soak = table(policy0=POLICY0, policy4=POLICY4)
    assert governors_of(soak) == "ondemand, schedutil"
    found = line(soak)
    assert found.observed == "cpu0-3: ondemand, 600 to 1500 MHz; cpu4,6: schedutil, 408 to 2400 MHz"
    assert found.ok is True
    assert observe(soak, ABOUT, "id").settings["governor"] == "ondemand, schedutil"


def test_a_device_without_them_has_no_line():
    assert clock_conditions(table(), {}) == ()
    assert governors_of(table()) is None


@pytest.mark.parametrize(("asked", "ok"), [("ondemand", True), ("performance", None)])
def test_one_that_devices_toml_asks_for_in_vain_is_told_and_breaches_nothing(asked: str, ok: bool | None):
    found = line(table(policy0=POLICY0), governor_set={"asked": asked})
    assert found.ok is ok
    assert ("devices.toml asks for performance" in found.observed) is (ok is None)


@pytest.mark.parametrize("kind", ["governor", "frequency_capped"])
def test_a_change_invalidates_what_is_timed_and_nothing_else(kind: str):
    soak = table(SoakEvent(3600.0, kind, "from ondemand to powersave"), policy0=POLICY0)
    about = replace(ABOUT, settings=replace(ABOUT.settings, duration_s=72 * 3600.0, window_s=300.0))
    seen = observe(soak, about, "id")
    run = replace(
        records.run("001-soak"), suite="soak", scenario=seen.scenario, measurements=seen.measurements,
        conditions=seen.conditions, settings=seen.settings,
    )  # fmt: skip
    rows = [row for row in results_of(run, ()) if row.verdict is not Verdict.NOT_JUDGED]
    invalid = {row.metric for row in rows if row.verdict is Verdict.INVALID}
    timed = {row.metric for row in rows if METRICS[row.metric].kind in TIMED_KINDS}
    assert invalid == timed != set()
    assert any(f"soak: {kind}" in reason for row in rows for reason in row.reasons)
