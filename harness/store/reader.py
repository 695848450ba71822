"""Sessions and runs read back from their folders, with every doubt stated.

A run that can't be trusted is never dropped: `read_session` puts the error among the problems, and, where
its run.json still tells which run it was, an INVALID run without numbers in its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import StoredRunError
from harness.model import Outcome, Run, SessionRecord
from harness.store import codec, series
from harness.store.atomic import TEMPORARY_PREFIX, sha256_hex
from harness.store.layout import LOG_FILE, RUN_FILE, RUNS_FOLDER, SERIES_FILE, SESSION_FILE
from harness.store.versions import RUN_UPGRADES, SESSION_UPGRADES, upgraded

_REMEDY = "Restore the file or measure again."


@dataclass(frozen=True)
class StoredSession:
    """A session as it was read. `runs` are in the order of their start, every attempt.

    `problems` holds one error per run that can't be trusted: any makes the session INVALID at best. Where
    run.json still tells which run it was, the run is in `runs` too, with outcome INVALID and no numbers.
    """

    folder: Path
    record: SessionRecord
    runs: tuple[Run, ...]
    problems: tuple[StoredRunError, ...] = ()

    @property
    def doubts(self) -> tuple[str, ...]:
        """Return why the session's evidence is incomplete: its problems, and an end before its time.

        Any makes session and release INVALID at best.
        """
        texts = tuple(str(problem) for problem in self.problems)
        if not self.record.interrupted and self.record.finished_at is not None:
            return texts
        ended = "was interrupted" if self.record.interrupted else "never finished: its process was killed"
        return (*texts, f"session {self.record.session_id} {ended}; what it didn't come to is unknown")


def read_session(folder: Path) -> StoredSession:
    """Return the session in `folder` with all its runs.

    Raises StoredRunError where session.json itself is missing or can't be read; doubts about single runs
    are collected in `problems`.
    """
    record, expected = _read_session_file(folder)
    runs: list[Run] = []
    problems: list[StoredRunError] = []
    runs_folder = folder / RUNS_FOLDER
    names = sorted(p.name for p in runs_folder.iterdir()) if runs_folder.is_dir() else []
    for name in sorted({*names, *(expected or {})}):
        try:
            if name.startswith(TEMPORARY_PREFIX):
                raise StoredRunError(
                    "was being written when its session ended",
                    where=str(runs_folder / name),
                    next_step="Its data is incomplete: measure again.",
                )
            runs.append(_read_run(runs_folder / name, _expected_sha(expected, name)))
        except StoredRunError as error:
            problems.append(error)
            runs.extend(_untrusted(runs_folder / name, error))
    runs.sort(key=lambda run: (run.started_at, run.run_id))
    return StoredSession(folder, record, tuple(runs), tuple(problems))


def read_run(folder: Path) -> Run:
    """Return the run in `folder`, with its series and log. Raises StoredRunError that names the file."""
    return _read_run(folder, None)


def _read_run(folder: Path, expected_sha256: str | None) -> Run:
    data = _read_file(folder / RUN_FILE)
    where = str(folder / RUN_FILE)
    if expected_sha256 is not None and sha256_hex(data) != expected_sha256:
        raise _wrong_checksum(where, sha256_hex(data), expected_sha256)
    run, document = _decode_run(data, where)
    if run.run_id != folder.name:
        raise StoredRunError(
            f"holds run {run.run_id!r}, expected {folder.name!r}", where=where, next_step=_REMEDY
        )
    files = document.get("files")
    log = _checked_file(folder, LOG_FILE, files).decode("utf-8", "replace")
    table = _checked_file(folder, SERIES_FILE, files)
    return dataclasses.replace(
        run,
        log=log,
        series=series.decode(table, document.get("series", []), where=str(folder / SERIES_FILE)),
    )


def _decode_run(data: bytes, where: str) -> tuple[Run, dict[str, Any]]:
    document = upgraded(codec.load_json(data, where=where), RUN_UPGRADES, where=where)
    return codec.from_plain(Run, document.get("run"), where=where), document


def _read_session_file(folder: Path) -> tuple[SessionRecord, Mapping[str, Any] | None]:
    """Return the record and, for a session that was finished, the SHA-256 of each run.json by run id."""
    path = folder / SESSION_FILE
    where = str(path)
    if not path.is_file():
        raise StoredRunError(
            f"no {SESSION_FILE} here, so this is no session",
            where=str(folder),
            next_step="Give the folder of one session, such as reports/latest.",
        )
    document = upgraded(codec.load_json(_read_file(path), where=where), SESSION_UPGRADES, where=where)
    record = codec.from_plain(SessionRecord, document.get("session"), where=where)
    expected = document.get("runs")
    if expected is not None and not isinstance(expected, dict):
        raise StoredRunError(
            f"`runs` is {type(expected).__name__}, expected an object", where=where, next_step=_REMEDY
        )
    return record, expected


def _expected_sha(expected: Mapping[str, Any] | None, name: str) -> str | None:
    """Return what the finished session recorded for a run; None where it says nothing of it."""
    sha256 = expected.get(name) if expected is not None else None
    return str(sha256) if sha256 is not None else None


def _checked_file(folder: Path, name: str, files: Any) -> bytes:
    where = str(folder / RUN_FILE)
    try:
        expected = str(files[name]["sha256"])
    except (KeyError, TypeError):
        raise StoredRunError(f"`files` has no checksum of {name}", where=where, next_step=_REMEDY) from None
    data = _read_file(folder / name)
    found = sha256_hex(data)
    if found != expected:
        raise _wrong_checksum(str(folder / name), found, expected)
    return data


def _wrong_checksum(where: str, found: str, expected: str) -> StoredRunError:
    return StoredRunError(
        f"SHA-256 is {found[:12]}…, expected {expected[:12]}…: the file changed after it was written",
        where=where,
        next_step=_REMEDY,
    )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoredRunError(
            f"can't be read: {error.strerror or error}", where=str(path), next_step=_REMEDY
        ) from error


def _untrusted(folder: Path, error: StoredRunError) -> tuple[Run, ...]:
    """Return an INVALID run in place of one that can't be trusted, if run.json tells which it was."""
    try:
        run, _ = _decode_run(_read_file(folder / RUN_FILE), str(folder / RUN_FILE))
    except StoredRunError:
        return ()
    if run.run_id != folder.name:
        return ()
    invalid = dataclasses.replace(
        run, outcome=Outcome.INVALID, reason=str(error), measurements=(), series=(), log="", error=None
    )
    return (invalid,)
