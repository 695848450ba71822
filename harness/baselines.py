"""Recorded baselines on disk: the numbers of a finished session and the files they were taken from.

reports/baselines/NAME/baseline.json              one entry for each model and unit
reports/baselines/NAME/artifacts/<sha256><suffix>  the models' files, so that they can be measured again

What makes recorded numbers comparable is `recorded`'s job; which candidate they serve is `selection`'s.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import gate, in_use, model_files, recorded
from harness.errors import ConfigError, StoredRunError, TransientError, nearest
from harness.judging import plan_name
from harness.model import Budget, Outcome, RecordedBaseline, Run, Verdict
from harness.store import StoredSession, codec, write_bytes
from harness.store.atomic import (
    TEMPORARY_PREFIX,
    checked_name,
    disk_errors,
    is_safe_name,
    make_folder,
    sync_folder,
)

SCHEMA_VERSION = 1
FOLDER = "baselines"
FILE = "baseline.json"
ARTIFACTS = "artifacts"
RESERVED = ("none",)  # `--baseline none` compares nothing; MODEL=NAME is for one model
_LOCK = ".lock"
_CHUNK_BYTES = 1 << 20
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")
_ARTIFACT_FILE = re.compile(r"[0-9a-f]{64}(\.[A-Za-z0-9]{1,16})?")

Key = tuple[str, str]  # the plan's name of a model, a unit


@dataclass(frozen=True)
class Entry:
    """What is recorded of one model on one unit, and its file on this host where there is one."""

    facts: RecordedBaseline
    artifact_path: Path | None = None
    note: str = ""  # why there is none

    @property
    def key(self) -> Key:
        return (self.facts.model, self.facts.device_name)


def baselines_dir(reports_dir: Path) -> Path:
    return reports_dir / FOLDER


def names(folder: Path) -> tuple[str, ...]:
    """Return the names of the baselines in `folder`, sorted."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(p.name for p in folder.iterdir() if is_safe_name(p.name) and (p / FILE).is_file()))


def read(folder: Path, name: str) -> tuple[RecordedBaseline, ...]:
    """Return what baseline `name` holds, by model and unit.

    Raises ConfigError where there is none of this name, StoredRunError where it can't be read.
    """
    if not is_safe_name(name) or not (folder / name / FILE).is_file():
        there = names(folder)
        raise ConfigError(
            f"no recorded baseline `{name}`{nearest(name, there)}",
            where=str(folder),
            next_step=f"Record one: harness baseline set {name if is_safe_name(name) else 'NAME'}.",
        )
    return _read_file(folder / name / FILE, name)


def _read_file(path: Path, name: str) -> tuple[RecordedBaseline, ...]:
    where = str(path)
    remedy = "Record it again: harness baseline set."
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoredRunError(f"can't be read: {error.strerror}", where=where, next_step=remedy) from error
    document = codec.load_json(data, where=where)
    version = document.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise StoredRunError(
            f"schema_version is {version!r}; this harness reads {SCHEMA_VERSION}",
            where=where,
            next_step="Update the harness, or record it again.",
        )
    unknown = sorted(set(document) - {"schema_version", "entries"})
    plain = document.get("entries")
    if unknown or not isinstance(plain, list):
        what = f"unknown key `{unknown[0]}`" if unknown else "key `entries` is missing or no list"
        raise StoredRunError(what, where=where, next_step=remedy)
    entries = tuple(
        codec.from_plain(RecordedBaseline, item, where=f"{where}: entries[{i}]")
        for i, item in enumerate(plain)
    )
    for entry in entries:
        if entry.artifact_file is not None and _ARTIFACT_FILE.fullmatch(entry.artifact_file) is None:
            raise StoredRunError(
                f"{entry.artifact_file!r} is not an artifact's name", where=where, next_step=remedy
            )
    # a folder that was renamed by hand is called what it is called now
    return tuple(replace(entry, name=name) for entry in entries)


def artifact_path(folder: Path, entry: RecordedBaseline) -> Path | None:
    """Return the entry's file, its bytes verified; None where there is no copy.

    Raises StoredRunError where the copy isn't what was recorded.
    """
    if entry.artifact_file is None:
        return None
    path = folder / entry.name / ARTIFACTS / entry.artifact_file
    if not path.is_file():
        return None
    try:
        found = _digest(path)
    except OSError as error:
        raise StoredRunError(f"can't be read: {error.strerror}", where=str(path)) from error
    if found != entry.artifact_sha256:
        raise StoredRunError(
            f"SHA-256 is {found[:12]}…, expected {entry.artifact_sha256[:12]}…: the copy changed since",
            where=str(path),
            next_step=f"Record it again: harness baseline set {entry.name}.",
        )
    return path


def use_artifact(folder: Path, entry: RecordedBaseline) -> Path | None:
    """Return `artifact_path`, kept there for as long as this process lives: it measures against it."""
    if entry.artifact_file is not None:
        in_use.use(folder / entry.name / ARTIFACTS / entry.artifact_file)
    return artifact_path(folder, entry)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- recording ------------------------------------------------------------------------------------


def entries_of(
    session: StoredSession, name: str, budgets: Sequence[Budget], *, force: bool = False
) -> tuple[Entry, ...]:
    """Return what a finished session records under `name`: each model's completed runs, unit by unit.

    Raises ConfigError, with every reason, for a session that isn't whole, that was measured twice under one
    name, or, unless `force`d, that has runs which are neither PASS nor NOT_JUDGED under `budgets`.
    """
    where = str(session.folder)
    if session.doubts:
        raise ConfigError(session.doubts, where=where, next_step="Measure again; --force doesn't help here.")
    runs = gate.standing_runs(session.runs)
    refused = [] if force else [line for run in runs for line in _refusals(run, budgets)]
    if refused:
        raise ConfigError(
            refused, where=where, next_step="Mend or measure again; record it all the same with --force."
        )
    found: dict[Key, list[Run]] = {}
    for run in runs:
        if run.outcome is Outcome.COMPLETED:
            found.setdefault((plan_name(run.model), run.device.name), []).append(run)
    problems = [line for key, mine in found.items() for line in _contradictions(key, mine)]
    if problems:
        raise ConfigError(problems, where=where, next_step="Measure one at a time and record each.")
    entries = tuple(_entry(name, mine) for mine in found.values() if any(r.measurements for r in mine))
    if not entries:
        raise ConfigError("no run of it completed with numbers; there is nothing to record.", where=where)
    return entries


def _refusals(run: Run, budgets: Sequence[Budget]) -> list[str]:
    return [
        f"{result.verdict}: {run.model} on {run.device.name}, {run.suite}: {'; '.join(result.reasons)}"
        for result in gate.results_of(run, budgets)
        if result.verdict not in (Verdict.PASS, Verdict.NOT_JUDGED)
    ]


def _contradictions(key: Key, runs: Sequence[Run]) -> list[str]:
    """Return in what the runs of one model on one unit differ that a baseline has one of."""
    seen = {
        "files": {run.artifact_sha256[:12] for run in runs},
        "runtimes": {f"{run.runtime}=={run.runtime_version}" for run in runs},
        "thread counts": {str(run.threads) for run in runs},
    }
    place = f"{key[0]} on {key[1]}"
    return [f"{place}: {what}: {', '.join(sorted(found))}" for what, found in seen.items() if len(found) > 1]


def _entry(name: str, runs: Sequence[Run]) -> Entry:
    """Return the entry of one model on one unit, with its file where that is still what was measured."""
    told = next((run.settings["artifact_path"] for run in runs if run.settings.get("artifact_path")), None)
    facts = recorded.facts_of(runs, name)
    if told is None:
        return Entry(facts, note="the session doesn't say where its file was")
    path = Path(str(told))
    try:
        found = _digest(path)
        format = model_files.format_of(path)
    except OSError as error:
        return Entry(facts, note=f"{path} can't be read: {error.strerror}")
    facts = replace(facts, artifact_format=format)
    if found != facts.artifact_sha256:
        return Entry(facts, note=f"{path} isn't what was measured any more")
    suffix = path.suffix if _SUFFIX.fullmatch(path.suffix) else ""
    return Entry(replace(facts, artifact_file=f"{found}{suffix}"), path)


def put(folder: Path, name: str, entries: Iterable[Entry]) -> tuple[RecordedBaseline, ...]:
    """Write `entries` into baseline `name`, in place of those of the same model and unit; return these.

    Raises ConfigError for a name that can't be a folder's, StoredRunError where what is there can't be
    read, HostSetupError where the disk refuses.
    """
    checked_name(name, what="baseline name")
    if name in RESERVED or "=" in name:
        raise ConfigError(f"baseline name {name!r} means something else to --baseline; choose another.")
    place = folder / name
    make_folder(place / ARTIFACTS)
    with _held(place):
        before = _read_file(place / FILE, name) if (place / FILE).is_file() else ()
        new = {entry.key: entry for entry in entries}
        kept = [old for old in before if (old.model, old.device_name) not in new]
        for entry in new.values():
            if entry.artifact_path is not None and entry.facts.artifact_file is not None:
                _copy(entry.artifact_path, place / ARTIFACTS / entry.facts.artifact_file, entry.facts)
        after = [*kept, *(replace(entry.facts, name=name) for entry in new.values())]
        after.sort(key=lambda e: (e.model, e.device_name))
        document: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "entries": [codec.to_plain(entry, where=f"baseline {name}") for entry in after],
        }
        write_bytes(place / FILE, codec.dump_json(document))
        _drop_unused(place / ARTIFACTS, {entry.artifact_file for entry in after})
    return tuple(old for old in before if (old.model, old.device_name) in new)


def remove(folder: Path, name: str) -> None:
    """Remove a baseline with its files.

    Raises ConfigError where there is none of this name, TransientError where a session measures against it.
    """
    if not is_safe_name(name) or not (folder / name / FILE).is_file():
        read(folder, name)  # raises, with the nearest names
    place = folder / name
    with disk_errors(place), contextlib.ExitStack() as locks:
        locks.enter_context(_held(place))
        for path in (place / ARTIFACTS).iterdir():
            if not locks.enter_context(in_use.unused(path)):
                raise TransientError(
                    f"a session that runs measures against its file {path.name[:12]}….",
                    where=f"baseline {name}",
                    next_step="Try again once it has ended.",
                )
        (place / FILE).unlink()  # first: without it there is no baseline of this name
        shutil.rmtree(place)


def _copy(source: Path, target: Path, facts: RecordedBaseline) -> None:
    """Copy a model's file to `target`: temporary name, hash verified, fsync, rename."""
    if target.is_file() and _digest(target) == facts.artifact_sha256:
        return
    with disk_errors(target):
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=target.parent)
        try:
            digest = hashlib.sha256()
            with source.open("rb") as old, os.fdopen(handle, "wb") as new:
                while chunk := old.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    new.write(chunk)
                os.fchmod(new.fileno(), 0o644)
                new.flush()
                os.fsync(new.fileno())
            if digest.hexdigest() != facts.artifact_sha256:
                raise ConfigError("changed while it was copied.", where=str(source), next_step="Try again.")
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def _drop_unused(folder: Path, wanted: set[str | None]) -> None:
    """Remove files that no entry names. One that a session measures against stays, until a later time."""
    for path in folder.iterdir():
        if path.name not in wanted:
            with in_use.unused(path) as unused:
                if unused:
                    path.unlink()


@contextlib.contextmanager
def _held(place: Path) -> Iterator[None]:
    """Hold a baseline alone: units of a lab may be recorded at the same time."""
    with (place / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
