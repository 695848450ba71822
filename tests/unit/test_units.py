"""Quantities in and out: exact conversion at the edge, readable text at the end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.metrics import METRICS
from harness.units import (
    UNITS,
    counted,
    format_apart,
    format_duration,
    format_quantity,
    format_significant,
    format_value,
    how_often,
    how_old,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("written", "unit", "stored"),
    [
        ("48 ms", "ns", 48_000_000),
        ("0.1 us", "ns", 100),
        ("1.5µs", "ns", 1500),
        ("2 min", "s", 120),
        ("500 ms", "s", 0.5),
        ("8.7 MB", "bytes", 8_700_000),
        ("8 MiB", "bytes", 8 * 1024 * 1024),
        ("460 kB", "bytes", 460_000),
        ("97 %", "ratio", 0.97),
        ("2.7%", "ratio", 0.027),
        (0.97, "ratio", 0.97),
        ("12/s", "1/s", 12),
        ("60 /min", "1/s", 1),
        ("1e-5", "1", 1e-5),
        ("0.1 MB/h", "bytes/h", 1e5),
        ("0.5/h", "1/h", 0.5),
        ("2 ms/h", "ns/h", 2e6),
        (12, "ns", 12),
        ("12", "ns", 12),
        (" 1_000 ", "ns", 1000),
    ],
)
def test_a_quantity_is_converted_exactly(written, unit, stored):
    assert parse_quantity(written, unit) == stored


@pytest.mark.parametrize(
    ("written", "unit", "message"),
    [
        ("48 m", "ns", "unknown unit `m` in '48 m'; valid: ns, us,"),
        ("48 MS", "ns", "did you mean"),
        ("8 mb", "bytes", "did you mean"),
        ("3 ms", "bytes", "valid: B, bytes, kB"),
        ("3 %", "1", "a plain number without a unit"),
        ("fast", "ns", 'expected "48 ms" or a number of ns'),
        ("", "ns", "expected"),
        (".", "ns", "expected"),
        (True, "ns", "expected"),
        (None, "ratio", "from 0 to 1"),
        ([1], "bytes", "expected"),
        (math.inf, "ns", "finite"),
        (math.nan, "ns", "finite"),
        ("1e999", "ns", "finite"),
    ],
)
def test_anything_else_is_refused_with_what_would_do(written, unit, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        parse_quantity(written, unit)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (5_864_800, "ns", "5.86 ms"),
        (999_999.6, "ns", "1.00 ms"),
        (12_340, "ns", "12.3 µs"),
        (12, "ns", "12 ns"),
        (0, "ns", "0 ns"),
        (2.5e9, "ns", "2.50 s"),
        (1.234e12, "ns", "1234 s"),
        (0.25, "s", "250 ms"),
        (0.4, "s", "400 ms"),
        (0, "s", "0 s"),
        (-0.0, "s", "0 s"),
        (12, "s", "12.0 s"),
        (90, "s", "90.0 s"),
        (-90, "s", "-90.0 s"),
        (0, "J", "0 J"),
        (0.0, "W", "0 W"),
        (8_700_000, "bytes", "8.70 MB"),
        (512, "bytes", "512 B"),
        (0.9722, "ratio", "97.22%"),
        (1.0, "ratio", "100%"),
        (0.99999, "ratio", ">99.99%"),
        (171.23, "1/s", "171/s"),
        (3.2e-8, "1", "3.20e-08"),
        (0, "1", "0"),
        (None, "ns", "–"),
        (math.inf, "1", "inf"),
        (21.5, "C", "21.5 C"),
    ],
)
def test_a_stored_number_reads_well(value, unit, text):
    assert format_quantity(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.25, "250 ms"), (1, "1 s"), (90, "90 s"), (600, "10 min"), (113_040, "31.4 h")],
)
def test_a_length_of_time_reads_as_people_say_it(seconds, text):
    assert format_duration(seconds) == text


def test_one_is_singular_and_all_else_is_plural():
    assert [counted(n, "restart") for n in (0, 1, 2)] == ["0 restarts", "1 restart", "2 restarts"]
    assert [counted(n, "life", "lives") for n in (1, 2)] == ["1 life", "2 lives"]
    assert [how_often(n) for n in (1, 2)] == ["once", "2 times"]


def test_an_age_is_told_in_days():
    assert [how_old(n) for n in (0, 1, 12)] == ["taken today", "1 day old", "12 days old"]
    assert how_old(-1) == "dated 1 day ahead"


def test_a_value_and_its_limit_never_look_the_same():
    assert format_apart(48_020_000, 48_000_000, "ns") == ("48.02 ms", "48.00 ms")
    assert format_apart(0.94996, 0.95, "ratio") == ("94.996%", "95%")
    assert format_apart(5e6, 5e6, "ns") == ("5.00 ms", "5.00 ms")


def test_a_metric_knows_how_it_reads():
    assert format_value(METRICS["latency_p99_ns"], 9e6) == "9.00 ms"


def test_every_metric_has_a_unit_that_can_be_written():
    assert {metric.unit for metric in METRICS.values()} <= set(UNITS)


@given(st.floats(1e-3, 1e14))
def test_what_is_printed_can_be_read_again_to_three_digits(value):
    for unit in ("ns", "bytes", "1/s", "1"):
        assert parse_quantity(format_quantity(value, unit), unit) == pytest.approx(value, rel=0.0051)


@given(st.floats(1e-3, 1.0))
def test_a_printed_ratio_is_within_its_last_digit(value):
    text = format_quantity(value, "ratio")
    if not text.startswith(">"):
        assert parse_quantity(text, "ratio") == pytest.approx(value, abs=0.000051)


@given(st.floats(-1e300, 1e300), st.integers(2, 9))
def test_significant_digits_hold_for_any_number(value, digits):
    assert float(format_significant(value, digits)) == pytest.approx(value, rel=10.0 ** (1 - digits), abs=0)


@given(st.integers(0, 10**15), st.sampled_from(["ns", "us", "ms", "s"]))
def test_whole_numbers_convert_without_a_rounding_error(count, name):
    scale = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}[name]
    assert parse_quantity(f"{count} {name}", "ns") == float(count * scale)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1e5, "bytes/h", "100 kB/h"),
        (0.25, "1/h", "0.250/h"),
        (2e6, "ns/h", "2.00 ms/h"),
        (0.5, "°C/h", "0.500 °C/h"),
    ],
)
def test_a_rate_of_change_reads_as_its_unit_per_hour(value, unit, text):
    assert format_quantity(value, unit) == text
