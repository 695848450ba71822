"""`harness devices fit`: networks on an emulated board and on a real one, and what follows from both."""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from harness import fitting, selection
from harness import plan as plans
from harness import registry as registries
from harness.cli.options import load_registry, reports_dir, select_one, whole_number
from harness.errors import EXIT_INVALID, ConfigError
from harness.estimating import own_path
from harness.model import Device, Plan, PlanModel
from harness.progress import Progress
from harness.selection import Target
from harness.workbench import Workbench

DESCRIPTION = """Run a set of networks on an emulated board, which counts them, and on a real one,
which is timed, as in `harness devices fit rpi4 --against rpi4-01`; fit the real one's milliseconds
to the counts, each network left out in turn, and keep the calibration. Estimates on emulated boards
of the type use it from then on. Under 3 networks of a runtime and precision it is refused, under 9
it is marked. A board whose clock moved, that throttled or was busy is INVALID, and nothing is kept."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against", required=True, metavar="UNIT", help="the real unit; the device's own kind is `qemu`"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="FILE",
        help="a file, or a model of suites/release.toml; repeatable (default: all of the plan)",
    )
    parser.add_argument(
        "--threads", type=whole_number(1), default=1, metavar="N", help="(default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, fit, keep and print; return 11 where the real board's times don't count."""
    emulated, real = _emulated(args), select_one(args, args.against)
    if real.kind == "qemu":
        raise ConfigError(
            "it is emulated too; a calibration needs a real board.", where=f"--against {args.against}"
        )
    folder = reports_dir(args)
    plan, models = _models(args.model, folder.parent / "suites" / "release.toml")
    fitting.require_enough(models)
    targets = [Target(device, model) for device in (emulated, real) for model in models]
    progress = Progress(sys.stderr)
    bench_of = Workbench(
        plan,
        targets,
        load_registry(args).devices.get("local"),
        args.threads,
        progress,
        "harness devices fit",
    )
    try:
        counted = {m.name: fitting.take_emulated(bench_of, emulated, m) for m in models}
        timed = {m.name: fitting.take_real(bench_of, real, m) for m in models}
        described = str(bench_of.facts(real).details.get("model") or bench_of.facts(real).platform)
    finally:
        bench_of.close()
    problems = [problem for one in timed.values() for problem in one.problems]
    if problems:
        lines = [f"{real.name}: INVALID  nothing was kept:", *(f"  {p}" for p in dict.fromkeys(problems))]
        sys.stdout.write("\n".join(lines) + "\n")
        return EXIT_INVALID
    found, left_out = fitting.make_calibrations(
        counted,
        timed,
        device=emulated,
        board=real,
        described=described,
        threads=args.threads,
        today=datetime.datetime.now(datetime.UTC).date(),
    )
    sys.stdout.write("".join(f"{line}\n" for line in left_out))
    for calibration in found:
        path = own_path(folder, emulated.type.name, calibration.runtime)
        _keep(path, calibration)
    return 0


def _keep(path: Path, found: object) -> None:
    from harness.estimate import calibration

    assert isinstance(found, calibration.Calibration)
    path.parent.mkdir(parents=True, exist_ok=True)
    calibration.save(path, found)
    sys.stdout.write("".join(f"{line}\n" for line in fitting.describe(calibration.load(path))))
    sys.stdout.write(f"Kept in {path}. Estimates use its counts where types.{found.device_type}.estimate = ")
    sys.stdout.write('"counts".\n')


def _emulated(args: argparse.Namespace) -> Device:
    """Return the first emulated unit that NAME means. Raises ConfigError where there is none."""
    fitting_units = registries.select(load_registry(args), args.name)
    chosen = next((d for d in fitting_units if d.qemu is not None), fitting_units[0])
    if chosen.qemu is None:
        # a type whose units are real: its emulated ones go by their own names
        kin = [
            d for d in load_registry(args).devices.values() if d.type == chosen.type and d.qemu is not None
        ]
        chosen = kin[0] if kin else chosen
    return fitting.with_counts(chosen)


def _models(given: list[str], plan_file: Path) -> tuple[Plan, list[PlanModel]]:
    plan = plans.load_plan(plan_file) if plan_file.is_file() else Plan(None)
    if not given and not plan.models:
        raise ConfigError(
            f"there is no {plan_file} to take networks from.",
            where="--model",
            next_step="Give files: --model FILE, once for each.",
        )
    chosen = list(selection.select_models(plan, given, [], {}))
    selection.require_usable(chosen, plan.runtimes)
    return plan, chosen
