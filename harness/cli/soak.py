"""`harness soak`: start, status, attach, stop and list. The soak itself runs on its device."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import against, baselines, selection, soaking
from harness import plan as plans
from harness.cli import soak_known as known
from harness.cli import soak_text
from harness.cli.options import (
    DEVICE_HELP,
    ActionRow,
    add_actions,
    add_command,
    load_registry,
    print_table,
    reports_dir,
    select_one,
    whole_number,
)
from harness.errors import ConfigError
from harness.model import Baseline, Device, Plan, PlanModel
from harness.progress import Progress
from harness.selection import Target
from harness.soak.cycles import with_whole_path
from harness.soak.heard import heard_of
from harness.soak_settings import parse_duration_s
from harness.soaking import Origin
from harness.workbench import Workbench

_SOAK = """Soaks keep a model at work for hours or days on a device that needs nobody meanwhile: what it sees
stays on its own disk until somebody collects it. `pytest suites/ --device NAME --soak 72h` starts one and
waits; these commands do the parts. docs/soak.md tells the whole."""
_START = """Start a soak and return: it runs on its device by itself.

    harness soak start --device rpi4 --model door.onnx --duration 72h --cycle "every 2 s"

Settings are the plan's and those of devices.toml (docs/configuration.md, Soaks); options go before them."""
_STATUS = """Show how a soak stands: how far, how much of it was observed, calls and errors, latency and
memory now against the first hour, the last events, alerts that are on, who collects. Asks the device, and
falls back on what is known here where that is out of reach. Disturbs nobody who collects. Without an ID:
the only soak that is under way, else the list."""
_ATTACH = """Collect a soak until it ends, then judge it, store it as a session and render its report. Goes on
where the last collector stopped, from any host that reaches the device. Ctrl-C leaves the soak running.

Exit codes: 0 PASS, 1 FAIL, 10 INCONCLUSIVE, 11 INVALID, 75 INFRA_ERROR, 2 wrong use, 130 interrupted."""
_STOP = """End a soak on its device before its time. Who collects it at this moment finds its end, judges it
and stores it; where nobody does, `attach` will."""
_LIST = """List the soaks that this host has started or collected; with --device, those on that device too.
`seen` is how old what is known of one is. NOT HEARD OF: for longer than a collector is ever quiet.
OVERDUE: its duration must be over by now, and nobody has fetched its end."""


def add_parser(commands: Any) -> None:
    parser = add_command(commands, "soak", "keep a model at work for days on a device", _SOAK)
    rows: Sequence[ActionRow] = (
        ("start", start, "start one and leave it running", _START),
        ("status", status, "how one stands", _STATUS),
        ("attach", attach, "collect one until its end; judge, store and render it", _ATTACH),
        ("stop", stop, "end one early", _STOP),
        ("list", list_soaks, "soaks known here, or on a device", _LIST),
    )
    for name, action in add_actions(parser, rows, required=True):
        if name in ("status", "attach", "stop"):
            action.add_argument("id", nargs="?", metavar="ID", help="(default: the only one)")
        device_help = DEVICE_HELP if name == "start" else "where it is, if this host doesn't know it yet"
        if name == "list":
            device_help = "ask this device too"
        action.add_argument("--device", metavar="NAME", required=name == "start", help=device_help)
        if name == "start":
            _add_start_options(action)
        if name == "attach":
            action.add_argument(
                "--take-over", action="store_true", help="also from a collector that is still at it"
            )
            action.add_argument(
                "--report-dir", metavar="DIR", help="put the session here (default: reports/soak-ID/)"
            )
        if name == "stop":
            action.add_argument(
                "--reason", default="stopped by a user", metavar="TEXT", help="(default: %(default)s)"
            )


def _add_start_options(action: argparse.ArgumentParser) -> None:
    add = action.add_argument
    add(
        "--model",
        metavar="FILE",
        action="append",
        help="a file, or a model of the plan (default: its only one)",
    )
    add("--plan", metavar="FILE", help="(default: suites/release.toml)")
    add("--duration", metavar="TIME", help="as 72h or 90min (default: the plan's)")
    add("--cycle", metavar="CYCLE", help='closed, "every 300 s", "poisson 2 /s" or "trace FILE.csv"')
    add("--window", metavar="TIME", help="what one record sums up, as 10s")
    add("--baseline", metavar="NAME", help="a recorded one, whose drift its own is held against")
    add("--threads", type=whole_number(1), default=1, metavar="N", help="(default: %(default)s)")


# --- start ----------------------------------------------------------------------------------------


def start(args: argparse.Namespace) -> int:
    """Start a soak; say how to follow it. `--cycle` is the model's; those beside it keep their own."""
    device = select_one(args, args.device)
    folder = reports_dir(args)
    plan, model = _model(args, folder.parent / "suites" / "release.toml")
    if args.cycle is not None and model.soak is not None:
        model = replace(model, soak=replace(model.soak, cycle=None))  # the option goes over the model's own
    target = Target(device, model, _baseline(args, plan, model, device, folder))
    settings = soaking.check(plan, target, _given(args))
    bench_of = Workbench(
        plan,
        [target],
        load_registry(args).devices.get("local"),
        args.threads,
        Progress(sys.stderr),
        "harness soak start",
    )
    try:
        origin = Origin("", ("harness", *sys.argv[1:]))
        started = soaking.begin(bench_of, plan, target, settings, folder, origin, Progress(sys.stderr))
    finally:
        bench_of.close()
    sys.stdout.write(soak_text.started(started.soak_id, device.name, settings, started.boot_hook))
    return 0


def _baseline(
    args: argparse.Namespace, plan: Plan, model: PlanModel, device: Device, reports: Path
) -> Baseline | None:
    """Return the recorded baseline whose drift the soak's is held against: by the option, else the plan's."""
    folder = baselines.baselines_dir(reports)
    choices = against.choose([args.baseline] if args.baseline else [], plan, [model], folder)
    return against.baselines_for(choices, [model], [device], folder, plan).get((device.name, model.name))


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the options set, by SoakSettings' names."""
    given: dict[str, Any] = {}
    for key, option in (("duration_s", "duration"), ("window_s", "window")):
        text = getattr(args, option)
        if text is not None:
            try:
                given[key] = parse_duration_s(text)
            except ConfigError as error:
                raise ConfigError(error.what, where=f"--{option}") from None
    if args.cycle is not None:
        given["cycle"] = with_whole_path(args.cycle, Path.cwd())
    return given


def _model(args: argparse.Namespace, plan_file: Path) -> tuple[Plan, PlanModel]:
    path = Path(args.plan) if args.plan else plan_file if plan_file.is_file() else None
    plan = plans.load_plan(path) if path else Plan(None)
    if len(args.model or ()) > 1:
        raise ConfigError(
            f"a soak is of one model, got {', '.join(args.model)}.",
            where="--model",
            next_step="Name those that work at once `beside` it in the plan: [models.NAME.soak].",
        )
    chosen = selection.select_models(plan, args.model or [], [], {})
    if not args.model:
        chosen = tuple(m for m in chosen if m.soak is not None) or chosen
    if len(chosen) != 1:
        names = ", ".join(m.name for m in chosen) or "none"
        raise ConfigError(
            f"which model? The plan has {names}.", where="--model", next_step="Name one: --model NAME."
        )
    selection.require_usable(chosen, plan.runtimes)
    return plan, chosen[0]


# --- one that runs --------------------------------------------------------------------------------


def status(args: argparse.Namespace) -> int:
    found = known.find(args)
    if found is None:
        return list_soaks(args)
    sys.stdout.write(soak_text.describe(known.look(found)))
    return 0


def attach(args: argparse.Namespace) -> int:
    """Collect until the end, then store, judge and render; return the verdict's exit code."""
    found = known.require(args)
    folder = Path(args.report_dir) if args.report_dir else None
    return known.attach(found, reports_dir(args), folder, take_over=args.take_over)


def stop(args: argparse.Namespace) -> int:
    found = known.require(args)
    session = known.stored(found)
    if session is not None:
        sys.stdout.write(f"{found.soak_id}: has ended already; it is stored in {session}\n")
        return 0
    done = known.stop(found, args.reason)
    sys.stdout.write(soak_text.stopped(found.soak_id, done))
    return 0


def list_soaks(args: argparse.Namespace) -> int:
    glances, problem = known.look_at_all(args)
    if glances:
        now = datetime.datetime.now(datetime.UTC)
        found = [(glance, heard_of(glance, now)) for glance in glances]
        print_table(soak_text.LIST_HEAD, [soak_text.table_row(glance, heard) for glance, heard in found])
        sys.stdout.write(soak_text.list_notes(found))
    elif problem is None:
        there = (
            f" or on {args.device}" if args.device else "; `harness soak list --device NAME` asks a device"
        )
        sys.stdout.write(f"no soaks are known here{there}\n")
    if problem is not None:
        sys.stdout.flush()  # what is known here stands before what went wrong
        raise problem
    return 0
