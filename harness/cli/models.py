"""Which models a command is about, and under which runtime: picked as `pytest suites/` picks them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harness import model_files, selection
from harness import plan as plans
from harness.cli.options import reports_dir
from harness.model import Plan, PlanModel
from harness.runtimes.options import parse_option


def add_runtime_option(parser: argparse.ArgumentParser) -> None:
    """Add --runtime-option, as the suites have it."""
    parser.add_argument(
        "--runtime-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the runtime, instead of the plan's (repeatable)",
    )


def find_plan(args: argparse.Namespace) -> tuple[Path, Plan]:
    """Return where the plan is looked for, beside the devices.toml, and what it says: nothing without one."""
    path = reports_dir(args).parent / "suites" / "release.toml"
    return path, plans.load_plan(path) if path.is_file() else Plan(None)


def select_models(
    plan: Plan, given: Sequence[str], runtimes: Sequence[str], options: Sequence[str]
) -> list[PlanModel]:
    """Return the models that --model, --runtime and --runtime-option mean, as typed. Raises ConfigError."""
    wanted = [model_files.parse_runtime(text) for text in runtimes]
    typed = dict(parse_option(text) for text in options)
    return list(selection.select_models(plan, given, wanted, {}, typed))
