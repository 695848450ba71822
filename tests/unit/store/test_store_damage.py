"""Damaged, partial and foreign files: each is named, none is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import records

from harness.errors import StoredRunError
from harness.model import Effect, Method, Outcome, Scope
from harness.store import Store, read_run, read_session
from harness.store.versions import SCHEMA_VERSION

RUN = "001-deploy"
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session of two runs, one with samples."""
    latency = records.latency_series(5.0, seed=1)
    runs = [records.run(RUN, series=(latency,), log="log"), records.run("002-other")]
    return records.write_session(tmp_path, runs=runs)


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("series.parquet", _truncate, "the file changed after it was written"),
        ("series.parquet", _flip, "the file changed after it was written"),
        ("series.parquet", Path.unlink, "can't be read"),
        ("log.txt", _flip, "the file changed after it was written"),
        ("run.json", _truncate, "is not JSON"),
        ("run.json", _flip, ""),
        ("run.json", Path.unlink, "can't be read"),
        ("run.json", lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8"),
        ("run.json", lambda path: path.write_text("[]"), "expected an object"),
        ("run.json", lambda path: path.write_text("[" * 100_000), ""),
    ],
)
def test_damage_is_named_and_counts_as_invalid(
    folder: Path, file: str, damage: Callable[[Path], object], said: str
) -> None:
    path = folder / "runs" / RUN / file
    damage(path)
    with pytest.raises(StoredRunError) as caught:
        read_run(folder / "runs" / RUN)
    assert caught.value.where.startswith(str(path))
    assert said in caught.value.what
    assert caught.value.next_step
    stored = read_session(folder)
    (problem,) = stored.problems
    assert str(path) in str(problem)
    kept = [run for run in stored.runs if run.run_id == RUN]
    assert all(run.outcome is Outcome.INVALID and not run.measurements for run in kept)
    assert [run.run_id for run in stored.runs if run.run_id != RUN] == ["002-other"]


def test_a_run_with_lost_samples_keeps_its_name(folder: Path) -> None:
    _truncate(folder / "runs" / RUN / "series.parquet")
    (kept,) = [run for run in read_session(folder).runs if run.run_id == RUN]
    assert (kept.model, kept.suite, kept.outcome) == ("digits_fp32_onnx", "deploy", Outcome.INVALID)
    assert "series.parquet" in str(kept.reason)


def test_an_edited_number_is_noticed(folder: Path) -> None:
    def faster(document: dict[str, Any]) -> None:
        document["run"]["measurements"][0]["value"] = 1.0

    _edit(folder / "runs" / RUN / "run.json", faster)
    (problem,) = read_session(folder).problems
    assert "the file changed after it was written" in str(problem)


def test_a_removed_run_is_noticed(folder: Path) -> None:
    for file in (folder / "runs" / RUN).iterdir():
        file.unlink()
    (folder / "runs" / RUN).rmdir()
    (problem,) = read_session(folder).problems
    assert RUN in str(problem)


def test_a_partial_run_of_a_killed_session_is_noticed(tmp_path: Path) -> None:
    writer = Store(tmp_path).open_session(records.session(finished_at=None))
    writer.add_run(records.run(RUN))
    (writer.folder / "runs" / ".tmp-002-memory-x").mkdir()
    stored = read_session(writer.folder)
    assert [run.run_id for run in stored.runs] == [RUN]
    assert stored.record.finished_at is None
    (problem,) = stored.problems
    assert "was being written" in str(problem)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["run"].update(nonsense=1), "unknown key `nonsense`"),
        (lambda d: d["run"].update(treads=1), "did you mean `threads`"),
        (lambda d: d["run"].pop("model"), "`model` is missing"),
        (lambda d: d["run"].update(attempt="1"), "attempt: expected int, found str"),
        (lambda d: d["run"].update(attempt=True), "attempt: expected int, found bool"),
        (lambda d: d["run"].update(outcome="great"), "'great' is none of completed"),
        (lambda d: d["run"].update(measurements={}), "measurements: expected a list"),
        (lambda d: d["run"]["measurements"][0].update(value="fast"), r"measurements\[0\]: value"),
        (lambda d: d["run"].update(device=None), "device: expected DeviceFacts"),
        (lambda d: d["run"].update(run_id="other"), "holds run 'other'"),
        (lambda d: d.pop("run"), "expected Run, found NoneType"),
        (lambda d: d.pop("files"), "has no checksum"),
        (lambda d: d["series"][0].update(count=1), "expected 1"),
        (lambda d: d["series"][0].pop("dtype"), "described wrongly"),
        (lambda d: d.pop("schema_version"), "schema_version is None"),
        (lambda d: d.update(schema_version=True), "schema_version is True"),
        (lambda d: d.update(schema_version=0), "schema_version is 0"),
        (lambda d: d.update(schema_version=99), r"schema_version is 99.*Update the harness"),
    ],
)
def test_a_wrong_document_says_where_and_what(
    folder: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    _edit(folder / "runs" / RUN / "run.json", change)
    with pytest.raises(StoredRunError, match=said) as caught:
        read_run(folder / "runs" / RUN)
    assert str(folder / "runs" / RUN) in caught.value.where


def test_a_parquet_file_of_another_shape_is_refused(folder: Path) -> None:
    import pandas as pd

    from harness.store import series

    path = folder / "x.parquet"
    pd.DataFrame({"value": [1.0]}).to_parquet(path)
    with pytest.raises(StoredRunError, match="lacks the column `series`"):
        series.decode(path.read_bytes(), [], where=str(path))
    with pytest.raises(StoredRunError, match="is not a whole Parquet file"):
        series.decode(b"PAR1", [], where=str(path))


def test_a_folder_that_is_no_session_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoredRunError, match=r"no session.json here.*reports/latest"):
        read_session(tmp_path)


def test_a_damaged_session_file_is_an_error(folder: Path) -> None:
    _truncate(folder / "session.json")
    with pytest.raises(StoredRunError, match="is not JSON"):
        read_session(folder)


def test_a_newer_session_file_is_an_error(folder: Path) -> None:
    _edit(folder / "session.json", lambda d: d.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(StoredRunError, match="Update the harness"):
        read_session(folder)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_every_old_version_is_still_read(version: int) -> None:
    stored = read_session(FIXTURES / f"v{version}")
    assert stored.problems == ()
    assert [run.outcome for run in stored.runs] == [Outcome.COMPLETED, Outcome.INFRA_ERROR]
    done, lost = stored.runs
    assert done.series[0].values[:2].tolist() == [5_012_345, 5_023_456]
    assert done.measurements[0].metric == "latency_p50_ns"
    assert lost.error is not None
    assert lost.error.slug == "connection-lost"
    assert lost.log == "last words\n"


def test_what_version_2_brought_is_read_as_it_was_written() -> None:
    done = read_session(FIXTURES / "v2").runs[0]
    duet, paired = done.comparisons
    assert (duet.method, duet.effect, duet.low, duet.high) == (Method.DUET, Effect.RATIO, 1.0199, 1.0208)
    assert (duet.df, duet.baseline_name, duet.settings) == (1.0, "release", {"seed": 7, "pairs": 2})
    assert (paired.low, paired.invalid) == (None, ("the baseline is another unit's",))
    assert [c.scope for c in done.conditions] == [Scope.ALL, Scope.ALL, Scope.ALL, Scope.ABSOLUTE]
    assert [s.arm for s in done.series] == ["candidate", "baseline"]
    assert done.series[1].block is not None
    assert done.series[1].block.tolist() == [0, 0, 1, 1]


def test_version_1_says_nothing_of_what_came_later() -> None:
    done = read_session(FIXTURES / "v1").runs[0]
    assert done.comparisons == ()
    assert {c.scope for c in done.conditions} == {Scope.ALL}
    assert (done.series[0].arm, done.series[0].block) == ("", None)


def test_a_fixture_exists_for_every_version() -> None:
    assert sorted(p.name for p in FIXTURES.iterdir()) == [f"v{n}" for n in range(1, SCHEMA_VERSION + 1)]
