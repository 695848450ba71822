"""Entry point of the `harness` command. Errors of the user's become one message and an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from harness.cli.console import EXIT_USAGE, exit_code_of, never_fail_on_a_character
from harness.errors import EXIT_INFRA, HarnessError

EXIT_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    # here, where an interrupt is told in a word: they take a moment
    from harness.cli import baseline, cache, compare, deploy, devices, gate, init, report, soak

    parser = argparse.ArgumentParser(
        prog="harness",
        description="Hardware-in-the-loop benchmarks of models: devices, what is deployed on them, stored\n"
        "sessions and their release verdict. Measuring itself is `pytest suites/ --device NAME`.",
        epilog="docs/errors.md lists every error and exit code.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"harness {metadata.version('hil-harness')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (init, devices, deploy, baseline, gate, compare, report, soak, cache):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    never_fail_on_a_character()
    try:
        parser = build_parser()
        if not (sys.argv[1:] if argv is None else argv):
            parser.print_help(sys.stderr)
            return EXIT_USAGE
        args = parser.parse_args(argv)
        return int(args.function(args))
    except KeyboardInterrupt:
        sys.stderr.write("harness: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        # a folder or file of the user's that nothing further in expected to fail: say which, at least
        sys.stderr.write(
            f"harness: {error.filename}: {error.strerror or error}. Check its path and rights.\n"
        )
        return EXIT_INFRA
    except HarnessError as error:
        sys.stderr.write(f"harness: {error}\n")
        return exit_code_of(error)


if __name__ == "__main__":
    sys.exit(main())
