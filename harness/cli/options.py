"""What several subcommands take: descriptions, --devices, numbers with a lower bound."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import registry as registries
from harness.errors import ConfigError
from harness.model import Device
from harness.store.layout import SESSION_FILE

ActionRow = tuple[str, Callable[[argparse.Namespace], int], str, str]
Actions = Iterator[tuple[str, argparse.ArgumentParser]]
DEVICE_HELP = "unit, device type or tag:NAME; the first unit that fits"


def add_command(actions: Any, name: str, help: str, description: str) -> argparse.ArgumentParser:
    """Add a subcommand: `help` for its parent's list, `description` on its own page, as it is laid out."""
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=help, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def add_devices_option(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Add --devices; `again` after an action, where it must not undo what stood before it."""
    parser.add_argument(
        "--devices",
        metavar="FILE",
        default=argparse.SUPPRESS if again else None,
        help="the devices.toml (default: searched from here upwards)",
    )


def add_actions(parser: argparse.ArgumentParser, rows: Sequence[ActionRow], **options: Any) -> Actions:
    """Add the actions of a command, and --devices before and after each; yield (name, its parser).

    A row has name, function, help for the command's list, and the description of its own page. `options` are
    add_subparsers'.
    """
    add_devices_option(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", **options)
    for name, function, text, more in rows:
        action = add_command(actions, name, text, more)
        action.set_defaults(function=function)
        add_devices_option(action, again=True)
        yield name, action


def load_registry(args: argparse.Namespace) -> registries.Registry:
    """Return the registry that --devices names, or the one found from here."""
    return registries.load_registry(registries.find_devices_file(args.devices, Path.cwd()))


def reports_dir(args: argparse.Namespace) -> Path:
    """Return the folder of sessions and baselines: beside the devices.toml that is found, else here."""
    file = registries.find_devices_file(getattr(args, "devices", None), Path.cwd())
    return (Path.cwd() if registries.is_packaged(file) else file.parent) / "reports"


def session_folder(args: argparse.Namespace, text: str) -> Path:
    """Return the folder of the session that `text`, a folder or an id, means. Raises ConfigError."""
    reports = reports_dir(args)
    for path in (Path(text), reports / text):
        if path.is_dir():
            return path
    there = (
        sorted(p.name for p in reports.iterdir() if (p / SESSION_FILE).is_file()) if reports.is_dir() else []
    )
    raise ConfigError(
        f"no session `{text}` here, nor in {reports}.",
        next_step=f"Give its folder or id; the last one is {there[-1]}."
        if there
        else "Measure first: pytest suites/ --device NAME.",
    )


def table_text(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows under their head, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    sys.stdout.write(table_text(head, rows))


def select_one(args: argparse.Namespace, name: str) -> Device:
    """Return the first device that `name` means. Raises UnknownDevice."""
    return registries.select(load_registry(args), name)[0]


def whole_number(low: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number of at least `low`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low}, got {text!r}")
        return int(text)

    return parse


def positive_number(text: str) -> float:
    """Return a number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
