"""`harness devices fit`: networks on an emulated board and on a real one, and what follows from both."""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness import registry as registries
from harness import selection
from harness.cli.models import add_runtime_option, find_plan, select_models
from harness.cli.options import load_registry, reports_dir, select_one, whole_number
from harness.counting import COUNTS
from harness.errors import EXIT_INVALID, ConfigError, HarnessError
from harness.estimating import own_path, pieces_path
from harness.fitting import choose, conclude, identity, take
from harness.fitting.choose import Network
from harness.fitting.pieces import Pieces, elsewhere, load_pieces
from harness.fitting.take import Counted, Timed
from harness.model import Device, Plan, PlanModel
from harness.progress import Progress
from harness.selection import Target
from harness.signals import Termination
from harness.units import format_duration
from harness.workbench import Workbench

if TYPE_CHECKING:
    from harness.estimate.calibration import Calibration

_Taken = TypeVar("_Taken", Timed, Counted)

DESCRIPTION = """Run a set of networks on a real board, which is timed, and on an emulated one (NAME), which
counts them, as in `harness devices fit rpi4 --against rpi4-01`; fit the real one's milliseconds to
the counts, each network left out in turn, and keep the calibration. Estimates on emulated boards of
the type use it from then on; where its band is too wide to be of use, only as far as no other's is
narrower. Under 3 networks of a runtime and precision it is refused, under 9 it is marked. A board
whose clock moved, that throttled or was busy is INVALID (exit code 11), and no calibration is kept.
What was measured soundly is: the same command again goes on from there."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against", required=True, metavar="UNIT", help="the real unit, of kind `ssh` or `local`"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="FILE",
        help="a file, or a model of suites/release.toml; repeatable (default: all of the plan)",
    )
    parser.add_argument(
        "--runtime",
        action="append",
        default=[],
        metavar="NAME[==VERSION]",
        help="calibrate this runtime instead of the plan's; repeatable, each gets a calibration of its own",
    )
    add_runtime_option(parser)
    parser.add_argument(
        "--threads",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="of the runtime, on both boards (default: %(default)s)",
    )
    parser.add_argument(
        "--anew", action="store_true", help="measure every network again, whatever an earlier call has kept"
    )


@dataclass(frozen=True)
class _Call:
    """What one call works with."""

    emulated: Device  # as one that counts
    counts: bool  # whether its type asks for counts in any case
    real: Device
    threads: int
    reports: Path
    bench_of: Workbench
    progress: Progress
    pieces: Pieces


def run(args: argparse.Namespace) -> int:
    """Measure, fit, keep and print; return 11 where the real board's times don't count, or what came of them
    is of less use than what is there."""
    asked, real = _emulated(args), select_one(args, args.against)
    emulated = choose.with_counts(asked)
    if real.kind == "qemu":
        raise ConfigError(
            "it is emulated too; a calibration needs a real board.",
            where=f"--against {args.against}",
            next_step="Name a unit whose kind is `ssh` or `local`.",
        )
    folder = reports_dir(args)
    plan, models = _models(args)
    choose.require_enough(models)
    choose.require_plugin(emulated)
    path = pieces_path(folder, emulated.type.name, real.name, args.threads)
    pieces = Pieces(path, _now) if args.anew else load_pieces(path, _now)
    targets = [Target(device, model) for device in (emulated, real) for model in models]
    progress = Progress(sys.stderr)
    local = load_registry(args).devices.get("local")
    bench_of = Workbench(plan, targets, local, args.threads, progress, "harness devices fit")
    termination = Termination()
    termination.install()
    counts = asked.type.estimate == COUNTS
    try:
        return _run(_Call(emulated, counts, real, args.threads, folder, bench_of, progress, pieces), models)
    except (KeyboardInterrupt, HarnessError):
        if pieces.added:
            _say(f"What was measured is kept in {path}: the same command again goes on from there.")
        raise
    finally:
        termination.cleaning_up = True
        bench_of.close()
        termination.restore()


def _run(call: _Call, models: Sequence[PlanModel]) -> int:
    choose.require_distinct(call.bench_of, models)
    looked_into = [_look_into(call, model) for model in models]
    choose.require_one_build(looked_into)
    networks, left_out = choose.enough_of(looked_into)
    for line in [*_unlike(call), *left_out]:
        _say(line)
    taken = _count_up(call, call.real, networks, lambda n: _take(call, n))
    if _is_invalid(call, taken):
        return EXIT_INVALID
    counted = _count_up(call, call.emulated, networks, lambda n: _count(call, n))
    found = conclude.make_calibrations(
        networks,
        counted,
        taken,
        device=call.emulated,
        board=call.real,
        described=identity.describe_board(call.bench_of.facts(call.real), taken[networks[0].name].clock),
        threads=call.threads,
    )
    kept = [_keep(call, made) for made in found]
    return 0 if all(kept) else EXIT_INVALID


def _look_into(call: _Call, model: PlanModel) -> Network:
    with call.progress.step(f"{call.real.name}: {model.name}"):
        return choose.look_into(call.bench_of, call.real, model)


def _count_up(
    call: _Call,
    device: Device,
    networks: Sequence[Network],
    take_one: Callable[[Network], tuple[_Taken, str]],
) -> dict[str, _Taken]:
    """Take the networks on a device one after the other, and say what came of each, a line each."""
    found: dict[str, _Taken] = {}
    started_s = time.monotonic()
    for number, network in enumerate(networks, 1):
        left = ""
        if found:
            left_s = (time.monotonic() - started_s) / len(found) * (len(networks) - len(found))
            left = f", about {format_duration(left_s, 2)} left" if left_s >= 1 else ""
        at = f"{number} of {len(networks)}"
        with call.progress.step(f"{device.name}: {network.name}, {at}{left}"):
            found[network.name], told = take_one(network)
        _say(f"{device.name}  {at}  {network.name}: {told}")
    return found


def _take(call: _Call, network: Network) -> tuple[Timed, str]:
    timed = take.take_real(call.bench_of, call.real, network, call.pieces)
    if timed.problems:
        first, *others = timed.problems
        more = f", and {len(others)} more" if others else ""
        return timed, f"INVALID  {take.say(first)}{more}"
    return timed, _with_note(f"{timed.board_ms:.4g} ms", timed.note)


def _count(call: _Call, network: Network) -> tuple[Counted, str]:
    counted = take.take_emulated(call.bench_of, call.emulated, network, call.pieces)
    millions = counted.features.instructions / 1e6
    return counted, _with_note(
        f"{counted.virtual_ms:.4g} virtual ms, {millions:.3g} million instructions", counted.note
    )


def _with_note(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text


def _is_invalid(call: _Call, taken: Mapping[str, Timed]) -> bool:
    """Return whether a time on the real board doesn't count, and say which and what to do."""
    disturbed = {name: one for name, one in taken.items() if one.problems}
    problems = [(name, problem) for name, one in disturbed.items() for problem in one.problems]
    lines = [f"  {name}: {take.say(problem)}" for name, problem in problems]
    remedies = dict.fromkeys(problem.remedy for _, problem in problems)
    if not disturbed:
        lines = [f"  {line}" for line in take.moved_between(taken)]
        remedies = {take.CLOCK_REMEDY: None}
    if not lines:
        return False
    _say(f"{call.real.name}: INVALID  no calibration is kept:")
    for line in [*lines, *(f"  {remedy}" for remedy in remedies if remedy)]:
        _say(line)
    if sound := len(taken) - len(disturbed):
        _say(f"{sound} of {len(taken)} times are sound and kept in {call.pieces.path}.")
        _say("The same command again takes what is missing.")
    return True


def _unlike(call: _Call) -> list[str]:
    """Return a warning where the real board isn't of the emulated one's type: estimates will be of it."""
    wanted, got = call.emulated.type.name, call.real.type.name
    if wanted == got:
        return []
    return [
        f"{call.real.name} is of type {got}, not {wanted}: estimates of {wanted} will be of a board like "
        f"{call.real.name} ({identity.describe_processor(call.bench_of.facts(call.real))})."
    ]


def _keep(call: _Call, found: Calibration) -> bool:
    """Keep a calibration and say what it is good for; return False where a better one stays in its place."""
    from harness.estimate import calibration

    ((precision, threads),) = found.settings()
    path = own_path(call.reports, found.device_type, found.runtime, precision, threads)
    had, replaced = _what_was_there(path)
    for line in conclude.describe(found):
        _say(line)
    if had is not None and conclude.is_too_wide(found) and not conclude.is_too_wide(had):
        _say(f"{path}: stays as it is, {had.name} of {had.taken_on}, which is of use:")
        for line in conclude.describe(had):
            _say(f"  {line}")
        _say("Remove that file and give the same command again to have this one all the same.")
        return False
    calibration.save(path, found, then=elsewhere(path.parent))
    calibration.load(path)  # as an estimate will
    _say(f"Kept in {path}{replaced}.")
    use = "use it where no other's band is narrower" if conclude.is_too_wide(found) else "use it from now on"
    _say(f"Estimates of {found.device_type} with {found.runtime} {use}, as in:")
    _say(f"  pytest suites/ --device {call.emulated.name}")
    if not call.counts:
        _say(f'They are by one factor of the clock until types.{found.device_type}.estimate = "{COUNTS}".')
    return True


def _what_was_there(path: Path) -> tuple[Calibration | None, str]:
    """Return the calibration that is there, and how it is told that another takes its place."""
    from harness.estimate import calibration

    if not path.exists():
        return None, ""
    try:
        had = calibration.load(path)
    except ConfigError as why:
        return None, f", in place of one that could not be read ({why.problems[0]})"
    return had, f", in place of {had.name} of {had.taken_on}"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()  # a fit takes minutes: a log is read meanwhile


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _emulated(args: argparse.Namespace) -> Device:
    """Return the first emulated unit that NAME means. Raises ConfigError where there is none."""
    registry = load_registry(args)
    units = registries.select(registry, args.name)
    chosen = next((d for d in units if d.qemu is not None), None)
    if chosen is None:
        # a type whose units are real: its emulated ones go by their own names
        kin = (d for d in registry.devices.values() if d.type == units[0].type and d.qemu is not None)
        chosen = next(kin, units[0])
    return chosen


def _models(args: argparse.Namespace) -> tuple[Plan, list[PlanModel]]:
    path, plan = find_plan(args)
    if not args.model and not plan.models:
        raise ConfigError(
            f"{path} names no models." if path.is_file() else f"there is no {path} to take networks from.",
            where="--model",
            next_step="Give files: --model FILE, once for each.",
        )
    chosen = select_models(plan, args.model, args.runtime, args.runtime_option)
    selection.require_usable(chosen, plan.runtimes)
    return plan, chosen
