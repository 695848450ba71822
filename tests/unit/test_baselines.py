"""Recorded baselines on disk: what is recorded, refused, replaced, and noticed when damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import records

from harness import baselines
from harness.errors import ConfigError, HostSetupError, StoredRunError, TransientError
from harness.model import Budget, ErrorRecord, Outcome
from harness.store import read_session

BYTES = b"a model"
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "baselines"


def a_session(tmp_path: Path, *runs, **changes):
    """Return a stored session of `runs`, in a folder of its own."""
    number = len(list(tmp_path.glob("session-*")))
    return read_session(
        records.write_session(tmp_path / f"session-{number}", records.session(**changes), runs)
    )


def a_run(model: Path | None, run_id: str = "001-deploy", **changes):
    settings = {"profile": "native", "runtime_packages": ["onnxruntime==1.31.1"]}
    if model is not None:
        settings["artifact_path"] = str(model)
    return records.run(run_id, artifact_sha256=SHA, settings=settings, **changes)


def entries(tmp_path, *runs, **options):
    return baselines.entries_of(a_session(tmp_path, *runs), "release", (), **options)


# --- there and back


def test_numbers_and_file_come_back(tmp_path, model, folder):
    (entry,) = entries(tmp_path, a_run(model))
    assert (entry.artifact_path, entry.note) == (model, "")
    assert baselines.put(folder, "release", [entry]) == ()
    (back,) = baselines.read(folder, "release")
    assert back == entry.facts
    assert (back.name, back.artifact_sha256, back.artifact_format) == ("release", SHA, "onnx")
    copy = baselines.artifact_path(folder, back)
    assert copy == folder / "release" / "artifacts" / f"{SHA}.onnx"
    model.unlink()
    assert copy.read_bytes() == BYTES
    assert baselines.names(folder) == ("release",)
    assert [p for p in folder.rglob(".tmp-*")] == []


def test_every_suite_and_model_of_a_session_is_recorded(tmp_path, folder):
    whole = [run for run in records.sample_runs() if not run.run_id.endswith(("lost", "skipped"))]
    baselines.put(folder, "release", entries(tmp_path, *whole))
    back = baselines.read(folder, "release")
    assert [e.model for e in back] == sorted(records.MODELS)
    assert {len(e.numbers) for e in back} == {19}
    assert {e.artifact_file for e in back} == {None}


def test_units_are_recorded_one_by_one(tmp_path, model, folder):
    other = replace(records.PI, name="rpi4-02")
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    assert baselines.put(folder, "release", entries(tmp_path, a_run(model, device=other))) == ()
    assert [e.device_name for e in baselines.read(folder, "release")] == ["rpi4-02", "rpi4-emulated"]
    (replaced,) = baselines.put(folder, "release", entries(tmp_path, a_run(model, device=other, threads=4)))
    assert (replaced.device_name, replaced.threads) == ("rpi4-02", 1)
    assert {e.device_name: e.threads for e in baselines.read(folder, "release")} == {
        "rpi4-02": 4,
        "rpi4-emulated": 1,
    }


def test_a_file_that_nobody_needs_any_more_goes(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    model.write_bytes(b"a newer model")
    newer = hashlib.sha256(b"a newer model").hexdigest()
    session = a_session(tmp_path, replace(a_run(model), artifact_sha256=newer))
    baselines.put(folder, "release", baselines.entries_of(session, "release", ()))
    assert [p.name for p in (folder / "release" / "artifacts").iterdir()] == [f"{newer}.onnx"]


@contextlib.contextmanager
def a_running_session(folder):
    """Have another process measure against the file of `release`."""
    code = """
import sys
from pathlib import Path
from harness import baselines
folder = Path(sys.argv[1])
(entry,) = baselines.read(folder, "release")
print(baselines.use_artifact(folder, entry), baselines.use_artifact(folder, entry), flush=True)
sys.stdin.read()
"""
    argv = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        said = running.stdout.readline().split()
        yield Path(said[0])
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(timeout=240) == 0


def test_a_file_that_a_running_session_measures_against_stays_until_later(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    artifacts = folder / "release" / "artifacts"
    newer = hashlib.sha256(b"a newer model").hexdigest()
    session = a_session(tmp_path, replace(a_run(model), artifact_sha256=newer))
    model.write_bytes(b"a newer model")
    recorded = baselines.entries_of(session, "release", ())
    with a_running_session(folder) as used:
        baselines.put(folder, "release", recorded)
        assert used.read_bytes() == BYTES
        assert {p.name for p in artifacts.iterdir()} == {f"{SHA}.onnx", f"{newer}.onnx"}
    baselines.put(folder, "release", recorded)
    assert [p.name for p in artifacts.iterdir()] == [f"{newer}.onnx"]


def test_a_baseline_that_a_running_session_measures_against_isnt_removed(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    with a_running_session(folder) as used:
        with pytest.raises(
            TransientError, match="baseline release: a session that runs measures against its file"
        ):
            baselines.remove(folder, "release")
        assert used.is_file()
        assert baselines.names(folder) == ("release",)
    baselines.remove(folder, "release")
    assert list(folder.iterdir()) == []


def test_what_is_used_is_what_was_recorded_or_nothing(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    (entry,) = baselines.read(folder, "release")
    path = baselines.artifact_path(folder, entry)
    assert path is not None
    path.unlink()
    assert baselines.use_artifact(folder, entry) is None
    assert baselines.use_artifact(folder, replace(entry, artifact_file=None)) is None


def test_a_renamed_folder_is_called_what_it_is_called_now(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    (folder / "release").rename(folder / "v1")
    (back,) = baselines.read(folder, "v1")
    assert back.name == "v1"
    assert baselines.artifact_path(folder, back) is not None


def test_remove(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    baselines.remove(folder, "release")
    assert list(folder.iterdir()) == []
    with pytest.raises(ConfigError, match="no recorded baseline `release`"):
        baselines.remove(folder, "release")


# --- what is recorded of a session


def test_a_file_that_changed_or_went_is_not_recorded(tmp_path, model):
    model.write_bytes(b"other")
    (changed,) = entries(tmp_path, a_run(model))
    assert (changed.artifact_path, changed.facts.artifact_file) == (None, None)
    assert changed.note == f"{model} isn't what was measured any more"
    model.unlink()
    assert "can't be read: No such file" in entries(tmp_path, a_run(model))[0].note
    assert entries(tmp_path, a_run(None))[0].note == "the session doesn't say where its file was"


def test_what_did_not_pass_is_refused_unless_forced(tmp_path, model):
    budget = Budget("digits_fp32_onnx", "rpi4", "model_size_bytes", 1.0, rule="point")
    lost = records.run(
        "002-memory",
        outcome=Outcome.INFRA_ERROR,
        measurements=(),
        error=ErrorRecord("connection-lost", "it went away"),
    )
    session = a_session(tmp_path, a_run(model), lost)
    with pytest.raises(ConfigError) as caught:
        baselines.entries_of(session, "release", (budget,))
    first, second = caught.value.problems
    assert first.startswith("FAIL: digits_fp32_onnx on rpi4-emulated, deploy: model_size_bytes of 461 kB")
    assert second == "INFRA_ERROR: digits_fp32_onnx on rpi4-emulated, deploy: it went away"
    assert "--force" in str(caught.value)
    (forced,) = baselines.entries_of(session, "release", (budget,), force=True)
    assert [n.run_id for n in forced.facts.numbers] == ["001-deploy"]


def test_a_lab_failure_that_was_tried_again_is_no_obstacle(tmp_path, model):
    lost = replace(a_run(model, "000"), outcome=Outcome.INFRA_ERROR, measurements=(), reason="lost")
    (entry,) = entries(tmp_path, lost, replace(a_run(model), attempt=2))
    assert len(entry.facts.numbers) == 1


@pytest.mark.parametrize(
    ("changes", "said"), [({"interrupted": True}, "was interrupted"), ({"finished_at": None}, "never fin")]
)
def test_a_session_that_is_not_whole_is_refused_also_when_forced(tmp_path, model, changes, said):
    session = a_session(tmp_path, a_run(model), **changes)
    with pytest.raises(ConfigError, match=said):
        baselines.entries_of(session, "release", (), force=True)


def test_a_damaged_session_is_refused(tmp_path, model):
    session = a_session(tmp_path, a_run(model))
    (session.folder / "runs" / "001-deploy" / "log.txt").write_text("changed")
    with pytest.raises(ConfigError, match="the file changed after it was written"):
        baselines.entries_of(read_session(session.folder), "release", (), force=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"artifact_sha256": "cd" * 32}, f"files: {SHA[:12]}, cdcdcdcdcdcd"),
        ({"runtime_version": "1.20.1", "model": "digits_fp32_onnx@x"}, "runtimes: onnxruntime==1.20.1, onnx"),
        ({"threads": 4}, "thread counts: 1, 4"),
    ],
)
def test_two_things_under_one_name_are_refused(tmp_path, model, changes, said):
    with pytest.raises(ConfigError, match=r"digits_fp32_onnx on rpi4-emulated: " + said):
        entries(tmp_path, a_run(model), replace(a_run(model, "002"), **changes))


def test_a_session_without_numbers_records_nothing(tmp_path, model):
    skipped = a_run(model, outcome=Outcome.SKIPPED, measurements=(), reason="no")
    with pytest.raises(ConfigError, match="nothing to record"):
        entries(tmp_path, skipped)


# --- names and damage


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\0b"])
def test_a_name_cannot_leave_the_folder(tmp_path, model, folder, name):
    found = entries(tmp_path, a_run(model))
    with pytest.raises(ConfigError, match="can't be a file name"):
        baselines.put(folder, name, found)
    with pytest.raises(ConfigError, match="no recorded baseline"):
        baselines.read(folder, name)
    with pytest.raises(ConfigError, match="no recorded baseline"):
        baselines.remove(folder, name)


@pytest.mark.parametrize("name", ["none", "a=b"])
def test_a_name_that_the_option_reads_otherwise_is_refused(tmp_path, model, folder, name):
    with pytest.raises(ConfigError, match="means something else to --baseline"):
        baselines.put(folder, name, entries(tmp_path, a_run(model)))


def test_an_unknown_name_says_the_nearest_and_how_to_record_one(tmp_path, model, folder):
    with pytest.raises(ConfigError, match=r"`release`\. Record one: harness baseline set release"):
        baselines.read(folder, "release")
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    with pytest.raises(ConfigError, match=r"did you mean `release`\?"):
        baselines.read(folder, "relase")


def test_a_copy_that_changed_is_an_error_and_one_that_went_isnt(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    (entry,) = baselines.read(folder, "release")
    copy = baselines.artifact_path(folder, entry)
    copy.write_bytes(b"other")
    with pytest.raises(StoredRunError, match=r"the copy changed since.*harness baseline set release"):
        baselines.artifact_path(folder, entry)
    copy.unlink()
    assert baselines.artifact_path(folder, entry) is None
    # recorded again, it is there again
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    assert baselines.artifact_path(folder, entry).read_bytes() == BYTES


def change_key(document, key, value):
    document["entries"][0][key] = value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(schema_version=2), "schema_version is 2; this harness reads 1"),
        (lambda d: d.update(schema_version=True), "schema_version is True"),
        (lambda d: d.update(extra=1), "unknown key `extra`"),
        (lambda d: d.pop("entries"), "`entries` is missing or no list"),
        (lambda d: change_key(d, "treads", 1), "did you mean `threads`"),
        (lambda d: change_key(d, "threads", "1"), r"entries\[0\]: threads: expected int, found str"),
        (lambda d: change_key(d, "artifact_file", "../../etc/passwd"), "is not an artifact's name"),
        (lambda d: d["entries"][0].pop("model"), "key `model` is missing"),
    ],
)
def test_a_damaged_file_says_where_and_what(tmp_path, model, folder, change, said):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    path = folder / "release" / "baseline.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(StoredRunError, match=said) as caught:
        baselines.read(folder, "release")
    assert str(path) in caught.value.where


def test_half_a_file_is_an_error_and_is_not_overwritten(tmp_path, model, folder):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    path = folder / "release" / "baseline.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoredRunError, match="is not JSON"):
        baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    assert path.stat().st_size == 100


def test_a_full_disk_leaves_what_was_there(tmp_path, model, folder, monkeypatch):
    baselines.put(folder, "release", entries(tmp_path, a_run(model)))
    before = (folder / "release" / "baseline.json").read_bytes()
    found = entries(tmp_path, a_run(model, threads=4))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostSetupError, match="No space left"):
        baselines.put(folder, "release", found)
    assert (folder / "release" / "baseline.json").read_bytes() == before
    assert [p for p in folder.rglob(".tmp-*")] == []


def test_a_file_that_changes_while_it_is_copied_is_refused(tmp_path, model, folder):
    found = entries(tmp_path, a_run(model))
    model.write_bytes(b"changed in between")
    with pytest.raises(ConfigError, match="changed while it was copied"):
        baselines.put(folder, "release", found)
    assert baselines.names(folder) == ()
