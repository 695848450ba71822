"""The index over stored sessions: a database that can be thrown away and rebuilt from the folders.

SQLite beside the sessions by default; any SQLAlchemy URL serves (a lab's PostgreSQL). Only the plainest
types and statements are used, so that the same code runs on both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StoredRunError
from harness.model import Fidelity, Run, SessionRecord

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData

    from harness.store.reader import StoredSession

INDEX_VERSION = 1
# How long a writer waits for another session's write to the same SQLite file (chosen: a rebuild over
# thousands of runs takes a few seconds).
_BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class IndexedMeasurement:
    """One measurement as the index knows it, for histories; the folder has the rest."""

    session_id: str
    run_id: str
    folder: Path
    started_at: str
    device_name: str
    device_type: str
    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    metric: str
    scenario: str | None
    batch_size: int
    threads: int
    value: float | None
    low: float | None
    high: float | None
    n: int
    fidelity: Fidelity


class Index:
    """Sessions, runs and measurements in tables. Folders are kept relative to `reports_dir`.

    Every method raises StoredRunError where the database can't be used.
    """

    def __init__(self, url: str, reports_dir: Path) -> None:
        self.url = url
        self._reports_dir = reports_dir

    def is_current(self) -> bool:
        """Return whether the tables exist in this version; False means: rebuild."""
        import sqlalchemy as sa

        meta = _tables().tables["index_meta"]
        with self._errors():
            if not sa.inspect(self._engine).has_table("index_meta"):
                return False
            with self._engine.connect() as connection:
                return connection.execute(sa.select(meta.c.version)).scalars().all() == [INDEX_VERSION]

    def put_session(self, record: SessionRecord, folder: Path) -> None:
        """Insert the session or replace what is known of it (its runs stay)."""
        with self._errors(), self._engine.begin() as connection:
            self._put_session(connection, record, folder)

    def add_run(self, run: Run) -> None:
        with self._errors(), self._engine.begin() as connection:
            _insert_run(connection, run)

    def rebuild(self, sessions: Iterable[StoredSession]) -> None:
        """Replace everything by what `sessions` hold."""
        with self._errors(), self._engine.begin() as connection:
            tables = _tables()
            tables.drop_all(connection)
            tables.create_all(connection)
            connection.execute(tables.tables["index_meta"].insert().values(version=INDEX_VERSION))
            for session in sessions:
                self._put_session(connection, session.record, session.folder)
                for run in session.runs:
                    _insert_run(connection, run)

    def session_folders(self) -> tuple[Path, ...]:
        """Return the folders of all sessions that are known, in the order of their start."""
        import sqlalchemy as sa

        sessions = _tables().tables["sessions"]
        with self._errors(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(sessions.c.folder).order_by(sessions.c.started_at))
            return tuple(self._reports_dir / folder for folder in rows.scalars())

    def measurements(
        self, *, model: str | None = None, metric: str | None = None, device_name: str | None = None
    ) -> tuple[IndexedMeasurement, ...]:
        """Return the measurements that match, in the order of their runs' start."""
        import sqlalchemy as sa

        tables = _tables().tables
        sessions, runs, values = tables["sessions"], tables["runs"], tables["measurements"]
        joined = values.join(
            runs, sa.and_(runs.c.session_id == values.c.session_id, runs.c.run_id == values.c.run_id)
        ).join(sessions, sessions.c.session_id == runs.c.session_id)
        columns = [sessions.c.folder, *(c for c in runs.c if c.name in _ROW_NAMES), *values.c]
        query = (
            sa.select(*columns)
            .select_from(joined)
            .order_by(runs.c.started_at, runs.c.run_id, values.c.position)
        )
        for column, wanted in (
            (runs.c.model, model),
            (values.c.metric, metric),
            (runs.c.device_name, device_name),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._errors(), self._engine.connect() as connection:
            return tuple(self._measurement(dict(row)) for row in connection.execute(query).mappings())

    def close(self) -> None:
        """Release the database's connections. The next call opens them again."""
        self._engine.dispose()

    def _measurement(self, row: Mapping[Any, Any]) -> IndexedMeasurement:
        known = {name: row[name] for name in IndexedMeasurement.__dataclass_fields__}
        known["folder"] = self._reports_dir / row["folder"] / "runs" / row["run_id"]
        known["fidelity"] = Fidelity(row["fidelity"])
        return IndexedMeasurement(**known)

    @cached_property
    def _engine(self) -> Engine:
        import sqlalchemy as sa

        arguments = {"timeout": _BUSY_TIMEOUT_S} if self.url.startswith("sqlite") else {}
        # NullPool: no file handle outlives a call, so a folder can be moved or removed at any time.
        pool = {"poolclass": sa.NullPool} if self.url.startswith("sqlite") else {}
        return sa.create_engine(self.url, connect_args=arguments, **pool)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise StoredRunError(
                f"the index can't be used: {cause}",
                where=self.url.partition("?")[0].rpartition("@")[2],  # never a password
                next_step="Remove it; it is rebuilt from the sessions' folders.",
            ) from error

    def _put_session(self, connection: Connection, record: SessionRecord, folder: Path) -> None:
        sessions = _tables().tables["sessions"]
        connection.execute(sessions.delete().where(sessions.c.session_id == record.session_id))
        connection.execute(
            sessions.insert().values(
                _storable(
                    session_id=record.session_id,
                    folder=os.path.relpath(folder.absolute(), self._reports_dir.absolute()),
                    started_at=record.started_at,
                    finished_at=record.finished_at,
                    command=" ".join(record.command),
                    plan_path=record.plan_path,
                    interrupted=record.interrupted,
                    harness_version=record.harness_version,
                )
            )
        )


_ROW_NAMES = frozenset(
    [
        "started_at",
        "device_name",
        "device_type",
        "model",
        "artifact_sha256",
        "runtime",
        "runtime_version",
        "threads",
    ]
)


def _insert_run(connection: Connection, run: Run) -> None:
    tables = _tables().tables
    connection.execute(
        tables["runs"]
        .insert()
        .values(
            _storable(
                session_id=run.session_id,
                run_id=run.run_id,
                attempt=run.attempt,
                suite=run.suite,
                test=run.test,
                model=run.model,
                artifact_sha256=run.artifact_sha256,
                runtime=run.runtime,
                runtime_version=run.runtime_version,
                device_name=run.device.name,
                device_type=run.device.type,
                device_kind=run.device.kind,
                device_serial=run.device.serial,
                threads=run.threads,
                outcome=run.outcome.value,
                started_at=run.started_at,
                duration_s=run.duration_s,
            )
        )
    )
    rows = [
        _storable(
            session_id=run.session_id,
            run_id=run.run_id,
            position=position,
            metric=item.metric,
            scenario=item.scenario or run.scenario,
            batch_size=item.batch_size,
            value=item.value,
            low=item.low,
            high=item.high,
            n=item.n,
            fidelity=item.fidelity.value,
        )
        for position, item in enumerate(run.measurements)
    ]
    if rows:
        connection.execute(tables["measurements"].insert(), rows)


def _storable(**values: Any) -> dict[str, Any]:
    """Return `values` with what databases refuse in a text replaced.

    Half a surrogate pair comes from a file name that isn't UTF-8; PostgreSQL takes no NUL.
    """
    return {
        name: value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }


@cache
def _tables() -> MetaData:
    """Return the tables. Text has no length: SQLite and PostgreSQL need none."""
    import sqlalchemy as sa

    metadata = sa.MetaData()

    def text(name: str, **options: Any) -> sa.Column[Any]:
        return sa.Column(name, sa.Text, **{"nullable": False, **options})

    def whole(name: str, **options: Any) -> sa.Column[Any]:
        return sa.Column(name, sa.BigInteger, **{"nullable": False, **options})

    sa.Table("index_meta", metadata, whole("version"))
    sa.Table(
        "sessions",
        metadata,
        text("session_id", primary_key=True),
        *(text(name) for name in ("folder", "started_at", "command", "harness_version")),
        *(text(name, nullable=True) for name in ("finished_at", "plan_path")),
        sa.Column("interrupted", sa.Boolean, nullable=False),
    )
    sa.Table(
        "runs",
        metadata,
        text("session_id", primary_key=True),
        text("run_id", primary_key=True),
        *(
            text(name)
            for name in ("suite", "test", "artifact_sha256", "runtime", "device_type", "device_kind")
        ),
        *(text(name, index=True) for name in ("model", "device_name", "started_at")),
        *(text(name, nullable=True) for name in ("runtime_version", "device_serial")),
        text("outcome"),
        whole("attempt"),
        whole("threads"),
        sa.Column("duration_s", sa.Double, nullable=False),
    )
    sa.Table(
        "measurements",
        metadata,
        text("session_id", primary_key=True),
        text("run_id", primary_key=True),
        whole("position", primary_key=True, autoincrement=False),
        text("metric", index=True),
        text("scenario", nullable=True),
        text("fidelity"),
        whole("batch_size"),
        whole("n"),
        *(sa.Column(name, sa.Double, nullable=True) for name in ("value", "low", "high")),
    )
    return metadata
