"""The index: found again from the folders, never in the way of a run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from support import records

from harness.errors import StoredRunError
from harness.model import Fidelity
from harness.store import Store, read_session


def test_measurements_are_found_by_model_metric_and_device(tmp_path: Path) -> None:
    records.write_session(tmp_path)
    index = Store(tmp_path).index
    found = index.measurements(model="digits_int8_onnx", metric="latency_p99_ns")
    (row,) = found
    assert (row.device_name, row.scenario, row.fidelity) == (
        "rpi4-emulated",
        "single_stream",
        Fidelity.VIRTUAL,
    )
    assert row.value is not None
    assert (row.folder / "run.json").is_file()
    assert len(index.measurements(model="digits_int8_onnx")) > 10
    assert index.measurements(device_name="nobody") == ()


def test_the_index_is_rebuilt_from_the_folders(tmp_path: Path) -> None:
    records.write_session(tmp_path)
    before = Store(tmp_path).index.measurements()
    (tmp_path / "index.sqlite").unlink()
    store = Store(tmp_path)
    assert store.reindex() == ()
    assert store.index.measurements() == before


def test_a_missing_index_is_rebuilt_when_the_next_session_opens(tmp_path: Path) -> None:
    records.write_session(tmp_path)
    (tmp_path / "index.sqlite").unlink()
    store = Store(tmp_path)
    store.open_session(records.session(session_id="next"))
    assert {p.name for p in store.index.session_folders()} == {records.SESSION_ID, "next"}


def test_sessions_elsewhere_survive_a_rebuild(tmp_path: Path) -> None:
    store = Store(tmp_path / "reports")
    store.open_session(records.session(), tmp_path / "there")
    store.reindex()
    (folder,) = store.index.session_folders()
    assert folder.resolve() == (tmp_path / "there").resolve()


def test_rebuilding_reports_what_it_could_not_read(tmp_path: Path) -> None:
    folder = records.write_session(tmp_path, runs=[records.run()])
    (folder / "runs" / "001-deploy" / "series.parquet").write_bytes(b"")
    other = records.write_session(tmp_path, records.session(session_id="other"), runs=[])
    (other / "session.json").write_text("{")
    problems = Store(tmp_path).reindex()
    assert len(problems) == 2


def test_a_broken_index_never_costs_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is no database, but long enough to be looked at" * 20)
    with caplog.at_level(logging.WARNING):
        writer = Store(tmp_path).open_session(records.session())
        writer.add_run(records.run())
        writer.finish(records.session())
    assert len(read_session(writer.folder).runs) == 1
    assert len(writer.warnings) == 3
    assert "is stored but not in the index" in caplog.text
    with pytest.raises(StoredRunError, match="Remove it; it is rebuilt"):
        Store(tmp_path).index.measurements()


def test_a_finished_session_replaces_its_row(tmp_path: Path) -> None:
    records.write_session(tmp_path, runs=[records.run()])
    store = Store(tmp_path)
    assert len(store.index.session_folders()) == 1
    assert len(store.index.measurements()) == 1


def test_folders_can_be_moved_with_their_index(tmp_path: Path) -> None:
    records.write_session(tmp_path / "a", runs=[records.run()])
    shutil.move(tmp_path / "a", tmp_path / "b")
    (row,) = Store(tmp_path / "b").index.measurements()
    assert (row.folder / "run.json").is_file()


def test_another_database_can_be_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    Store(tmp_path / "reports", index_url=url).open_session(records.session())
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "reports" / "index.sqlite").exists()


def test_any_text_can_be_indexed(tmp_path: Path) -> None:
    odd = "caf\udce9\0"
    writer = Store(tmp_path).open_session(records.session(command=(odd,), plan_path=odd))
    writer.add_run(records.run(model=odd))
    assert writer.warnings == []
    (row,) = Store(tmp_path).index.measurements()
    assert row.model == "caf?\ufffd"


def test_a_password_never_shows(tmp_path: Path) -> None:
    index = Store(tmp_path, index_url="sqlite:////nowhere/at/all?user:secret@host").index
    with pytest.raises(StoredRunError) as caught:
        index.measurements()
    assert "secret" not in str(caught.value)
