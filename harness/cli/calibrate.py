"""`harness devices calibrate`: a model against itself, and what that says of the unit."""

from __future__ import annotations

import argparse
import datetime
import secrets
import sys
from pathlib import Path

from harness import board as boards
from harness import plan as plans
from harness import selection, stats
from harness.budgets import MAX_MARGIN
from harness.calibrations import save_calibration
from harness.cli.options import load_registry, positive_number, reports_dir, select_one, whole_number
from harness.errors import EXIT_INVALID, ConfigError
from harness.measure.calibrate import Taken, compute_calibration, take_duets
from harness.model import Calibration, Detectable, Plan, PlanModel
from harness.progress import Progress
from harness.selection import Target
from harness.store import codec
from harness.units import counted
from harness.workbench import Workbench

DESCRIPTION = """Compare a model with itself on a device, again and again: how often a comparison there would
end in a false FAIL or INCONCLUSIVE, and the smallest regression that it would catch. It is kept with the
unit, and reports of sessions on it show it. Other load on the device is fine, its clock and its frequency
must hold. Ctrl-C ends the measuring and keeps what is there."""
TRIALS = 300
MINUTES = 3.0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="FILE", help="a file, or a model of suites/release.toml (default: its first)"
    )
    parser.add_argument(
        "--minutes",
        type=positive_number,
        default=MINUTES,
        metavar="M",
        help="of measuring, longer where fewer than one comparison's duets fit (default: %(default)g)",
    )
    parser.add_argument(
        "--trials",
        type=whole_number(1),
        default=TRIALS,
        metavar="N",
        help="comparisons drawn from what was measured (default: %(default)s)",
    )
    parser.add_argument(
        "--margin",
        type=_percent,
        metavar="PERCENT",
        help="what they are judged by (default: latency's own, 1, on a virtual clock 0.1)",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")


def _percent(text: str) -> float:
    ratio = positive_number(text.removesuffix("%")) / 100
    if ratio > MAX_MARGIN:
        raise argparse.ArgumentTypeError(f"expected at most {100 * MAX_MARGIN:g}%, got {text!r}")
    return ratio


def calibrate(args: argparse.Namespace) -> int:
    """Measure, draw trials, keep and print what they say; return 11 where the unit changed meanwhile."""
    device = select_one(args, args.name)
    folder = reports_dir(args)
    plan, model = _model(args.model, folder.parent / "suites" / "release.toml")
    target = Target(device, model)
    bench_of = Workbench(
        plan,
        [target],
        load_registry(args).devices.get("local"),
        1,
        Progress(sys.stderr),
        "harness devices calibrate",
    )
    try:
        bench = bench_of.bench(device, model, boards.TIMING)
        with bench.progress.step(f"{device.name}: {model.name} against itself"):
            taken = take_duets(bench, minutes=args.minutes, seed=secrets.randbits(31))
            if taken.problems:
                sys.stdout.write(_invalid(device.name, taken))
                return EXIT_INVALID
            now = datetime.datetime.now(datetime.UTC)
            found = compute_calibration(bench, taken, trials=args.trials, margin=args.margin, now=now)
    finally:
        bench_of.close()
    path = save_calibration(folder, found)
    if args.format == "json":
        sys.stdout.write(codec.dump_json(codec.to_plain(found)).decode())
    else:
        sys.stdout.write(describe(found) + f"Kept in {path}.\n")
    return 0


def _model(given: str | None, plan_file: Path) -> tuple[Plan, PlanModel]:
    plan = plans.load_plan(plan_file) if plan_file.is_file() else Plan(None)
    if given is None and not plan.models:
        raise ConfigError(
            f"there is no {plan_file} to take a model from.",
            where="--model",
            next_step="Give a file: --model FILE.",
        )
    chosen = selection.select_models(plan, [given] if given else [], [], {})[0]
    selection.require_usable([chosen], plan.runtimes)
    return plan, chosen


def _invalid(name: str, taken: Taken) -> str:
    lines = [f"{name}: INVALID  {counted(len(taken.kept), 'duet')} taken and not kept:"]
    return "\n".join([*lines, *(f"  {problem}" for problem in taken.problems)]) + "\n"


def describe(c: Calibration) -> str:
    """Return a calibration as lines to read, the last one ended."""
    s = c.settings
    measured = f"{counted(s['duets'], 'duet')} in {s['measured_s'] / 60:.1f} min"
    early = ", ended early" if s["interrupted"] else ""
    runtime = f"{c.runtime} {c.runtime_version or ''}".strip()
    caught = "\n".join(f"  caught in {d.minutes:g} min".ljust(24) + _caught(d) for d in c.detectable)
    return (
        f"{c.device}: {c.model} ({runtime}) against itself, {c.fidelity} times, {measured}{early}\n"
        f"  margin                {_ratio(c.margin)}\n"
        f"  false FAIL            {_share(c.false_fails, c.trials)}\n"
        f"  INCONCLUSIVE          {_share(c.inconclusives, c.trials)}\n"
        f"  one trial             {c.trial_s:.0f} s, ±{_ratio(c.half_width_ratio)} (90% interval), medians\n"
        f"{caught}\n"
        f"Trials are drawn from the {counted(s['duets'], 'duet')}, with replacement. `caught` is the\n"
        "smallest regression that 95% of comparisons which measure for so long call a FAIL.\n"
    )


def _share(count: int, trials: int) -> str:
    low, high = stats.clopper_pearson(count, trials)
    interval = f"90% interval {_ratio(low)} to {_ratio(high)}"
    return f"{_ratio(count / trials)} of {trials} trials ({interval})"


def _caught(d: Detectable) -> str:
    how = "extrapolated" if d.extrapolated else "measured for as long"
    return "can't be told: too few duets fit" if d.ratio is None else f"+{_ratio(d.ratio)} ({how})"


def _ratio(ratio: float) -> str:
    return f"{100 * ratio:.3g}%"
