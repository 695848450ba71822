"""A soak's table → verdicts: coverage, calls, events by policy, drift; nothing observed is never a PASS."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.soak_tables import HOUR_S, a_table, ar1, pick

from harness.judging import judge
from harness.metrics import METRICS
from harness.model import Fidelity, SoakEvent, SoakLife, SoakLimits, SoakSettings, SoakTable, Verdict
from harness.soak.judge import Judged, judge_soak
from harness.soak.policy import DEFAULT
from harness.soak_settings import JUDGED_EVENTS
from harness.store.codec import to_plain

RAM = 4e9
PASS, FAIL, OPEN, NONE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NOT_JUDGED


def settings_of(hours: float = 72.0, window_s: float = 300.0, **more) -> SoakSettings:
    return SoakSettings(duration_s=hours * HOUR_S, window_s=window_s, **more)


def judged(table: SoakTable, settings: SoakSettings | None = None, **more) -> Judged:
    given = {"ram_bytes": RAM, "compressed": False, "fidelity": Fidelity.MEASURED, **more}
    return judge_soak(table, settings or settings_of(), **given)


def verdict_of(found: Judged, metric: str, scenario: str | None = None):
    (m,) = [m for m in found.measurements if (m.metric, m.scenario) == (metric, scenario)]
    return judge(m, None, METRICS[metric].direction)


def verdicts(found: Judged) -> set[Verdict]:
    return {judge(m, None, METRICS[m.metric].direction).verdict for m in found.measurements}


@pytest.fixture(scope="module")
def quiet() -> Judged:
    return judged(a_table())


def test_a_quiet_soak_passes(quiet):
    assert verdicts(quiet) == {PASS}
    assert quiet.conditions == ()
    assert quiet.reasons == ("72 h of 72 h observed",)


def test_the_settings_are_plain_and_complete(quiet):
    told = json.loads(json.dumps(to_plain(quiet.settings), allow_nan=False))
    assert set(told) == {
        "compressed", "duration_s", "observed_s", "coverage_ratio", "window_s", "block_s", "warmup_s",
        "ended", "events", "gaps", "lives", "alerts", "drift",
    }  # fmt: skip
    assert told["observed_s"] == told["duration_s"] == 72 * HOUR_S
    (row,) = [row for row in told["drift"] if row["series"] == "main/rss_bytes"]
    assert row["verdict"] == "PASS"
    assert len(row["block_s"]) == len(row["block_value"]) == len(row["kept"]) == 72
    assert row["kept"] == [False] + 71 * [True]
    assert row["low_per_h"] < row["slope_per_h"] < row["high_per_h"] < row["limit_per_h"]
    assert row["why_limit"] == "(85% of 4.00 GB RAM − 60.0 MB) ÷ 30 d"
    assert row["limit_per_h"] == pytest.approx((0.85 * RAM - 60e6) / 720, rel=0.001)


# --- coverage -------------------------------------------------------------------------------------


def no_windows(streams=()) -> SoakTable:
    table = a_table(streams=streams, lives=())
    return replace(pick(table, np.zeros(table.start_s.size, dtype=bool)), ended=None, last_seq=0)


@pytest.mark.parametrize("table", [no_windows(), no_windows(("main",))])
def test_nothing_observed_is_never_a_pass(table):
    found = judged(table)
    coverage = verdict_of(found, "coverage_ratio")
    assert coverage.verdict is OPEN
    assert "no window was observed" in " ".join(coverage.reasons)
    assert found.reasons[0] == "no window was observed"
    assert FAIL not in verdicts(found)


def test_a_stream_without_a_call_is_inconclusive():
    found = judged(a_table(calls=0))
    calls = verdict_of(found, "soak_calls")
    assert calls.verdict is OPEN
    assert "no call of `main` was observed" in " ".join(calls.reasons)
    assert verdict_of(found, "call_error_ratio").verdict is NONE


def test_the_second_stream_is_told_apart():
    table = a_table(streams=("main", "side"), channels={"side/calls": np.zeros(864)})
    found = judged(table)
    assert verdict_of(found, "soak_calls").verdict is PASS
    assert verdict_of(found, "soak_calls", "soak: side").verdict is OPEN


@pytest.mark.parametrize(("lost", "verdict"), [(8, PASS), (9, OPEN), (400, OPEN)])
def test_under_99_percent_is_inconclusive(lost, verdict):
    keep = np.ones(864, dtype=bool)
    keep[100 : 100 + lost] = False
    table = replace(a_table(keep=keep), missing_seq=tuple(range(102, 102 + lost)))
    found = judged(table)
    assert found.settings["coverage_ratio"] == pytest.approx(1 - lost / 864)
    assert verdict_of(found, "coverage_ratio").verdict is verdict
    assert found.settings["gaps"][0]["start_s"] == 100 * 300
    assert found.settings["gaps"][0]["why"] == "windows were lost"


def test_what_ended_early_is_inconclusive_and_says_so():
    keep = np.arange(864) < 500
    found = judged(a_table(keep=keep, ended="stopped"))
    coverage = verdict_of(found, "coverage_ratio")
    assert coverage.verdict is OPEN
    assert "unseen, most of it at 41.7 h: ended: stopped" in " ".join(coverage.reasons)
    assert "it ended early: stopped" in found.reasons


def test_windows_that_overlap_or_reach_over_the_end_count_once():
    table = a_table(hours=1, window_s=60)
    twice = replace(table, start_s=table.start_s - 30.0, end_s=table.end_s + 30.0)
    found = judged(twice, settings_of(1, 60))
    assert found.settings["observed_s"] == pytest.approx(3600)


def test_thinned_windows_count_whole():
    table = a_table(hours=2, window_s=60)
    keep = np.arange(120) % 4 == 0
    thin = pick(table, keep)
    thin = replace(thin, end_s=thin.start_s + 240, merged=np.full(30, 4, dtype=np.int32))
    assert judged(thin, settings_of(2, 60)).settings["coverage_ratio"] == 1.0


def test_the_gap_of_a_reboot_says_so():
    lives = (SoakLife(1, 0, 0, "start", "a"), SoakLife(2, 31 * 300.0, 300.0, "realtime", "b"))
    events = (SoakEvent(31 * 300.0, "reboot", "the boot id changed", life=2),)
    keep = np.arange(864) != 30
    found = judged(a_table(lives=lives, events=events, keep=keep))
    assert [gap["why"] for gap in found.settings["gaps"]] == ["reboot"]


# --- calls that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "errors", "verdict"),
    [
        (864 * 10, 0, PASS),
        (864, 0, NONE),  # too few to show 99.9%
        (864 * 10, 3, PASS),
        (864 * 10, 8, OPEN),
        (864 * 10, 30, FAIL),
        (864, 1, OPEN),
        (864, 20, FAIL),
    ],
)
def test_the_share_of_calls_that_fail(calls, errors, verdict):
    failed = np.zeros(864)
    failed[:errors] = 1  # warm-up counts too
    table = a_table(calls=calls // 864, channels={"main/errors": failed})
    found = judged(table, settings_of(alerts=("burn_rate(72h) > 1000",)))
    assert verdict_of(found, "call_error_ratio").verdict is verdict


# --- events ---------------------------------------------------------------------------------------


def with_event(kind: str, **more) -> SoakTable:
    return a_table(events=(SoakEvent(3 * HOUR_S, kind, "what it says", life=1, **more),))


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("reboot", "unplanned_reboots"),
        ("crash", "crashes"),
        ("oom", "soak_oom_kills"),
        ("gave_up", "streams_given_up"),
        ("hardware_error", "hardware_errors"),
    ],
)
def test_what_fails_a_soak(kind, metric):
    found = judged(with_event(kind))
    result = verdict_of(found, metric)
    assert result.verdict is FAIL
    assert f"the first at 3 h: {kind}: what it says" in result.reasons
    assert [e["judged"] for e in found.settings["events"]] == ["FAIL"]
    assert found.reasons[0].startswith("1 event that fails it, the first at 3 h")


@pytest.mark.parametrize(
    "kind",
    ["link_lost", "collector_gap", "clock_step", "disk_full", "runner_restarted", "alert", "unheard_of"],
)
def test_what_is_but_a_note(kind):
    found = judged(with_event(kind))
    assert verdicts(found) == {PASS}
    assert found.conditions == ()
    assert [e["judged"] for e in found.settings["events"]] == ["note"]


def test_throttling_invalidates_what_is_timed_alone():
    found = judged(with_event("throttled"))
    (condition,) = found.conditions
    assert condition.ok is False
    assert condition.observed == "once, at 3 h: what it says"
    assert {m.metric for m in found.measurements if METRICS[m.metric].kind in ("time", "thermal")} == {
        "latency_p99_drift_ns_per_h",
        "throughput_drift_per_s_per_h",
    }


def test_the_policy_is_the_plans_to_set():
    settings = settings_of(policy={"crash": "note", "link_lost": "fail", "clock_step": "invalid"})
    lax = judged(with_event("crash"), settings)
    assert verdict_of(lax, "crashes").verdict is NONE
    strict = judged(with_event("link_lost"), settings)
    assert verdict_of(strict, "forbidden_events").verdict is FAIL
    assert judged(with_event("clock_step"), settings).conditions[0].ok is False


def test_every_event_that_is_judged_by_default_is_one_that_a_plan_may_judge():
    assert set(DEFAULT) <= set(JUDGED_EVENTS)


def rebooted(*events: SoakEvent) -> Judged:
    lives = (SoakLife(1, 0, 0, "start", "a"), SoakLife(2, 10 * HOUR_S, 200.0, "realtime", "b"))
    return judged(a_table(lives=lives, events=events))


def test_a_power_cut_explains_one_reboot():
    cut = SoakEvent(10 * HOUR_S - 190, "power_cut", "as scheduled", source="host")
    first = SoakEvent(10 * HOUR_S, "reboot", "", life=2)
    assert verdict_of(rebooted(cut, first), "unplanned_reboots").verdict is PASS
    second = SoakEvent(10 * HOUR_S + 60, "reboot", "again", life=2)
    found = rebooted(cut, first, second)
    assert verdict_of(found, "unplanned_reboots").verdict is FAIL
    assert [e["judged"] for e in found.settings["events"]] == ["note", "note", "FAIL"]


def test_a_power_cut_of_another_hour_explains_nothing():
    cut = SoakEvent(2 * HOUR_S, "power_cut", "", source="host")
    found = rebooted(cut, SoakEvent(10 * HOUR_S, "reboot", "", life=2))
    assert verdict_of(found, "unplanned_reboots").verdict is FAIL


def test_an_alert_fails_a_soak_unless_the_policy_says_otherwise():
    table = a_table(channels={"device/temp_c.cpu": np.where(np.arange(864) == 500, 90.0, 60.0)})
    rules = {"alerts": ("temp_c > 85",)}
    found = judged(table, settings_of(**rules))
    assert verdict_of(found, "alerts_fired").verdict is FAIL
    assert [a["rule"] for a in found.settings["alerts"]] == ["temp_c > 85"]
    noted = judged(table, settings_of(policy={"alert": "note"}, **rules))
    assert verdict_of(noted, "alerts_fired").verdict is NONE
    invalid = judged(table, settings_of(policy={"alert": "invalid"}, **rules))
    assert [c.ok for c in invalid.conditions] == [False]


# --- drift ----------------------------------------------------------------------------------------

T_H = (np.arange(864) + 0.5) * 300 / HOUR_S


def rss(leak_per_h: float = 0.0, sd: float = 0.3e6, seed: int = 1) -> np.ndarray:
    return 60e6 + ar1(np.random.default_rng(seed), 864, 0.8, sd) + leak_per_h * T_H


def limited(per_h: float, kind: str = "rss_bytes") -> SoakSettings:
    return settings_of(limits=SoakLimits(per_h={kind: per_h}))


@pytest.mark.parametrize(
    ("leak", "limit", "verdict"),
    [
        (0.0, 0.05e6, PASS),
        (0.1e6, 0.05e6, FAIL),
        (0.05e6, 0.05e6, OPEN),
        (0.1e6, 0.0, FAIL),
        (0.0, 0.0, OPEN),
    ],
)
def test_a_leak_is_held_to_the_limit_given(leak, limit, verdict):
    found = judged(a_table(channels={"main/rss_bytes": rss(leak)}), limited(limit))
    assert verdict_of(found, "rss_drift_bytes_per_h").verdict is verdict


def test_without_one_the_headroom_lasts_for_the_service_life():
    # 40 MB from 85% of 100 MB to 45 MB... 25 MB ÷ 720 h = 35 kB/h
    table = a_table(channels={"main/rss_bytes": rss(0.1e6)})
    assert verdict_of(judged(table, ram_bytes=100e6), "rss_drift_bytes_per_h").verdict is FAIL
    short = settings_of(limits=SoakLimits(service_life_s=7 * 86400.0))
    found = verdict_of(judged(table, short, ram_bytes=100e6), "rss_drift_bytes_per_h")
    assert found.verdict is PASS
    assert "it does drift, within its limit" in found.reasons


def test_without_ram_there_is_no_limit_and_no_verdict():
    found = verdict_of(judged(a_table(), ram_bytes=None), "rss_drift_bytes_per_h")
    assert found.verdict is NONE
    assert "RAM isn't known; set soak.limits.most.rss_bytes" in found.reasons[0]


def test_one_open_file_more_every_three_hours_is_found():
    table = a_table(channels={"main/fds": 12 + np.floor(T_H / 3)})
    settings = settings_of(limits=SoakLimits(most={"fds": 100.0}))
    assert verdict_of(judged(table, settings), "fds_drift_per_h").verdict is FAIL
    assert verdict_of(judged(a_table(), limited(0.0, "fds")), "fds_drift_per_h").verdict is PASS


def test_a_latency_that_grows_is_found():
    table = a_table(calls=10)
    grow = 1 + 0.005 * T_H
    from harness.model import SparseHistograms
    from harness.stats.histograms import bucket_of

    times = np.repeat(5e6 * grow, 10) * (1 + 0.002 * np.random.default_rng(0).standard_normal(8640))
    histogram = SparseHistograms(
        table.latency["main"].offset,
        bucket_of(times.astype(np.int64)).astype(np.int32),
        np.ones(8640, dtype=np.int64),
    )
    extremes = {
        "main/min_ns": times.reshape(-1, 10).min(axis=1),
        "main/max_ns": times.reshape(-1, 10).max(axis=1),
    }
    slower = replace(table, latency={"main": histogram}, channels={**table.channels, **extremes})
    assert verdict_of(judged(slower), "latency_p99_drift_ns_per_h").verdict is FAIL
    assert verdict_of(judged(table), "latency_p99_drift_ns_per_h").verdict is PASS


def test_a_throughput_that_falls_is_found():
    falling = np.floor(100 * (1 - 0.003 * T_H) + np.random.default_rng(0).uniform(size=864))
    table = a_table(channels={"main/calls": falling})
    found = verdict_of(judged(table), "throughput_drift_per_s_per_h")
    assert found.verdict is FAIL
    assert "even its upper bound" in found.reasons[0]


def test_a_temperature_needs_a_limit():
    table = a_table(channels={"device/temp_c.cpu": 60 + 0.2 * T_H})
    assert verdict_of(judged(table), "temp_drift_c_per_h").verdict is NONE
    settings = settings_of(limits=SoakLimits(most={"temp_c": 80.0}))
    assert verdict_of(judged(table, settings), "temp_drift_c_per_h").verdict is FAIL
    (row,) = [m for m in judged(table, fidelity=Fidelity.VIRTUAL).measurements if "temp" in m.metric]
    assert row.fidelity is Fidelity.ESTIMATED


def test_too_short_is_not_judged_and_says_what_it_needs():
    table = a_table(6.25)
    found = judged(table, settings_of(6.25))
    result = verdict_of(found, "rss_drift_bytes_per_h")
    assert result.verdict is NONE
    assert result.reasons[0].startswith("not judged: needs 7 h, 6 blocks of 1 h after 1 h of warm-up; has 5")
    assert verdicts(found) == {PASS, NONE}
    assert verdict_of(judged(a_table(7), settings_of(7)), "rss_drift_bytes_per_h").verdict is PASS


def test_a_smoke_of_two_minutes_passes_on_coverage_and_events():
    found = judged(a_table(2 / 60, 1.0, calls=100), settings_of(2 / 60, 1.0))
    assert verdicts(found) == {PASS, NONE}
    assert verdict_of(found, "coverage_ratio").verdict is PASS


def test_warming_up_is_no_leak():
    warm = 20e6 * (1 - np.exp(-T_H / 0.2))
    table = a_table(channels={"main/rss_bytes": rss() + warm})
    assert verdict_of(judged(table, limited(0.05e6)), "rss_drift_bytes_per_h").verdict is PASS


@pytest.mark.parametrize("period_h", [0.5, 1.0, 3.0, 6.0])
@pytest.mark.parametrize(("leak", "verdict"), [(0.0, PASS), (0.3e6, FAIL)])
def test_a_sawtooth_is_judged_by_its_troughs(period_h, leak, verdict):
    saw = 10e6 * ((T_H / period_h + 0.3) % 1)
    table = a_table(channels={"main/rss_bytes": rss(leak, sd=0.1e6) + saw})
    found = judged(table, limited(0.1e6))
    assert verdict_of(found, "rss_drift_bytes_per_h").verdict is verdict


def test_a_sawtooth_of_two_days_fails_nothing():
    table = a_table(channels={"main/rss_bytes": rss(sd=0.1e6) + 10e6 * ((T_H / 30) % 1)})
    assert verdict_of(judged(table, limited(0.05e6)), "rss_drift_bytes_per_h").verdict is not FAIL


@pytest.mark.parametrize(("leak", "verdict"), [(0.0, PASS), (0.2e6, FAIL)])
def test_a_restart_begins_a_new_level(leak, verdict):
    lives = (SoakLife(1, 0, 0, "start", "a"), SoakLife(2, 30 * HOUR_S, 0.0, "boottime", "a"))
    events = (
        SoakEvent(30 * HOUR_S, "runner_restarted", "", life=2),
        SoakEvent(50 * HOUR_S, "child_restarted", "", stream="main", life=2),
    )
    stays = np.select([T_H < 30, T_H < 50], [T_H, T_H - 30], T_H - 50)
    level = np.select([T_H < 30, T_H < 50], [0.0, 30e6], 60e6)
    noise = ar1(np.random.default_rng(2), 864, 0.5, 0.2e6)
    table = a_table(
        lives=lives, events=events, channels={"main/rss_bytes": 60e6 + level + leak * stays + noise}
    )
    found = judged(table, limited(0.08e6))
    assert verdict_of(found, "rss_drift_bytes_per_h").verdict is verdict
    (row,) = [r for r in found.settings["drift"] if r["series"] == "main/rss_bytes"]
    assert "within each of 3 stays" in row["method"]
    assert row["kept"].count(False) == 3  # each warms up anew


def test_stays_too_short_to_tell_are_not_judged():
    lives = tuple(SoakLife(i + 1, i * 2 * HOUR_S, 0.0, "boottime", "a") for i in range(36))
    result = verdict_of(judged(a_table(lives=lives)), "rss_drift_bytes_per_h")
    assert result.verdict is NONE
    assert "each too short" in result.reasons[0]


def test_of_several_variants_the_one_most_used_is_judged():
    light = (np.arange(864) // 50) % 3 == 2
    names = tuple(np.where(light, "int8", "fp32"))
    values = np.where(light, 20e6, 0.0) * np.linspace(1, 3, 864)
    table = a_table(variants={"main": names}, channels={"main/rss_bytes": rss() - values})
    found = judged(table, limited(0.05e6))
    assert verdict_of(found, "rss_drift_bytes_per_h").verdict is PASS
    (row,) = [r for r in found.settings["drift"] if r["series"] == "main/rss_bytes"]
    assert "windows of `fp32` alone" in row["method"]


def test_what_would_tell_more_is_said():
    found = judged(
        a_table(24, channels={"main/rss_bytes": rss(sd=3e6)[:288]}),
        replace(limited(0.1e6), duration_s=86400.0),
    )
    result = verdict_of(found, "rss_drift_bytes_per_h")
    assert result.verdict is OPEN
    assert any("h after warm-up would tell, were its noise the same" in reason for reason in result.reasons)


@pytest.mark.parametrize(("leak", "verdict"), [(0.0, PASS), (0.6e6, FAIL)])
def test_against_a_known_good_soak_the_difference_counts(leak, verdict):
    good = judged(a_table(channels={"main/rss_bytes": rss(0.2e6, seed=5)}))
    table = a_table(channels={"main/rss_bytes": rss(0.2e6 + leak)})
    found = judged(table, baseline=good.measurements)
    assert verdict_of(found, "rss_drift_bytes_per_h").verdict is PASS
    result = verdict_of(found, "rss_drift_bytes_per_h", "soak, against the baseline")
    assert result.verdict is verdict
    (row,) = [r for r in found.settings["drift"] if r["series"] == "main/rss_bytes"]
    assert row["baseline"]["verdict"] == verdict.value
    assert row["baseline"]["slope_per_h"] == pytest.approx(leak, abs=0.05e6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_whatever_a_table_holds_it_is_judged_and_what_was_not_seen_does_not_pass(seed):
    rng = np.random.default_rng(seed)
    hours, window_s = float(rng.choice([0.1, 3.0, 9.0, 30.0])), float(rng.choice([60.0, 300.0]))
    n = int(hours * HOUR_S / window_s)

    def holes(values):
        return np.where(rng.random(n) < rng.choice([0.0, 0.3, 1.0]), np.nan, values)

    lives = tuple(
        SoakLife(i + 1, float(at), float(rng.uniform(0, 900)), "realtime", f"boot-{i}")
        for i, at in enumerate([0.0, *np.sort(rng.uniform(0, hours * HOUR_S, rng.integers(0, 4)))])
    )
    kinds = ("reboot", "crash", "child_restarted", "throttled", "power_cut", "clock_step", "odd")
    events = tuple(
        SoakEvent(
            float(rng.uniform(-10, hours * HOUR_S + 10)), str(rng.choice(kinds)), "", stream="main", life=1
        )
        for _ in range(rng.integers(0, 6))
    )
    channels = {
        "main/rss_bytes": holes(rng.choice([0.0, 6e7]) + rng.normal(0, rng.choice([0.0, 1e6]), n)),
        "main/calls": holes(np.floor(rng.uniform(0, 5, n))),
        "main/errors": np.floor(rng.uniform(0, 2, n)),
        "main/fds": np.round(rng.uniform(10, 12, n)),
        "device/temp_c.cpu": holes(rng.uniform(40, 90, n)),
    }
    keep = rng.random(n) < rng.choice([0.0, 0.5, 0.995, 1.0])
    table = a_table(hours, window_s, channels=channels, lives=lives, events=events, keep=keep)
    found = judged(table, settings_of(hours, window_s, alerts=("temp_c > 80 for 5min", "npu_temp_c > 1")))
    json.dumps(to_plain(found.settings), allow_nan=False)
    coverage = verdict_of(found, "coverage_ratio").verdict
    assert coverage is (PASS if keep.sum() * window_s >= 0.99 * hours * HOUR_S else OPEN)
    if not np.nansum(table.channels["main/calls"]):
        assert verdict_of(found, "soak_calls").verdict is OPEN
    for m in found.measurements:
        assert m.low is None or m.value is None or m.low <= m.value
        assert m.high is None or m.value is None or m.value <= m.high
