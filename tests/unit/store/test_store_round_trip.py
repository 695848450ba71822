"""What is written is read back the same: records, series to the bit, files that appear whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import records

from harness.errors import ConfigError, DataError, HostSetupError
from harness.model import Fidelity, Measurement, Outcome, Run, Series
from harness.store import Store, read_run, read_session, series, update_latest
from harness.store.codec import dump_json, from_plain, load_json, to_plain


def _same(left: Run, right: Run) -> None:
    assert replace(left, series=()) == replace(right, series=())
    assert len(left.series) == len(right.series)
    for a, b in zip(left.series, right.series, strict=True):
        assert (a.name, a.unit, a.clock, a.batch_size) == (b.name, b.unit, b.clock, b.batch_size)
        assert a.values.dtype == b.values.dtype
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_array_equal(a.process, b.process)


def test_a_session_comes_back_as_it_was_written(tmp_path: Path) -> None:
    runs = records.sample_runs()
    stored = read_session(records.write_session(tmp_path, runs=runs))
    assert stored.record == records.session()
    assert stored.problems == ()
    by_id = {run.run_id: run for run in runs}
    assert [run.run_id for run in stored.runs] == sorted(by_id, key=lambda id_: (by_id[id_].started_at, id_))
    for run in stored.runs:
        _same(run, by_id[run.run_id])


@pytest.mark.parametrize("outcome", list(Outcome))
def test_failed_runs_are_stored_too(tmp_path: Path, outcome: Outcome) -> None:
    run = records.run(outcome=outcome, measurements=(), reason="why", log="line 1\nline 2 \u2603\n")
    folder = records.write_session(tmp_path, runs=[run])
    _same(read_run(folder / "runs" / run.run_id), run)


@given(
    hnp.arrays(
        st.sampled_from([np.int64, np.int32, np.uint8, np.bool_, np.float32, np.float64]),
        st.integers(0, 30),
    )
)
def test_series_are_exact_to_the_bit(values: np.ndarray) -> None:
    process = np.arange(values.size, dtype=np.int32)
    one = Series("a", "1", values, process, None, 4)
    other = Series("b", "ns", values[::-1].copy(), process[::-1].copy(), "CLOCK_MONOTONIC")
    written = series.encode([one, other])
    first, second = series.decode(written, [series.describe(one), series.describe(other)], where="here")
    assert first.values.dtype == values.dtype
    np.testing.assert_array_equal(first.values, values)
    np.testing.assert_array_equal(second.values, values[::-1])
    np.testing.assert_array_equal(second.process, process[::-1])
    assert (first.clock, second.clock, first.batch_size) == (None, "CLOCK_MONOTONIC", 4)


def test_arms_and_blocks_of_a_comparison_come_back(tmp_path: Path) -> None:
    process, block = np.zeros(4, dtype=np.int32), np.array([0, 0, 1, 1], dtype=np.int32)
    arms = tuple(
        Series("latency_ns", "ns", np.arange(4) + i, process, "CLOCK_MONOTONIC", arm=arm, block=block)
        for i, arm in enumerate(("candidate", "baseline"))
    )
    alone = Series("load_time_ns", "ns", np.arange(4), process)
    folder = records.write_session(tmp_path, runs=[records.run(series=(*arms, alone))])
    back = read_run(folder / "runs" / "001-deploy").series
    assert [s.arm for s in back] == ["candidate", "baseline", ""]
    for series_back in back[:2]:
        assert series_back.block is not None
        np.testing.assert_array_equal(series_back.block, block)
    assert back[2].block is None


def test_block_numbers_must_match_the_samples() -> None:
    odd = Series("odd", "1", np.zeros(3), np.zeros(3, dtype=np.int32), block=np.zeros(2, dtype=np.int32))
    with pytest.raises(DataError, match="block has shape"):
        series.encode([odd])


def test_a_wall_clock_in_ns_keeps_its_last_digit(tmp_path: Path) -> None:
    stamps = np.array([1_767_323_045_000_000_001, 1_767_323_045_000_000_002])
    run = records.run(series=(Series("start_ns", "ns", stamps, np.zeros(2, dtype=np.int32)),))
    folder = records.write_session(tmp_path, runs=[run])
    assert read_run(folder / "runs" / run.run_id).series[0].values.tolist() == stamps.tolist()


def test_other_tools_read_the_series(tmp_path: Path) -> None:
    import pandas as pd

    latency = records.latency_series(5.0, seed=1, processes=2, n=8)
    run = records.run(series=(latency,))
    folder = records.write_session(tmp_path, runs=[run])
    table = pd.read_parquet(folder / "runs" / run.run_id / "series.parquet")
    assert list(table.columns) == [
        "series", "name", "unit", "process", "batch_size", "clock", "index", "value", "value_int",
        "block",
    ]  # fmt: skip
    assert table.value.tolist() == latency.values.tolist()
    assert table.groupby("process").size().tolist() == [8, 8]


@pytest.mark.parametrize(
    "values", [np.array(["a"]), np.array([1 + 2j]), np.zeros((2, 2)), np.array([2**63], dtype=np.uint64)]
)
def test_values_that_are_no_plain_numbers_are_refused(values: np.ndarray) -> None:
    process = np.zeros(values.shape, dtype=np.int32)
    with pytest.raises(DataError, match="series odd"):
        series.encode([Series("odd", "1", values, process)])


def test_process_numbers_must_match_the_samples() -> None:
    with pytest.raises(DataError, match="process has shape"):
        series.encode([Series("odd", "1", np.zeros(3), np.zeros(2, dtype=np.int32))])


def test_numbers_that_json_cannot_hold_come_back(tmp_path: Path) -> None:
    odd = Measurement("output_max_abs_error", float("inf"), float("nan"), -float("inf"), 0, Fidelity.MEASURED)
    run = records.run(measurements=(odd,), settings={"worst": float("inf")})
    folder = records.write_session(tmp_path, runs=[run])
    document = json.loads((folder / "runs" / run.run_id / "run.json").read_text(), parse_constant=pytest.fail)
    assert document["run"]["settings"] == {"worst": "inf"}
    (back,) = read_run(folder / "runs" / run.run_id).measurements
    assert (back.value, back.high) == (float("inf"), -float("inf"))
    assert back.low is not None
    assert np.isnan(back.low)


def test_settings_of_every_plain_kind_are_stored() -> None:
    settings = {
        "path": Path("a/b"),
        "n": np.int64(3),
        "xs": (1, 2),
        "deep": {"set": {2, 1}},
        "f": Fidelity.VIRTUAL,
    }
    assert to_plain(settings) == {
        "path": "a/b",
        "n": 3,
        "xs": [1, 2],
        "deep": {"set": [1, 2]},
        "f": "virtual",
    }


def test_a_value_that_cannot_be_stored_names_its_place() -> None:
    with pytest.raises(DataError, match=r"run x\.settings\.handle: a object can't be stored"):
        to_plain({"settings": {"handle": object()}}, where="run x")


@given(st.text())
def test_any_text_survives_json(text: str) -> None:
    assert load_json(dump_json({"t": text}), where="here") == {"t": text}


def test_undecodable_file_names_survive_json() -> None:
    name = os.fsdecode(b"caf\xe9")
    assert load_json(dump_json({"t": name}), where="here") == {"t": name}


def test_every_record_round_trips_through_plain_values() -> None:
    for run in records.sample_runs():
        bare = replace(run, series=())
        assert from_plain(Run, json.loads(dump_json(to_plain(bare))), where="here") == bare


# --- places and names -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/etc", "a\0b", ".hidden", "a\nb", "x" * 201])
def test_names_from_outside_cannot_leave_their_folder(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "reports")
    with pytest.raises(ConfigError, match="can't be a file name"):
        store.open_session(records.session(session_id=name))
    writer = store.open_session(records.session())
    with pytest.raises(ConfigError, match="can't be a file name"):
        writer.add_run(records.run(name))
    with pytest.raises(ConfigError, match="can't be a file name"):
        writer.attach(name, b"")
    assert {p.name for p in tmp_path.iterdir()} == {"reports"}


def test_an_attempt_is_never_overwritten(tmp_path: Path) -> None:
    writer = Store(tmp_path).open_session(records.session())
    writer.add_run(records.run(log="first"))
    with pytest.raises(ConfigError, match="exists already"):
        writer.add_run(records.run(log="second"))
    assert read_run(writer.folder / "runs" / "001-deploy").log == "first"


def test_a_session_is_never_overwritten(tmp_path: Path) -> None:
    Store(tmp_path / "reports").open_session(records.session(), tmp_path / "there")
    with pytest.raises(ConfigError, match=r"holds a session already.*--report-dir"):
        Store(tmp_path / "reports").open_session(records.session(session_id="other"), tmp_path / "there")


def test_a_session_goes_where_asked(tmp_path: Path) -> None:
    asked = tmp_path / "deep" / "there"
    writer = Store(tmp_path / "reports").open_session(records.session(), asked)
    assert writer.folder == asked
    assert read_session(asked).record.session_id == records.SESSION_ID


def test_a_run_of_another_session_is_refused(tmp_path: Path) -> None:
    writer = Store(tmp_path).open_session(records.session())
    with pytest.raises(DataError, match="belongs to session 'other'"):
        writer.add_run(records.run(session_id="other"))


def test_an_attachment_is_kept_beside_the_runs(tmp_path: Path) -> None:
    writer = Store(tmp_path).open_session(records.session())
    path = writer.attach("console.log", b"\x00boot")
    assert path == writer.folder / "attachments" / "console.log"
    assert path.read_bytes() == b"\x00boot"


def test_a_run_that_cannot_be_stored_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Store(tmp_path).open_session(records.session())

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostSetupError, match=r"No space left.*--report-dir"):
        writer.add_run(records.run())
    assert list((writer.folder / "runs").iterdir()) == []


def test_files_are_readable_by_others_as_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        folder = records.write_session(tmp_path, runs=[records.run()])
    finally:
        os.umask(mask)
    assert (folder / "session.json").stat().st_mode & 0o777 == 0o644
    assert (folder / "runs" / "001-deploy").stat().st_mode & 0o777 == 0o755


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    records.write_session(tmp_path)
    assert [p for p in tmp_path.rglob(".tmp-*")] == []


# --- latest ---------------------------------------------------------------------------------------


def test_latest_is_a_relative_link_that_moves(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        link = update_latest(tmp_path, tmp_path / name)
        assert os.readlink(link) == name
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".tmp-")] == []


def test_latest_never_replaces_what_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(ConfigError, match="is no link"):
        update_latest(tmp_path, tmp_path)


def test_latest_reaches_a_session_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "there").mkdir()
    link = update_latest(tmp_path / "reports", tmp_path / "there")
    assert link.resolve() == (tmp_path / "there").resolve()


def test_a_file_where_the_sessions_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(ConfigError, match=r"report: is a file, expected a folder\. Move it away\. Or choose"):
        Store(tmp_path / "reports").open_session(records.session(), tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"
