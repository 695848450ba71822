"""CSV files: what meters write, half-written ones, and files of something else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support.meters import CSV, read_spec, write_csv

from harness import instruments
from harness.errors import ConfigError, DataError, Unsupported
from harness.instruments.base import Context
from harness.instruments.csv_file import read_columns


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def power(path: Path, time_unit: str = "s") -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    t_ns, values, errors = read_columns(path, "t", time_unit, ["P"])
    return t_ns, values["P"], errors


@pytest.mark.parametrize(
    ("unit", "times", "ns"),
    [
        ("s", ("0.5", "1e0"), (500_000_000, 1_000_000_000)),
        ("ms", ("1.5", "2"), (1_500_000, 2_000_000)),
        ("us", ("10", "20"), (10_000, 20_000)),
        ("ns", ("7", "9"), (7, 9)),
        ("iso8601", ("1970-01-01T00:00:01.25", "1970-01-01T01:00:02+01:00"), (1_250_000_000, 2_000_000_000)),
    ],
)
def test_times_in_each_unit(tmp_path: Path, unit: str, times: tuple[str, str], ns: tuple[int, int]) -> None:
    t_ns, values, _ = power(write(tmp_path / "a.csv", "t,P", f"{times[0]},1", f"{times[1]},2"), unit)
    assert t_ns.tolist() == list(ns)
    assert t_ns.dtype == np.int64
    assert values.tolist() == [1.0, 2.0]


def test_an_empty_cell_is_nan_never_zero(tmp_path: Path) -> None:
    _, values, errors = power(write(tmp_path / "a.csv", "# a note", "t,P", "0,1", "1,", "2,NaN", "3,4"))
    assert values[0] == 1
    assert math.isnan(values[1])
    assert math.isnan(values[2])
    assert errors == ()


def test_a_row_that_is_cut_is_left_out_and_told(tmp_path: Path) -> None:
    t_ns, values, errors = power(write(tmp_path / "a.csv", "t,P", "0,1", "0.5", "1,2"))
    assert values.tolist() == [1.0, 2.0]
    assert len(t_ns) == 2
    (error,) = errors
    assert "1 rows left out: 1 cells, expected 2" in error


@pytest.mark.parametrize("cut", ["2", "2,30"])
def test_a_last_line_without_its_end_is_left_out_and_told(tmp_path: Path, cut: str) -> None:
    """The meter's software is still writing: 30 may become 3000."""
    path = tmp_path / "a.csv"
    path.write_text(f"t,P\n0,1000\n1,2000\n{cut}")
    _, values, errors = power(path)
    assert values.tolist() == [1000.0, 2000.0]
    assert errors == (f"a.csv: its last line has no end and is left out: {cut!r}",)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (("t,P", "0,one"), "one"),
        (("t,P",), "no sample"),
        (("t,P", ",1", "1,2"), "1 rows have no time"),
        (("",), "can't be read"),
    ],
)
def test_what_is_no_capture_is_refused(tmp_path: Path, lines: tuple[str, ...], what: str) -> None:
    with pytest.raises(DataError, match=what):
        power(write(tmp_path / "a.csv", *lines))


def test_times_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ISO 8601"):
        power(write(tmp_path / "a.csv", "t,P", "noon,1"), "iso8601")


def test_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "# x", "t,Power", "0,1")
    with pytest.raises(ConfigError, match="no column `Powr`; did you mean `Power`"):
        read_columns(path, "t", "s", ["Powr"])
    with pytest.raises(ConfigError, match="can't be read"):
        read_columns(tmp_path / "none.csv", "t", "s", ["P"])


def opened(tmp_path: Path, table: str = CSV) -> instruments.Instrument:
    spec = read_spec(tmp_path, table.format(path=tmp_path / "capture.csv"))
    return instruments.open_instrument(spec, Context())


def test_rows_that_are_missing_are_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "capture.csv"
    write_csv(path, rows=1000)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:300] + lines[340:]) + "\n")
    meter = opened(tmp_path)
    meter.start(["supply"], 1000)
    (capture,) = meter.stop()
    assert (capture.health.expected, capture.health.got, capture.health.gaps) == (1000, 960, 1)


def test_a_slower_file_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "capture.csv", rate_hz=100)
    meter = opened(tmp_path)
    meter.start(["supply"], 1000)
    with pytest.raises(Unsupported, match="taken at 100 Hz, 1000 Hz were asked for"):
        meter.stop()


def test_the_last_row_is_a_reading_or_an_error(tmp_path: Path) -> None:
    write(tmp_path / "capture.csv", "Time (s),Power (mW)", "0,4200", "1,4300")
    assert opened(tmp_path).read("supply").value == pytest.approx(4.3)
    write(tmp_path / "capture.csv", "Time (s),Power (mW)", "0,4200", "1,")
    with pytest.raises(DataError, match="last row has no number"):
        opened(tmp_path).read("supply")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('time_column = "Time (s)"', "", "time_column: is missing"),
        ('column = "Power (mW)"', "", "column: is missing"),
        ('kind = "power_w"', 'kind = "power"', "did you mean `power_w`"),
        ("stale_after_s = 0", 'delimiter = "tab"', "one character"),
        ("scale = 0.001", "scal = 0.001", "did you mean `scale`"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, old: str, new: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        opened(tmp_path, CSV.replace(old, new))
