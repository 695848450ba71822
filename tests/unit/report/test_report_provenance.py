"""How a run's facts read: numbers with the unit that their name ends with."""

from __future__ import annotations

from dataclasses import replace

from support import records

from harness.report.provenance import device_facts, run_view


def test_a_setting_reads_with_the_unit_of_its_name() -> None:
    settings = {"duration_s": 259_200.0, "settle_s": 0, "rate_per_s": 12.5, "block_ns": 20_000_000}
    facts = dict(run_view(1, records.run(settings=settings)).facts)
    assert [facts[f"setting {key}"] for key in settings] == ["72 h", "0 s", "12.5", "20.0 ms"]


def test_an_estimate_is_told_by_what_it_rests_on_and_no_other_network_by_its_time() -> None:
    said = {
        "calibration": "rpi4-ncnn", "taken_on": "2026-11-01", "precision": "fp32",
        "by": "what the emulation counted", "points": {"squeezenet": [73.96, 74.855]},
        "features": {"cycles": 1234567, "missed_by_loads": [12, 3456]},
    }  # fmt: skip
    facts = dict(run_view(1, records.run(settings={"estimate": said})).facts)
    assert facts["estimate from"] == "rpi4-ncnn of 2026-11-01, fp32, by what the emulation counted"
    assert facts["counted for it"] == "cycles: 1 234 567; missed by loads: 12, 3 456"
    assert not any("74.855" in value for value in facts.values())
    none = dict(run_view(1, records.run(settings={"estimate": {"problem": "no calibration"}})).facts)
    assert none["estimate"] == "none: no calibration"


def test_a_run_of_days_is_told_in_hours() -> None:
    assert run_view(1, records.run(duration_s=72 * 3600.0)).duration == "72 h"


def test_facts_of_a_device_read_as_words_not_as_json() -> None:
    details = {"ram_bytes": 4e9, "cgroup_v2": False, "clock": {"name": "CLOCK_MONOTONIC", "resolution_ns": 1}}
    facts = dict(device_facts(replace(records.PI, details={**details, "serial": "other"})))
    assert facts["ram"] == "4.00 GB"
    assert facts["cgroup v2"] == "no"
    assert facts["clock"] == "name: CLOCK_MONOTONIC; resolution: 1 ns"
    assert facts["serial"] == records.PI.serial  # once
