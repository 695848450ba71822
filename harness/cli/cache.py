"""`harness cache`: what is kept on this host, and how much; prune it to a cap."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from harness import cache, emulation
from harness.cli.options import add_command, positive_number
from harness.units import format_bytes


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "cache",
        "list or prune cached images and runtimes",
        "List what is kept on this host, least recently used first: images of emulated boards, their saved\n"
        "states, downloads, runtime environments. What is in use is never removed.",
    )
    parser.add_argument(
        "--prune", action="store_true", help="remove the least recently used until the rest fits the cap"
    )
    parser.add_argument(
        "--cap-gib",
        type=positive_number,
        metavar="GIB",
        default=cache.DEFAULT_CAP_BYTES / (1 << 30),
        help="the cap, for images and for runtimes each (default: %(default)g)",
    )
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """List what the cache holds; with --prune, remove what hasn't been used for longest."""
    if args.prune:
        cap_bytes = int(args.cap_gib * (1 << 30))
        for name in (*emulation.prune_cache(cap_bytes), *cache.prune(cap_bytes)):
            sys.stdout.write(f"removed {name}\n")
    rows = [(e.name, e.size_bytes, e.in_use) for e in emulation.cache_entries()]
    rows += [(e.name, e.size_bytes, e.in_use) for e in cache.entries()]
    for name, size_bytes, in_use in rows:
        mark = "  in use" if in_use else ""
        sys.stdout.write(f"{format_bytes(size_bytes):>9}  {name}{mark}\n")
    total = sum(size_bytes for _, size_bytes, _ in rows)
    sys.stdout.write(f"{format_bytes(total):>9}  in all, in {cache.root()}\n")
    return 0
