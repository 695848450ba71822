"""From a target to a soak that runs on its device: its models made ready, its spec, and what is known of it.

What runs then needs nobody. `harness/soak/` collects and judges it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import board as boards
from harness.bundles import artifact_settings
from harness.errors import ConfigError, HarnessError
from harness.measure.bench import Bench
from harness.model import Device, Fidelity, Plan, PlanModel, SoakSettings, SoakStream, SoakTable
from harness.progress import Progress
from harness.runtimes.options import runtime_settings
from harness.selection import Target
from harness.soak.about import About, about_of, about_to_plain
from harness.soak.alarm import Alarm
from harness.soak.alert_rules import parse_rules
from harness.soak.alerts import evaluate
from harness.soak.attach import collect
from harness.soak.clocks import GOVERNOR_SET, NOT_SET
from harness.soak.collector import Visit
from harness.soak.cycles import parse_cycle
from harness.soak.known_good import soak_numbers
from harness.soak.ledger import Ledger
from harness.soak.machines import (
    discard_machine,
    ensure_machine,
    expected_lifetime_s,
    let_fly,
    note_soak,
    require_no_soak,
)
from harness.soak.reach import reach_for
from harness.soak.spool import Record
from harness.soak.start import Started, StreamPlan, new_soak_id, start_soak
from harness.soak.table import read_table
from harness.soak.tally import Tally
from harness.soak.webhook import webhook_url
from harness.soak_settings import load_for, settings_for
from harness.workbench import Workbench

SOAKS_FOLDER = "soaks"  # of reports/


@dataclass(frozen=True)
class Origin:
    """Who asked for a soak: pytest's node id, "" for the command, and the command line."""

    test: str
    command: tuple[str, ...]


def soaks_dir(reports_dir: Path) -> Path:
    """Return the folder of the ledgers."""
    return reports_dir / SOAKS_FOLDER


def profile_of(device: Device, settings: SoakSettings) -> str:
    """Return the profile that a soak needs an emulated board in: only one core's time can be skipped."""
    return boards.profile_for(device, boards.TIMING if settings.compressed else boards.FUNCTIONAL)


def check(plan: Plan, target: Target, given: Mapping[str, Any]) -> SoakSettings:
    """Return what holds for a soak of `target`. Raises ConfigError unless all of it can be meant.

    That is its durations, the cycle of each of its streams, its alerts and where they are told: all that can
    be known without a device.
    """
    settings = settings_for(plan.soak, target.device, given)
    for model in _streams(plan, target.model):
        cycle = load_for(settings, model.soak).cycle
        place = f"cycle of {model.name}"
        parsed = parse_cycle(str(cycle), where=place, folder=_folder(plan))
        if settings.compressed and parsed["kind"] == "closed":
            what = "a compressed soak skips idle time, and a closed loop leaves none."
            raise ConfigError(what, where=place, next_step='Give it idle time, as "every 300 s".')
    if settings.power_cycle_every_s is not None and target.device.kind != "qemu":
        what = "its power can't be switched from here, so it can't be cycled on a schedule."
        step = "Leave out soak.power_cycle_every_s for it."
        raise ConfigError(what, where=target.device.name, next_step=step)
    parse_rules(settings.alerts)
    if settings.webhook_env:
        webhook_url(settings.webhook_env)
    return settings


def _streams(plan: Plan, model: PlanModel) -> list[PlanModel]:
    """Return the models that work at the same time, the main one first."""
    by_name = {m.name: m for m in plan.models}
    return [model, *(by_name[name] for name in (model.soak.beside if model.soak else ()))]


def _folder(plan: Plan) -> Path | None:
    return plan.path.parent if plan.path else None


def begin(
    workbench: Workbench,
    plan: Plan,
    target: Target,
    settings: SoakSettings,
    reports_dir: Path,
    origin: Origin,
    progress: Progress,
) -> Started:
    """Start a soak of `target` and return it. On an emulated unit its machine goes on without us.

    The connection to the device is closed then: it would only disturb. Raises as `prepare` does.
    """
    device, profile = target.device, profile_of(target.device, settings)
    assert settings.duration_s is not None
    require_no_soak(device)
    mine = ensure_machine(
        device,
        profile,
        workbench.requests(_all_models(plan, target.model)),
        lifetime_s=expected_lifetime_s(settings.duration_s, compressed=settings.compressed),
        progress=progress,
    )
    try:
        streams = [
            _stream_plan(workbench, plan, device, model, settings, profile)
            for model in _streams(plan, target.model)
        ]
        about = _about(workbench, plan, target, settings, streams, origin)
        started = start_soak(
            streams[0].benches[0].board,
            streams,
            settings,
            root=soaks_dir(reports_dir),
            soak_id=new_soak_id(),
            about=about_to_plain(about),
        )
    except BaseException as error:
        workbench.close_board(device.name)
        if mine:
            discard_machine(device, error)
        raise
    workbench.close_board(device.name)
    note_soak(device, started.soak_id)
    if settings.compressed:
        let_fly(device)
    return started


def _all_models(plan: Plan, model: PlanModel) -> list[PlanModel]:
    """Return every model that a soak of `model` needs on the device."""
    by_name = {m.name: m for m in plan.models}
    found = []
    for main in _streams(plan, model):
        found += [main, *(by_name[name] for name in (main.soak.light if main.soak else ()))]
    return found


def _stream_plan(
    workbench: Workbench,
    plan: Plan,
    device: Device,
    model: PlanModel,
    settings: SoakSettings,
    profile: str,
) -> StreamPlan:
    load = load_for(settings, model.soak)
    by_name = {m.name: m for m in plan.models}
    variants = [model, *(by_name[name] for name in load.light)]
    benches = tuple(workbench.bench(device, variant, profile) for variant in variants)
    return StreamPlan(model.name, benches, str(load.cycle), load, _folder(plan))


def _about(
    workbench: Workbench,
    plan: Plan,
    target: Target,
    settings: SoakSettings,
    streams: Sequence[StreamPlan],
    origin: Origin,
) -> About:
    bench = streams[0].benches[0]
    return About(
        model=target.model.name,
        artifact_sha256=bench.case.artifact.sha256,
        runtime=bench.case.runtime.name,
        runtime_version=workbench.runtime_version(bench.case),
        threads=bench.threads,
        device=bench.board.facts,
        # of an emulated board that isn't on the virtual clock, times are left out (harness/soak/observe.py)
        fidelity=bench.time_fidelity or Fidelity.VIRTUAL,
        settings=settings,
        streams=tuple(
            SoakStream(s.name, s.benches[0].case.name, s.cycle, tuple(b.case.name for b in s.benches))
            for s in streams
        ),
        started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        harness_version=metadata.version("hil-harness"),
        test=origin.test,
        command=origin.command,
        run_settings=run_settings(bench),
        plan=plan.raw,
        plan_path=str(plan.path) if plan.path else None,
        baseline=soak_numbers(target.baseline.recorded if target.baseline else None),
    )


def run_settings(bench: Bench) -> dict[str, Any]:
    """Return what every run says of how it was taken, as far as a soak knows it."""
    asked = bench.board.governor.get("asked")
    return {
        "runtime_packages": list(bench.env.packages),
        "environment_sha256": bench.env.sha256,
        "inputs_sha256": bench.inputs.sha256,
        "profile": bench.board.profile,
        **artifact_settings(bench.case.artifact),
        "pinned_cpus": list(bench.board.device.pinned_cpus),
        GOVERNOR_SET: {"asked": asked, "not_set": NOT_SET} if asked else {},
        **runtime_settings(bench.case),
    }


# --- one that runs --------------------------------------------------------------------------------


def follow(
    device: Device,
    ledger: Ledger,
    progress: Progress,
    *,
    take_over: bool = False,
) -> Visit:
    """Collect a soak until it has ended and all of it is here, saying meanwhile how it stands.

    Raises as Collector.run does; KeyboardInterrupt leaves the soak running.
    """
    spec = ledger.read_spec()
    about = about_of(spec)
    known = read_table(ledger.folder)
    url = webhook_url(about.settings.webhook_env) if about.settings.webhook_env else None
    ram = about.device.details.get("ram_bytes")
    alarm = Alarm(
        ledger,
        about.settings,
        device.name,
        ram_bytes=float(ram) if isinstance(ram, int | float) else None,
        url=url,
        known=known,
    )
    tally = Tally(spec, known)

    def on_records(records: Sequence[Record]) -> None:
        tally.add(records)
        alarm.on_records(records)

    def on_visit(visit: Visit) -> str | None:
        progress.say(tally.line(visit))
        return alarm.on_visit(visit)

    return collect(device, ledger, on_visit=on_visit, on_records=on_records, take_over=take_over)


def clean_up(device: Device, ledger: Ledger) -> str:
    """Remove a stored soak from its device, whose disk it would fill; return why that couldn't be, or "".

    An emulated board's disk went with its machine.
    """
    if device.kind == "qemu":
        return ""
    try:
        with reach_for(device, compressed=None)() as soaks:
            soaks.remove(ledger.soak_id, ledger.read_state().token)
    except HarnessError as error:
        return f"it is still on {device.name}: {error}"
    return ""


def alerts_on(table: SoakTable, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the alerts that hold at a table's end, with since when; of an ended soak with the outcome."""
    about = about_of(spec)
    ram = about.device.details.get("ram_bytes")
    found = evaluate(table, about.settings, ram_bytes=float(ram) if isinstance(ram, int | float) else None)
    return tuple(alert.describe() for alert in found.fired if alert.cleared_s is None)
