"""`harness report`: render a stored session again. Needs no device."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from harness.cli.options import add_command, session_folder


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "report",
        "render stored sessions again",
        "Render report.html, summary.json, summary.md and junit.xml of stored sessions again, and print\n"
        "each report's path. Needs no device; a session that was interrupted or killed can be rendered too.",
    )
    parser.add_argument(
        "sessions", nargs="+", metavar="SESSION", help="a session's folder (reports/latest) or id"
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    from harness.report import write_report

    for folder in [session_folder(args, text) for text in args.sessions]:
        sys.stdout.write(f"{write_report(folder).html}\n")
    return 0
