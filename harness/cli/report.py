"""`harness report`: render a stored session again. Needs no device."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("report", help="render stored sessions again", description=__doc__)
    parser.add_argument("sessions", nargs="+", metavar="SESSION", help="folder of a session")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    from harness.report import write_report

    for session in args.sessions:
        sys.stdout.write(f"{write_report(Path(session)).html}\n")
    return 0
