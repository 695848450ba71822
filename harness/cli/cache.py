"""`harness cache`: what is kept on this host, and how much; prune it to a cap."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from harness import cache
from harness.units import format_bytes

KINDS = ("images", "snapshots", "environments")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "cache", help="list or prune cached images and runtimes", description=__doc__
    )
    parser.add_argument("--prune", action="store_true", help="remove the least recently used beyond the cap")
    parser.add_argument(
        "--cap-gib",
        type=float,
        default=cache.DEFAULT_CAP_BYTES / (1 << 30),
        help="the cap (default: %(default)g)",
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    found = cache.entries(KINDS)
    total = sum(e.size_bytes for e in found)
    for entry in found:
        sys.stdout.write(f"{entry.kind:13} {format_bytes(entry.size_bytes):>9}  {entry.path}\n")
    sys.stdout.write(f"{'total':13} {format_bytes(total):>9}  {cache.root()}\n")
    if args.prune:
        cap = args.cap_gib * (1 << 30)
        for entry in found:
            if total <= cap:
                break
            cache.remove(entry)
            total -= entry.size_bytes
            sys.stdout.write(f"removed {entry.path}\n")
    return 0
