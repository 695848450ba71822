"""The agent's ways to run: `serve` on the wire, `child` (a measured process), `guard`, `sampler`, `soak`."""

from __future__ import annotations

import sys
from typing import List


def main(argv: List[str], location: str) -> int:
    """Return the exit code. `location` is the folder or archive that a child is started from."""
    if argv == ["child"]:
        from .child import run_child  # the measured process loads as little as it can

        return run_child()
    if argv[:1] == ["guard"] and len(argv) == 2:
        from .guard import run_guard

        return run_guard(argv[1])
    if argv[:1] == ["sampler"] and len(argv) == 2:
        from .sampler import run_sampler

        return run_sampler(argv[1])
    import argparse

    parser = argparse.ArgumentParser(prog="agent")
    modes = parser.add_subparsers(dest="mode", required=True)
    serve = modes.add_parser("serve", help="answer the host on stdin and stdout")
    serve.add_argument("--home", required=True, help="the agent's folder on the device")
    modes.add_parser("child", help="one measured process; started by the parent")
    modes.add_parser("guard", help="undoes settings when the parent has ended; started by it")
    modes.add_parser("sampler", help="reads sensors at a rate; started by the parent")
    soak = modes.add_parser("soak", help="runs a soak until it ends; started by the parent or at boot")
    soak.add_argument("--home", required=True, help="the agent's folder on the device")
    soak.add_argument("--id", required=True, help="which soak")
    options = parser.parse_args(argv)
    if options.mode == "soak":
        from .soak.entry import run_entry

        return run_entry(options.home, options.id, location)
    from .parent import run_parent

    return run_parent(options.home, location)


if __name__ == "__main__":
    import os

    sys.exit(main(sys.argv[1:], os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
