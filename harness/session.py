"""One session: wires registry, boards, measurements and store, and owns their clean-up.

A session measures what it is asked for, one run at a time, keeps every attempt in the store, and never
judges: that is gate.py's. Only TransientError is tried again, once, here, on a freshly opened board.
"""

from __future__ import annotations

import datetime
import os
import platform as host_platform
import re
import secrets
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import soaking
from harness.bundles import artifact_settings
from harness.calibrations import load_calibrations
from harness.errors import (
    ConfigError,
    HarnessError,
    HostSetupError,
    ModelRejected,
    TransientError,
    Unsupported,
)
from harness.judging import plan_name
from harness.kinds import MEASURES, Task, in_short
from harness.measure.bench import Bench, Observation
from harness.measure.duet import Undecided
from harness.measure.surroundings import Surroundings
from harness.measure.thermal import with_heat
from harness.model import (
    Budget,
    Comparison,
    Device,
    DeviceFacts,
    ErrorRecord,
    Measurement,
    Outcome,
    Plan,
    Run,
    SessionRecord,
    Verdict,
)
from harness.progress import Progress
from harness.results import BUDGETS, plain_budgets, results_of
from harness.runtimes.options import runtime_settings
from harness.selection import Target
from harness.soak.conclude import note_stored, observe_ledger
from harness.soak.ledger import Ledger
from harness.soak.start import Started
from harness.store import SessionWriter, Store, update_latest
from harness.workbench import Workbench

ATTEMPTS = 2  # of a run that a TransientError ended
NOT_DEPLOYED = "not measured: the model did not deploy, see the deploy suite."


@dataclass(frozen=True)
class SessionOptions:
    """What was asked for on the command line."""

    reports_dir: Path
    report_dir: Path | None = None  # this session's own folder, where asked
    threads: int = 1
    command: tuple[str, ...] = ()
    soak: Mapping[str, Any] = field(default_factory=dict)  # what was set of soaks, by SoakSettings' names


class Session:
    """Open boards, runs and their store for one pytest call. Use `run` for each measurement."""

    def __init__(
        self,
        options: SessionOptions,
        plan: Plan,
        targets: Sequence[Target],
        local: Device | None,
        progress: Progress,
    ) -> None:
        self.options = options
        self.plan = plan
        self.targets = tuple(targets)
        self.progress = progress
        self.runs: list[Run] = []
        self.interrupted = False
        self.internal_error = False
        self.session_id = _session_id()
        self.workbench: Workbench = Workbench(
            plan, self.targets, local, options.threads, progress, f"session {self.session_id}"
        )
        self._rejected: set[str] = set()
        # targets that couldn't be made ready: their first usage error was told, the next would say the same
        self._misused: set[str] = set()
        self._ready: set[str] = set()
        self._busy: set[str] = set()  # devices on which others went on for longer than was waited
        self._writer: SessionWriter | None = None
        self._started_at = _now()
        self.soaks: list[Started] = []  # that run on without us: it was interrupted, or lost them
        self._collected: list[tuple[Device, Ledger]] = []

    # -- measuring

    def run(self, kind: str, target: Target, test: str, budgets: Sequence[Budget] = ()) -> Run:
        """Measure `kind` on `target` and store every attempt; return the last.

        `budgets` are the test's own: they stand before the plan's for this run.

        Raises only what is a fault of ours, KeyboardInterrupt, which is stored first, or the error that
        keeps the session from being stored at all.
        """
        self._open_store()  # first: a session that is killed in its first run is there to be read
        for attempt in range(1, ATTEMPTS + 1):
            run, transient = self._attempt(kind, target, test, attempt, budgets)
            self._keep(run)
            self._put_away()
            if self.soaks:
                break  # it goes on there: a second one would only be in its way
            if transient or self.workbench.has_lost_agent(target.device.name):
                self.workbench.close_board(target.device.name)
            if not transient:
                break
        return run

    def _attempt(
        self, kind: str, target: Target, test: str, attempt: int, budgets: Sequence[Budget]
    ) -> tuple[Run, bool]:
        measure = MEASURES[kind]
        started_at, started = _now(), time.monotonic()
        outcome, observation, transient = Outcome.COMPLETED, Observation(), False
        error: HarnessError | None = None
        reason: str | None = None
        try:
            if target.id in self._rejected and measure.suite != "deploy":
                raise Unsupported(NOT_DEPLOYED)
            if target.id in self._misused:
                raise Unsupported("not measured: see the first error of this model.")
            with self.progress.step(target.model.name):
                if measure.attended:
                    observation = self._observe(kind, target, budgets)
                else:
                    observation = self._soak(target, test, budgets)
            if observation.invalid:
                outcome, reason = Outcome.INVALID, observation.invalid
        except KeyboardInterrupt:
            self.interrupted = True
            self._keep(self._record(kind, target, test, attempt, started_at, started, Outcome.INTERRUPTED))
            raise
        except ModelRejected as why:
            outcome, error = Outcome.MODEL_REJECTED, _shortened(why, target)
            observation = Observation(log=str(why))
            if measure.suite == "deploy":
                self._rejected.add(target.id)
        except Unsupported as why:
            outcome, reason = Outcome.SKIPPED, str(why)
        except HostSetupError as why:
            outcome, error = Outcome.INFRA_ERROR, why
        except ConfigError as why:
            outcome, error = Outcome.USAGE_ERROR, why
            if target.id not in self._ready:
                self._misused.add(target.id)
        except HarnessError as why:
            outcome, error, transient = Outcome.INFRA_ERROR, why, isinstance(why, TransientError)
        except Exception as why:
            self.internal_error = True
            seen, reason = Observation(log=traceback.format_exc()), f"internal error: {why!r}"
            run = self._record(
                kind, target, test, attempt, started_at, started, Outcome.INVALID, seen, reason=reason
            )
            self._keep(run)
            raise
        run = self._record(
            kind, target, test, attempt, started_at, started, outcome, observation, error, reason
        )
        return run, transient

    def _observe(self, kind: str, target: Target, budgets: Sequence[Budget]) -> Observation:
        measure = MEASURES[kind]
        bench = self.bench(target, measure.profile)
        self._ready.add(target.id)
        task = Task(
            self,
            bench,
            target,
            secrets.randbits(32),
            self._undecided(kind, target, budgets),
            self._in_doubt(kind, target, budgets),
        )
        around = Surroundings(bench, target.device)
        alone = measure.suite in ("latency", "power") and kind != "duet"
        needs_quiet = alone and target.device.name not in self._busy
        if needs_quiet and not around.wait_until_quiet():
            self._busy.add(target.device.name)  # its next run needn't wait as long for nothing
        observation = measure.take(task)
        found = around.conditions()
        return replace(
            observation,
            conditions=(
                *(with_heat(found) if measure.suite == "thermal" else found),
                *observation.conditions,
            ),
            settings={**_settings(bench, around.before), **_own(budgets), **observation.settings},
        )

    def _soak(self, target: Target, test: str, budgets: Sequence[Budget]) -> Observation:
        """Begin a soak, collect it until it ends, and return what its windows show.

        An interrupt leaves it running, and in `soaks`.
        """
        settings = soaking.check(self.plan, target, self.options.soak)
        origin = soaking.Origin(test, self.options.command)
        started = soaking.begin(
            self.workbench, self.plan, target, settings, self.options.reports_dir, origin, self.progress
        )
        self._ready.add(target.id)
        self.soaks.append(started)
        soaking.follow(target.device, started.ledger, self.progress)
        self.soaks.remove(started)
        seen = observe_ledger(started.ledger)
        self._collected.append((target.device, started.ledger))
        return replace(seen, settings={**seen.settings, **_own(budgets)})

    def _put_away(self) -> None:
        """Note where the soaks are stored that were collected, and remove them from their devices."""
        for device, ledger in self._collected:
            note_stored(ledger.folder, self._open_store().folder)
            left = soaking.clean_up(device, ledger)
            if left:
                self._open_store().attach(f"{ledger.soak_id}.txt", f"{left}\n".encode())
        self._collected.clear()

    def _undecided(self, kind: str, target: Target, budgets: Sequence[Budget]) -> Undecided:
        """Return what judges comparisons while they are taken: by the margins that will judge the run."""

        def ask(comparisons: Sequence[Comparison]) -> bool:
            seen = Observation(comparisons=tuple(comparisons), settings=_own(budgets))
            sketch = self._sketched(kind, target, seen)
            return any(r.verdict is Verdict.INCONCLUSIVE for r in results_of(sketch, self.plan.budgets))

        return ask

    def _in_doubt(
        self, kind: str, target: Target, budgets: Sequence[Budget]
    ) -> Callable[[Sequence[Measurement]], bool] | None:
        """Return what judges measurements while they are taken; None where no interval decides of them."""
        mine = [
            b
            for b in (*budgets, *self.plan.budgets)
            if (b.model, b.device_type) == (plan_name(target.model.name), target.device.type.name)
        ]
        if not any(b.limit is not None and b.rule == "confidence" for b in mine):
            return None

        def ask(measurements: Sequence[Measurement]) -> bool:
            seen = Observation(measurements=tuple(measurements), settings=_own(budgets))
            rows = results_of(self._sketched(kind, target, seen), self.plan.budgets)
            return any(row.verdict is Verdict.INCONCLUSIVE for row in rows)

        return ask

    def completed(self, kind: str, target: Target) -> Run | None:
        """Return the latest completed run of `kind` on `target` in this session."""
        mine = (r for r in reversed(self.runs) if r.model == target.model.name)
        return next(
            (
                run
                for run in mine
                if run.outcome is Outcome.COMPLETED
                and run.device.name == target.device.name
                and run.settings.get("kind") == kind
            ),
            None,
        )

    def sketch(self, kind: str, task: Task) -> Run:
        """Return a run of `kind` that is taken now and not stored."""
        seen = MEASURES[kind].take(task)
        seen = replace(
            seen, settings={**_settings(task.bench, task.bench.board.conditions()), **seen.settings}
        )
        return self._sketched(kind, task.target, seen)

    def _sketched(self, kind: str, target: Target, seen: Observation) -> Run:
        return self._record(kind, target, "", 1, _now(), time.monotonic(), Outcome.COMPLETED, seen)

    def bench(self, target: Target, profile: str) -> Bench:
        """Return the target's model made ready on its device."""
        return self.workbench.bench(target.device, target.model, profile)

    def close(self) -> None:
        """Close every board. Safe to call twice."""
        self.workbench.close()
        self.progress.stop()

    # -- the store

    def _record(
        self,
        kind: str,
        target: Target,
        test: str,
        attempt: int,
        started_at: str,
        started: float,
        outcome: Outcome,
        observation: Observation | None = None,
        error: HarnessError | None = None,
        reason: str | None = None,
    ) -> Run:
        seen = observation or Observation()
        case = self.workbench.known_case(target.model)
        device = target.device
        runtime = case.runtime if case else target.model.runtime
        version = self.workbench.runtime_version(case) if case else runtime.version if runtime else None
        return Run(
            run_id=_slug(f"{len(self.runs) + 1:03d}-{kind}-{target.model.name}-{device.name}"),
            session_id=self.session_id,
            attempt=attempt,
            suite=MEASURES[kind].suite,
            test=test,
            model=target.model.name,
            artifact_sha256=case.artifact.sha256 if case else "",
            runtime=runtime.name if runtime else "",
            runtime_version=version,
            device=self.workbench.facts(device),
            threads=self.options.threads,
            settings={"kind": kind, **seen.settings},
            started_at=started_at,
            duration_s=time.monotonic() - started,
            outcome=outcome,
            scenario=seen.scenario or (kind if MEASURES[kind].suite == "latency" else None),
            error=ErrorRecord(error.slug, str(error), attempt - 1) if error else None,
            reason=reason,
            conditions=seen.conditions,
            measurements=seen.measurements,
            series=seen.series,
            log=seen.log,
            comparisons=seen.comparisons,
        )

    def _open_store(self) -> SessionWriter:
        if self._writer is None:
            self._writer = Store(self.options.reports_dir).open_session(
                self.record(), self.options.report_dir, self._use_writer
            )
        return self._writer

    def _use_writer(self, writer: SessionWriter) -> None:
        self._writer = writer

    def _keep(self, run: Run) -> None:
        self._open_store().add_run(run)
        self.runs.append(run)

    def record(self, *, finished: bool = False) -> SessionRecord:
        """Return the session as it stands."""
        return SessionRecord(
            session_id=self.session_id,
            started_at=self._started_at,
            finished_at=_now() if finished else None,
            command=self.options.command,
            plan_path=str(self.plan.path) if self.plan.path else None,
            plan=self.plan.raw,
            devices=self._devices(),
            harness_version=metadata.version("hil-harness"),
            interrupted=self.interrupted,
            host=_host_facts(),
            calibrations=load_calibrations(
                self.options.reports_dir, dict.fromkeys(t.device.name for t in self.targets)
            ),
        )

    def _devices(self) -> tuple[DeviceFacts, ...]:
        devices = {target.device.name: target.device for target in self.targets}
        return tuple(self.workbench.facts(device) for device in devices.values())

    def finish(self) -> Path | None:
        """Close the boards, complete the stored session, render its report; return its folder.

        None where nothing was run.
        """
        self.close()
        if self._writer is None:
            return None
        self._writer.finish(self.record(finished=True))
        from harness.report import write_report  # matplotlib: not on the way to the first test

        write_report(self._writer.folder)
        if self.options.report_dir is None:
            update_latest(self.options.reports_dir, self._writer.folder)
        return self._writer.folder


def _shortened(why: ModelRejected, target: Target) -> ModelRejected:
    """Return the rejection as one message to read; the runtime's own words in full are in the run's log."""
    runtime = str(target.model.runtime or "the runtime")
    return ModelRejected(
        f"{runtime} refuses it: {in_short(why, target.model.name)}",
        where=f"{target.model.name} on {target.device.name}",
        next_step=why.next_step,
    )


def _settings(bench: Bench, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every run says of how it was taken."""
    governors = sorted(set((before.get("governor") or {}).values()))
    return {
        "runtime_packages": list(bench.env.packages),
        "environment_sha256": bench.env.sha256,
        "inputs_sha256": bench.inputs.sha256,
        "profile": bench.board.profile,
        **artifact_settings(bench.case.artifact),
        "pinned_cpus": list(bench.board.device.pinned_cpus),
        "governor": ", ".join(governors) or None,
        "governor_set": dict(bench.board.governor),
        **runtime_settings(bench.case),
    }


def _own(budgets: Sequence[Budget]) -> dict[str, Any]:
    return {BUDGETS: plain_budgets(budgets)} if budgets else {}


def _session_id() -> str:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{secrets.token_hex(3)}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:120]


def _host_facts() -> Mapping[str, Any]:
    return {
        "platform": host_platform.platform(),
        "python": host_platform.python_version(),
        "cpus": os.cpu_count(),
    }
