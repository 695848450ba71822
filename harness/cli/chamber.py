"""`harness devices chamber`: a command at each of several temperatures of a climatic chamber."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from harness import instruments
from harness.cli.options import select_one
from harness.errors import EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_INFRA, EXIT_INVALID, ConfigError
from harness.instruments.base import Context
from harness.instruments.chamber import Chamber
from harness.model import Device, InstrumentSpec

VARIABLE = "HARNESS_CHAMBER_TEMP_C"
# which of several exit codes decides, as in a session (docs/errors.md)
PRECEDENCE = (3, 2, 4, EXIT_FAIL, EXIT_INFRA, EXIT_INVALID, EXIT_INCONCLUSIVE)

DESCRIPTION = f"""Set the chamber that a device stands in to each temperature, wait until its air holds, run
a command, and go on:

    harness devices chamber --at=-20 --at=60 rpi4-01 -- pytest suites/ --device rpi4-01

The command finds the temperature in ${VARIABLE}. At the end, also of a failure, the
chamber goes to its `rest_temp`. The exit code is the worst of the commands'."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at",
        type=float,
        action="append",
        required=True,
        metavar="TEMP",
        help="degrees Celsius; may come several times, they are gone through in this order",
    )
    parser.add_argument("--chamber", metavar="NAME", help="(default: its only one)")
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run at each")


def run(args: argparse.Namespace) -> int:
    """Run the command at each temperature; return the exit code that decides."""
    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    device = select_one(args, args.name)
    spec = find_chamber(device, args.chamber)
    if not argv:
        raise ConfigError("no command was given; it comes after `--`.", where="harness devices chamber")
    chamber = instruments.open_instrument(spec, Context())
    try:
        assert isinstance(chamber, Chamber), "find_chamber returns specs of that kind"
        runs = chamber.run_at(args.at, lambda temp_c: _run_command(argv, temp_c))
    finally:
        chamber.close()
    for done in runs:
        sys.stdout.write(
            f"{done.asked_temp_c:g} °C: exit code {done.result}; "
            f"air {done.before_temp_c:.1f} °C before, {done.after_temp_c:.1f} °C after\n"
        )
    return decisive([done.result for done in runs])


def find_chamber(device: Device, name: str | None) -> InstrumentSpec:
    """Return the device's chamber. Raises ConfigError where it has none, or several and `name` says none of
    them."""
    found = {spec.name: spec for spec in device.instruments if spec.kind == "chamber"}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        return found[str(name)]
    there = ", ".join(found) or "none"
    what = (
        "it has several chambers"
        if name is None and found
        else f"it has no chamber{f' `{name}`' if name else ''}"
    )
    raise ConfigError(
        f"{what}; there are: {there}.",
        where=device.where or device.name,
        next_step="Name one by --chamber, or declare one: docs/instruments.md.",
    )


def _run_command(argv: list[str], temp_c: float) -> int:
    """Return the command's exit code; 128 + signal where one ended it."""
    sys.stdout.write(f"{temp_c:g} °C: {' '.join(argv)}\n")
    sys.stdout.flush()
    try:
        code = subprocess.run(argv, env={**os.environ, VARIABLE: f"{temp_c:g}"}, check=False).returncode
    except OSError as error:
        raise ConfigError(f"can't be run: {error.strerror}.", where=argv[0]) from error
    return code if code >= 0 else 128 - code


def decisive(codes: list[int]) -> int:
    """Return the exit code that decides: the first of the documented order, then any other, then 0."""
    for code in PRECEDENCE:
        if code in codes:
            return code
    return max(codes, default=0)
