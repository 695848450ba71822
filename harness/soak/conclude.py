"""A soak that ended → a session in the store, judged and rendered, from its ledger alone."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import gate as gates
from harness.errors import DataError
from harness.measure.bench import Observation
from harness.model import Outcome, Release, Result, Run, SessionRecord, Verdict
from harness.plan import plan_from_mapping
from harness.soak.about import About, about_of
from harness.soak.ledger import Ledger
from harness.soak.observe import observe
from harness.soak.table import read_table
from harness.store import Store, read_session, update_latest, write_bytes
from harness.store.codec import dump_json

STORED = "stored.json"  # in a ledger's folder: the session that has the soak
SUITE = "soak"


@dataclass(frozen=True)
class Concluded:
    """A stored soak: its session's folder, and what it amounts to."""

    folder: Path
    verdict: Verdict
    release: Release
    results: tuple[Result, ...]

    @property
    def exit_code(self) -> int:
        return gates.exit_code(self.verdict)


def conclude(ledger: Ledger, reports_dir: Path, folder: Path | None = None) -> Concluded:
    """Store the soak in `ledger` as a session of its own, render it, and return its verdict.

    One that is stored already is rendered again. Raises DataError, StoredRunError, HostSetupError, and
    ConfigError where `folder` holds another session.
    """
    from harness.report import write_report  # matplotlib

    there = stored_in(ledger.folder)
    if there is None:
        there = _store(ledger, reports_dir, folder)
        note_stored(ledger.folder, there)
        if folder is None:
            update_latest(reports_dir, there)
    write_report(there)
    return _judged(there)


def stored_in(ledger_folder: Path) -> Path | None:
    """Return the session that has this ledger's soak; None where none has, or it is gone."""
    try:
        plain = json.loads((ledger_folder / STORED).read_bytes())
        found = (ledger_folder / str(plain["session"])).resolve()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"can't be read: {error!r}.", where=str(ledger_folder / STORED)) from error
    return found if (found / "session.json").is_file() else None


def note_stored(ledger_folder: Path, session_folder: Path) -> None:
    """Note in a ledger which session has its soak."""
    told = os.path.relpath(session_folder.absolute(), ledger_folder.absolute())
    write_bytes(ledger_folder / STORED, dump_json({"session": told}))


def _store(ledger: Ledger, reports_dir: Path, folder: Path | None) -> Path:
    about = about_of(ledger.read_spec())
    record = _record(ledger.soak_id, about, finished=False)
    run = make_run(ledger, about, record.session_id)
    place = folder or reports_dir / record.session_id
    if (place / "session.json").is_file() and _is_half(place, record.session_id):
        # whoever stored it was killed in between: what it left is told from a session by its id and its end
        place = folder or reports_dir / f"{record.session_id}-{os.getpid()}"
    writer = Store(reports_dir).open_session(record, place)
    writer.add_run(run)
    writer.finish(_record(ledger.soak_id, about, finished=True))
    return writer.folder


def _is_half(place: Path, session_id: str) -> bool:
    record = read_session(place).record
    return record.session_id == session_id and record.finished_at is None


def make_run(ledger: Ledger, about: About, session_id: str) -> Run:
    """Return the run that a ledger's soak is."""
    seen = observe_ledger(ledger)
    started = datetime.datetime.fromisoformat(about.started_at)
    took_s = (datetime.datetime.now(datetime.UTC) - started).total_seconds()
    return Run(
        run_id=f"001-soak-{about.model}-{about.device.name}"[:120],
        session_id=session_id,
        attempt=1,
        suite=SUITE,
        test=about.test or f"harness soak: {ledger.soak_id}",
        model=about.model,
        artifact_sha256=about.artifact_sha256,
        runtime=about.runtime,
        runtime_version=about.runtime_version,
        device=about.device,
        threads=about.threads,
        settings={"kind": SUITE, **seen.settings},
        started_at=about.started_at,
        duration_s=max(0.0, took_s),
        outcome=Outcome.COMPLETED,
        scenario=seen.scenario,
        conditions=seen.conditions,
        measurements=seen.measurements,
        series=seen.series,
        log=seen.log,
    )


def observe_ledger(ledger: Ledger) -> Observation:
    """Return what a ledger's windows show, judged."""
    spool_bytes = sum(held.size_bytes for held in ledger.read_state().segments.values())
    about = about_of(ledger.read_spec())
    return observe(read_table(ledger.folder), about, ledger.soak_id, spool_bytes=spool_bytes)


def _record(soak_id: str, about: About, *, finished: bool) -> SessionRecord:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    host: dict[str, Any] = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    return SessionRecord(
        session_id=f"soak-{soak_id}",
        started_at=about.started_at,
        finished_at=now if finished else None,
        command=about.command,
        plan_path=about.plan_path,
        plan=about.plan,
        devices=(about.device,),
        harness_version=metadata.version("hil-harness"),
        host=host,
    )


def _judged(folder: Path) -> Concluded:
    session = read_session(folder)
    plan = plan_from_mapping(dict(session.record.plan), session.record.plan_path or "plan")
    results = tuple(r for run in session.runs for r in gates.results_of(run, plan.budgets))
    verdict = gates.session_verdict(results)
    if session.doubts:
        verdict = gates.worst((verdict, Verdict.INVALID))
    return Concluded(folder, verdict, gates.release_verdict(results, session.runs, plan), results)
