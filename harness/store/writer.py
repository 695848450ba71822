"""Sessions and runs written to their folders, each whole or not at all, and noted in the index.

The folders are the truth. The index is a convenience that `Store.reindex` rebuilds, so its failure is
logged and kept in `SessionWriter.warnings` but never costs a run.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from harness.errors import ConfigError, DataError, StoredRunError
from harness.model import Run, SessionRecord
from harness.store import codec, series
from harness.store.atomic import (
    TEMPORARY_PREFIX,
    checked_name,
    make_folder,
    new_folder,
    sha256_hex,
    sync_folder,
    write_bytes,
    write_synced,
)
from harness.store.index import Index
from harness.store.layout import (
    ATTACHMENTS_FOLDER,
    INDEX_FILE,
    LATEST_LINK,
    LOG_FILE,
    RUN_FILE,
    RUNS_FOLDER,
    SERIES_FILE,
    SESSION_FILE,
)
from harness.store.reader import StoredSession, read_session
from harness.store.versions import SCHEMA_VERSION

_LOG = logging.getLogger(__name__)
_ELSEWHERE = "Or choose another folder with --report-dir."  # those who write sessions have it


class SessionWriter:
    """One session being written. `folder` is its place; `warnings` what went wrong beside the truth."""

    def __init__(self, record: SessionRecord, folder: Path, index: Index) -> None:
        self.folder = folder
        self.warnings: list[str] = []
        self._record = record
        self._index = index
        self._was_interrupted = False

    def add_run(self, run: Run) -> Path:
        """Store a run; it becomes visible by one rename. Returns its folder.

        Raises ConfigError for an id that can't be a file name or exists already, DataError for a run of
        another session or values that can't be stored, HostSetupError if the disk refuses.
        """
        checked_name(run.run_id, what="run id")
        if run.session_id != self._record.session_id:
            raise DataError(
                f"belongs to session {run.session_id!r}, not {self._record.session_id!r}",
                where=f"run {run.run_id}",
                next_step="Add it to its own session.",
            )
        files = {SERIES_FILE: series.encode(run.series), LOG_FILE: run.log.encode("utf-8", "replace")}
        files[RUN_FILE] = codec.dump_json(_run_document(run, files))
        final = self.folder / RUNS_FOLDER / run.run_id
        with new_folder(final, then=_ELSEWHERE) as temporary:
            for name, data in files.items():
                write_synced(temporary / name, data, then=_ELSEWHERE)
        self.note(f"run {run.run_id}", lambda: self._index.add_run(run))
        return final

    def attach(self, name: str, data: bytes) -> Path:
        """Store a file beside the runs (a console log, a capture). Returns its path."""
        folder = self.folder / ATTACHMENTS_FOLDER
        path = folder / checked_name(name, what="attachment")
        make_folder(folder, then=_ELSEWHERE)
        write_bytes(path, data, then=_ELSEWHERE)
        return path

    def finish(self, record: SessionRecord) -> None:
        """Store the final record, with the checksum of every run that is there."""
        if record.session_id != self._record.session_id:
            raise DataError(
                f"is {record.session_id!r}, expected {self._record.session_id!r}",
                where="session id",
                next_step="Finish the session that was opened.",
            )
        runs = {
            path.name: sha256_hex((path / RUN_FILE).read_bytes())
            for path in sorted((self.folder / RUNS_FOLDER).iterdir())
            if not path.name.startswith(TEMPORARY_PREFIX) and (path / RUN_FILE).is_file()
        }
        _write_session(self.folder, record, runs)
        self._record = record
        self.note("session", lambda: self._index.put_session(record, self.folder))

    def note(self, what: str, write: Callable[[], None]) -> None:
        """Call `write`, which updates the index; where it fails, keep and log a warning.

        After an interrupt the index is left alone: an import that was cut short leaves a module that can't
        be used in this process. `Store.reindex` adds what is missing.
        """
        if self._was_interrupted:
            return
        try:
            write()
        except KeyboardInterrupt:
            self._was_interrupted = True
            raise
        except StoredRunError as error:
            text = f"{what} is stored but not in the index: {error}"
            self.warnings.append(text)
            _LOG.warning("%s", text)


class Store:
    """The sessions under one folder, `reports/` by default. `index_url` may name another database."""

    def __init__(self, reports_dir: Path, *, index_url: str | None = None) -> None:
        self.reports_dir = reports_dir
        self.index = Index(index_url or f"sqlite:///{reports_dir.absolute() / INDEX_FILE}", reports_dir)

    def open_session(
        self,
        record: SessionRecord,
        folder: Path | None = None,
        opened: Callable[[SessionWriter], None] = lambda writer: None,
    ) -> SessionWriter:
        """Make the session's folder with an unfinished session.json, and return its writer.

        `opened` gets the writer as soon as the folder is there: noting it in the index takes long enough
        (it imports SQLAlchemy) to be interrupted, and the session must be finished all the same.
        `folder` overrides `reports_dir/<session_id>`. Raises ConfigError where the folder holds a session
        already, HostSetupError if the disk refuses.
        """
        checked_name(record.session_id, what="session id")
        place = folder if folder is not None else self.reports_dir / record.session_id
        make_folder(self.reports_dir, then=_ELSEWHERE)
        make_folder(place, then=_ELSEWHERE)
        if (place / SESSION_FILE).exists() or (place / RUNS_FOLDER).exists():
            raise ConfigError(
                "holds a session already, which stays as evidence.",
                where=str(place),
                next_step="Choose another folder with --report-dir, or move this one away.",
            )
        make_folder(place / RUNS_FOLDER, then=_ELSEWHERE)
        _write_session(place, record, None)
        writer = SessionWriter(record, place, self.index)
        opened(writer)
        writer.note("session", lambda: self._put_session(record, place))
        return writer

    def _put_session(self, record: SessionRecord, folder: Path) -> None:
        if self.index.is_current():
            self.index.put_session(record, folder)
        else:
            self.reindex(folder)

    def sessions(self) -> tuple[Path, ...]:
        """Return the folders of all sessions directly under `reports_dir`, oldest name first."""
        if not self.reports_dir.is_dir():
            return ()
        return tuple(
            path
            for path in sorted(self.reports_dir.iterdir())
            if (path / SESSION_FILE).is_file() and not path.is_symlink()
        )

    def reindex(self, *also: Path) -> tuple[StoredRunError, ...]:
        """Rebuild the index from the folders. Returns the problems of sessions that can't be read whole.

        `also` names sessions outside `reports_dir`; those that the index knows of are found again anyway.
        """
        folders = {path.resolve(): path for path in (*self.sessions(), *self._sessions_elsewhere(), *also)}
        problems: list[StoredRunError] = []
        stored: list[StoredSession] = []
        for folder in folders.values():
            try:
                session = read_session(folder)
            except StoredRunError as error:
                problems.append(error)
                continue
            problems.extend(session.problems)
            stored.append(session)
        self.index.rebuild(stored)
        return tuple(problems)

    def _sessions_elsewhere(self) -> tuple[Path, ...]:
        if not self.index.is_current():
            return ()
        return tuple(path for path in self.index.session_folders() if (path / SESSION_FILE).is_file())


def update_latest(reports_dir: Path, session_folder: Path) -> Path:
    """Point the relative link `reports_dir/latest` at `session_folder`, atomically. Returns the link.

    Raises ConfigError where something that is no link stands in its place.
    """
    link = reports_dir / LATEST_LINK
    if link.exists() and not link.is_symlink():
        raise ConfigError(
            "is no link", where=str(link), next_step="Move it away: the newest session goes there."
        )
    make_folder(reports_dir, then=_ELSEWHERE)
    target = os.path.relpath(session_folder.absolute(), reports_dir.absolute())
    temporary = reports_dir / f"{TEMPORARY_PREFIX}{LATEST_LINK}-{secrets.token_hex(8)}"
    temporary.symlink_to(target, target_is_directory=True)
    os.replace(temporary, link)
    sync_folder(reports_dir)
    return link


def _run_document(run: Run, files: dict[str, bytes]) -> dict[str, object]:
    plain = codec.to_plain(dataclasses.replace(run, series=(), log=""), where=f"run {run.run_id}")
    del plain["series"], plain["log"]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": plain,
        "series": [series.describe(item) for item in run.series],
        "files": {
            name: {"sha256": sha256_hex(data), "size_bytes": len(data)} for name, data in files.items()
        },
    }


def _write_session(folder: Path, record: SessionRecord, runs: dict[str, str] | None) -> None:
    document = {
        "schema_version": SCHEMA_VERSION,
        "session": codec.to_plain(record, where=f"session {record.session_id}"),
        "runs": runs,
    }
    write_bytes(folder / SESSION_FILE, codec.dump_json(document), then=_ELSEWHERE)
