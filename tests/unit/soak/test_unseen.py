"""What a soak didn't measure is told with the reason, and no limit on it is passed in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.soak_ledgers import ABOUT
from support.soak_tables import a_table

from harness.judging import judge
from harness.metrics import METRICS
from harness.model import SoakEvent, SoakLife, SoakLimits, SoakTable, Verdict
from harness.soak.about import About
from harness.soak.observe import observe
from harness.soak.policy import count_events, judge_events
from harness.soak.unseen import SILENT, not_measured

EMULATED = replace(ABOUT.device, kind="qemu")
NO_LOG = "/dev/kmsg: Operation not permitted"


def about(*, compressed: bool = False, **more: Any) -> About:
    hour = replace(ABOUT.settings, duration_s=3600.0, window_s=300.0, compressed=compressed)
    return replace(ABOUT, **{"settings": hour, **more})


def table(why: Mapping[str, str] | None = None, **channels: Any) -> SoakTable:
    """Return an hour in which the runner couldn't read what `why` says, and read `channels`."""
    lives = (SoakLife(1, 0.0, 0.0, "start", "a", dict(why or {})),)
    return a_table(1.0, lives=lives, channels={f"device/{k}": np.full(12, v) for k, v in channels.items()})


def told(soak: SoakTable, of: About) -> dict[str, str]:
    return {row["what"]: row["why"] for row in not_measured(soak, of)}


def test_a_board_that_shows_all_leaves_nothing_to_tell():
    assert told(table(**{"temp_c.cpu": 50.0}), about()) == {}


def test_a_real_board_says_what_it_lacks_and_why():
    seen = told(
        table({"throttled_bits": "this device shows no throttle bits", "kernel_log": NO_LOG}),
        about(run_settings={SILENT: {"hwmon/x/cpu/temp_c": "no such device"}}),
    )
    assert seen == {
        "temperature": "hwmon/x/cpu/temp_c: no such device",
        "throttling": "this device shows no throttle bits",
        "hardware errors in the kernel's log": NO_LOG,
        "sensor hwmon/x/cpu/temp_c": "no such device",
    }


@pytest.mark.parametrize(("compressed", "reason"), [(True, "reads no sensor"), (False, "model of heat")])
def test_an_emulated_board_says_that_its_heat_is_no_soaks(compressed: bool, reason: str):
    soak = table({"throttled_bits": "vcgencmd exited with 1", "freq_hz": "this device shows no frequency"})
    seen = told(soak, about(compressed=compressed, device=EMULATED))
    assert reason in seen["temperature"]
    assert reason in seen["throttling"]
    assert seen["CPU frequency"] == "this device shows no frequency"
    assert ("latency and throughput" in seen) is not compressed


def test_what_one_life_of_two_could_read_was_measured():
    lives = (
        SoakLife(1, 0.0, 0.0, "start", "a", {"kernel_log": NO_LOG}),
        SoakLife(2, 1800.0, 0.0, "boottime", "a"),
    )
    soak = replace(table(**{"temp_c.cpu": 50.0}), lives=lives)
    assert told(soak, about()) == {}


def test_hardware_errors_that_nobody_could_see_are_no_pass():
    def verdict(soak: SoakTable) -> tuple[Verdict, tuple[str, ...]]:
        (m,) = (m for m in observe(soak, about(), "id").measurements if m.metric == "hardware_errors")
        judged = judge(m, None, METRICS[m.metric].direction)
        return judged.verdict, judged.reasons

    assert verdict(table())[0] is Verdict.PASS
    found, (reason,) = verdict(table({"kernel_log": NO_LOG}))
    assert found is Verdict.NOT_JUDGED
    assert reason == f"not observable: the kernel's log can't be read ({NO_LOG})"
    event = SoakEvent(10.0, "hardware_error", "I/O error, dev mmcblk0")
    seen = judge_events(replace(table(), events=(event,)), about().settings)
    (count,) = (m for m in count_events(seen, about().settings, 12, NO_LOG) if m.metric == "hardware_errors")
    assert count.value == 1


@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        (about(), Verdict.INVALID),
        (about(compressed=True, device=EMULATED), Verdict.NOT_JUDGED),
    ],
)
def test_a_limit_on_a_temperature_that_nobody_shows_is_never_passed(of: About, verdict: Verdict):
    of = replace(of, settings=replace(of.settings, limits=SoakLimits(most={"temp_c": 80.0})))
    (m,) = (m for m in observe(table(), of, "id").measurements if m.metric == "temp_drift_c_per_h")
    judged = judge(m, None, METRICS[m.metric].direction)
    assert judged.verdict is verdict
    assert judged.reasons[0].startswith("not measured: ")


def test_an_alert_on_heat_of_a_compressed_soak_blames_no_plan():
    of = about(compressed=True, device=EMULATED)
    of = replace(of, settings=replace(of.settings, alerts=("temp_c > 80",)))
    (condition,) = (c for c in observe(table(), of, "id").conditions if "alert" in c.name)
    assert condition.ok is None
    assert "a compressed soak reads no sensor" in condition.observed


def test_times_of_a_board_at_its_hosts_pace_are_left_out_everywhere():
    def soak(of: About) -> tuple[set[str], set[str], list[Any]]:
        seen = observe(table(), of, "id")
        told = seen.settings["soak"]
        return {c["kind"] for c in told["channels"]}, {d["kind"] for d in told["drift"]}, told["latency"]

    kinds, drifts, latency = soak(about())
    assert {"latency_p99_ns", "throughput_per_s"} <= kinds & drifts
    assert latency
    kinds, drifts, latency = soak(about(device=EMULATED))
    assert not {"latency_p50_ns", "latency_p99_ns", "throughput_per_s", "busy_ratio"} & (kinds | drifts)
    assert {"calls", "rss_bytes"} <= kinds
    assert latency == []
