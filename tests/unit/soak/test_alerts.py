"""Alerts: their grammar, what they fire on, and that windows one by one tell the same as a whole table."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.soak_tables import a_table, pick

from harness.errors import ConfigError
from harness.model import SoakSettings
from harness.soak.alert_rules import SHIPPED, parse_rule, parse_rules
from harness.soak.alerts import AlertWatch, evaluate
from harness.soak.signals import sources

MIN = 60.0
QUIET = SoakSettings(window_s=MIN)  # its rules are the shipped ones


def with_rules(*rules: str, **more) -> SoakSettings:
    return SoakSettings(window_s=MIN, alerts=rules, **more)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rss_ratio > 0.85 for 5min", ("rss_ratio", ">", 0.85, 300.0, ())),
        ("rss_ratio > 85 % for 5 min", ("rss_ratio", ">", 0.85, 300.0, ())),
        ("npu_temp_c > 85", ("npu_temp_c", ">", 85.0, 0.0, ())),
        ("npu_temp_c>=85 °C", ("npu_temp_c", ">=", 85.0, 0.0, ())),
        ("main/latency_p99_ns > 50 ms for 90 s", ("main/latency_p99_ns", ">", 5e7, 90.0, ())),
        ("main/throughput_per_s < 2", ("main/throughput_per_s", "<", 2.0, 0.0, ())),
        ("device/temp_c.cpu-thermal > 80", ("device/temp_c.cpu-thermal", ">", 80.0, 0.0, ())),
        ("device/disk_free_bytes <= 100 MB", ("device/disk_free_bytes", "<=", 1e8, 0.0, ())),
        ("fds > 500", ("fds", ">", 500.0, 0.0, ())),
        ("burn_rate(1h) > 14.4", ("burn_rate", ">", 14.4, 0.0, (3600.0,))),
        ("burn_rate(6h, 30min) > 6 for 1min", ("burn_rate", ">", 6.0, 60.0, (21600.0, 1800.0))),
    ],
)
def test_the_grammar(text, expected):
    rule = parse_rule(text)
    assert (rule.signal, rule.op, rule.threshold, rule.held_s, rule.windows_s) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rss_ratio", "is no alert; expected SIGNAL > NUMBER"),
        ("", "is no alert"),
        ("rss_ratio = 0.8", "is no alert"),
        ("rss_ratio > lots", "expected"),
        ("rss_ratio > 5 GB", "unknown unit `GB`"),
        ("temp_c > 80 for ever", "expected"),
        ("temp_c > 80 for 5 parsec", "unknown unit `parsec`"),
        ("burn_rate > 14.4", "over how long"),
        ("burn_rate() > 14.4", "expected"),
        ("burn_rate(0 s) > 14.4", "above 0"),
        ("temp_c(1h) > 14.4", "only burn_rate is over windows"),
    ],
)
def test_what_is_no_alert_says_why(text, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        parse_rule(text)


def test_all_problems_of_the_rules_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_rules(["temp_c > 80", "what", "rss_ratio > 5 GB"])
    assert len(caught.value.problems) == 2


def test_the_shipped_burn_rates_go_with_any_rules_but_ones_own():
    assert [r.text for r in parse_rules(["temp_c > 80"])] == ["temp_c > 80", *SHIPPED]
    assert [r.text for r in parse_rules(["burn_rate(2h) > 3"])] == ["burn_rate(2h) > 3"]


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("main/rss_bytes", ["main/rss_bytes"]),
        ("rss_bytes", ["main/rss_bytes", "side/rss_bytes"]),
        ("side_rss_bytes", ["side/rss_bytes"]),
        ("temp_c", ["device/temp_c.cpu-thermal", "device/temp_c.npu0"]),
        ("npu_temp_c", ["device/temp_c.npu0"]),
        ("cpu_thermal_temp_c", ["device/temp_c.cpu-thermal"]),
        ("gpu_temp_c", []),
    ],
)
def test_what_a_signal_means(signal, expected):
    names = ["main/rss_bytes", "side/rss_bytes", "device/temp_c.cpu-thermal", "device/temp_c.npu0"]
    assert list(sources(signal, names)) == expected


def test_an_unknown_signal_names_the_nearest():
    with pytest.raises(ConfigError, match="nothing is called `rss_ration`; did you mean `rss_ratio`"):
        parse_rule("rss_ration > 0.85")
    with pytest.raises(ConfigError, match="nothing is called `brun_rate`; did you mean `burn_rate`"):
        parse_rule("brun_rate > 6")


def temps(*values: float):
    return a_table(len(values) / 60, MIN, channels={"device/temp_c.cpu": values})


def test_it_fires_when_it_has_lasted_and_clears_when_it_is_over():
    table = temps(70, 81, 82, 83, 70, 90, 70)
    (alert,) = evaluate(table, with_rules("temp_c > 80 for 3min")).fired
    assert (alert.fired_s, alert.cleared_s, alert.worst, alert.aborted) == (240.0, 300.0, 83.0, False)
    assert alert.describe() == "at 4 min: temp_c > 80 for 3min (worst 83.0 °C)"


def test_one_that_still_holds_has_no_end():
    (alert,) = evaluate(temps(70, 81, 85), with_rules("temp_c > 80")).fired
    assert (alert.fired_s, alert.cleared_s, alert.worst) == (120.0, None, 85.0)


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (None, ""),
        ("duration", ", held to the end"),
        ("aborted: temp_c > 80", ", ended the soak"),
        ("stopped", ", held to the end"),
    ],
)
def test_the_end_of_a_soak_ends_what_holds_with_its_outcome(ended, outcome):
    table = replace(temps(70, 81, 85), ended=ended)
    (alert,) = evaluate(table, with_rules("temp_c > 80")).fired
    assert alert.row()["held_to_s"] == (None if ended is None else 180.0)
    assert alert.describe() == f"at 2 min: temp_c > 80 (worst 85.0 °C){outcome}"
    table = replace(temps(70, 81, 70), ended=ended)
    (alert,) = evaluate(table, with_rules("temp_c > 80")).fired
    assert (alert.cleared_s, alert.row()["held_to_s"]) == (180.0, None)


def test_an_ended_soak_without_a_window_has_no_alert():
    table = replace(pick(temps(81), np.zeros(1, dtype=bool)), ended="stopped")
    assert evaluate(table, with_rules("temp_c > 80")).fired == ()


def test_what_was_not_read_is_not_beyond():
    assert evaluate(temps(81, math.nan, 81), with_rules("temp_c > 80 for 2min")).fired == ()


def test_a_gap_starts_the_duration_anew():
    table = temps(81, 81, 81, 81, 81)
    rules = with_rules("temp_c > 80 for 3min")
    assert evaluate(pick(table, np.array([1, 1, 0, 1, 1], dtype=bool)), rules).fired == ()
    assert len(evaluate(table, rules).fired) == 1


def test_a_rule_of_what_is_not_there_is_not_observable():
    found = evaluate(temps(90, 90), with_rules("npu_temp_c > 80"))
    (condition,) = found.conditions
    assert (found.fired, condition.ok) == ((), None)
    assert "nothing is called `npu_temp_c`; did you mean `cpu_temp_c`?" in condition.observed


def test_the_ratio_of_memory_is_of_all_streams():
    held = {"main/rss_bytes": np.full(10, 5e8), "side/rss_bytes": np.full(10, 4e8)}
    table = a_table(10 / 60, MIN, streams=("main", "side"), channels=held)
    (alert,) = evaluate(table, with_rules("rss_ratio > 0.85 for 5min"), ram_bytes=1e9).fired
    assert (alert.fired_s, alert.worst) == (300.0, pytest.approx(0.9))
    assert evaluate(table, with_rules("rss_ratio > 0.95"), ram_bytes=1e9).fired == ()


def with_errors(hours: float, errors) -> object:
    n = int(hours * 60)
    return a_table(hours, MIN, calls=100, channels={"main/errors": [errors(i) for i in range(n)]})


def test_a_burn_rate_is_a_multiple_of_what_the_objective_allows():
    # 3 of 100 calls fail against an objective of 99.9%: 30 times what is allowed, from the first full hour on
    table = with_errors(3, lambda i: 3)
    (alert,) = evaluate(table, QUIET).fired
    assert (alert.rule, alert.fired_s, alert.cleared_s) == (SHIPPED[0], 3600.0, None)
    assert alert.worst == pytest.approx(30)


def test_a_burn_that_is_over_clears_by_its_short_window():
    table = with_errors(4, lambda i: 10 if 60 <= i < 120 else 0)
    (alert,) = evaluate(table, QUIET).fired
    # 60 × 100 calls an hour: 10 bad windows of 10 make 1.67%, 9 make 1.5% = 15 times
    assert alert.fired_s == 69 * MIN
    # of the last 5 minutes still one window of 10% is 2%: 20 times; none is none
    assert alert.cleared_s == 125 * MIN


def test_one_failed_call_is_no_rate():
    table = a_table(3, MIN, calls=1, channels={"main/errors": [1.0 if i == 100 else 0.0 for i in range(180)]})
    assert evaluate(table, QUIET).fired == ()


def test_an_alert_that_ended_the_soak_says_so():
    rules = with_rules("temp_c > 80", abort_on_alert=True)
    table = replace(temps(70, 81), ended="aborted: temp_c > 80 (worst 81)")
    (alert,) = evaluate(table, rules).fired
    assert alert.aborted


RULES = (
    "temp_c > 80 for 3min",
    "temp_c <= 60",
    "rss_ratio > 0.5 for 2min",
    "latency_p99_ns > 5 ms",
    "error_ratio >= 10 % for 2min",
    "burn_rate(5min) > 10",
    "burn_rate(10min, 2min) > 20 for 2min",
)
VALUES = st.sampled_from([50.0, 60.0, 79.0, 80.0, 81.0, 95.0, math.nan])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            VALUES, st.sampled_from([1e8, 6e8, math.nan]), st.sampled_from([0, 0, 1, 5]), st.booleans()
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 40),
)
def test_windows_one_by_one_tell_the_same_as_a_whole_table(rows, step):
    n = len(rows)
    calls = np.array([math.nan if math.isnan(r[1]) else 10.0 for r in rows])
    whole = a_table(
        n / 60, MIN, calls=10,
        channels={
            "device/temp_c.cpu": [r[0] for r in rows],
            "main/rss_bytes": [r[1] for r in rows],
            "main/calls": calls,
            "main/errors": [float(r[2]) for r in rows],
        },
    )  # fmt: skip
    table = pick(whole, np.array([r[3] or i == 0 for i, r in enumerate(rows)]))
    told = with_rules(*RULES, availability_ratio=0.99)
    expected = evaluate(table, told, ram_bytes=1e9).fired
    watch = AlertWatch(parse_rules(RULES), availability_ratio=0.99, ram_bytes=1e9)
    seen = []
    for end in range(step, table.start_s.size + step, step):
        seen += watch.take_table(pick(table, np.arange(table.start_s.size) < end))
    assert _plain(watch.alerts) == _plain(expected)
    assert [(a.rule, a.fired_s) for a in sorted(seen, key=lambda a: (a.fired_s, a.rule))] == [
        (a.rule, a.fired_s) for a in expected
    ]
    one_by_one = AlertWatch(
        parse_rules([r for r in RULES if "latency" not in r]), availability_ratio=0.99, ram_bytes=1e9
    )
    for i in range(table.start_s.size):
        one_by_one.take(
            float(table.start_s[i]),
            float(table.end_s[i]),
            {k: float(v[i]) for k, v in table.channels.items()},
        )
    assert _plain(one_by_one.alerts) == _plain(a for a in expected if "latency" not in a.rule)


def _plain(alerts):
    return [(a.rule, a.fired_s, a.cleared_s, a.worst) for a in alerts]
