"""`harness devices capture`: what a board's sensors show, as a folder that tests read like the board."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import board as boards
from harness import connect, leases
from harness.agent import sensors
from harness.agent.sensors.commands import capture_path
from harness.cli.options import select_one
from harness.connect.base import Connection
from harness.errors import ConfigError, DataError, Unsupported
from harness.model import Device
from harness.progress import Progress
from harness.units import counted

TIMEOUT_S = 60.0
_SCRIPT = Path(sensors.__file__).with_name("capture.py")
MARK = "capture.toml"

DESCRIPTION = """Copy the files of a device's sensors (power, temperature, clocks, throttle bits) as they are
now into a folder, laid out as on the device: tests read it as they would read the board. Nothing else is
copied: no serial number, no addresses. Says which channels the harness finds in it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="(default: captures/NAME); must not exist")


def run(args: argparse.Namespace) -> int:
    """Make the capture; print where it is and the channels in it."""
    device = select_one(args, args.name)
    target: Path = args.out or Path("captures") / device.name
    if target.exists():
        raise ConfigError("exists already; a capture is not written over.", where=str(target))
    with leases.lease(device, purpose="harness devices capture"):
        connection = connect.open_connection(
            device, profile=boards.profile_for(device, boards.FUNCTIONAL), progress=Progress(sys.stderr).share
        )
        try:
            found = read_files(connection, device)
        finally:
            connection.close()
    if not found["files"] and not found["commands"]:
        raise Unsupported(
            "shows none of the files that sensors have.",
            where=device.name,
            next_step="Run it as a user who may read /sys, and load its sensors' drivers.",
        )
    write_capture(target, found, datetime.date.today())
    for sensor in sensors.find_sensors(str(target)):
        sys.stdout.write(f"{sensor.id}\n")
    silent = len(found["unreadable"])
    sys.stdout.write(
        f"{device.name}: {counted(len(found['files']), 'file')} in {target}"
        f"{f'; {silent} could not be read, see {MARK}' if silent else ''}\n"
    )
    return 0


def read_files(connection: Connection, device: Device, root: str = "") -> dict[str, Any]:
    """Return what agent/sensors/capture.py printed on the device. Raises DataError for anything else."""
    asked = json.dumps({"root": root, "files": sensors.FILES, "commands": sensors.COMMANDS})
    argv = [device.type.python, "-I", "-S", "-", asked]
    done = connection.run(argv, timeout_s=TIMEOUT_S, stdin=_SCRIPT.read_bytes())
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise DataError(f"printed {done.stdout[:80]!r}, expected JSON.", where=device.name) from None
    return found


def write_capture(target: Path, found: Mapping[str, Any], day: datetime.date) -> None:
    """Write the folder, whole or not at all visible under its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    texts = {path.lstrip("/"): text for path, text in found["files"].items()}
    texts |= {capture_path(name.split()).lstrip("/"): text for name, text in found["commands"].items()}
    texts[MARK] = _describe(found, day)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        made = Path(folder) / "capture"
        for name, text in texts.items():
            path = (made / name).resolve()
            if not path.is_relative_to(made.resolve()):
                raise DataError(f"the device names a file outside of the capture: {name!r}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        made.rename(target)


def _describe(found: Mapping[str, Any], day: datetime.date) -> str:
    """Return capture.toml."""
    about = found["about"]
    lines = [
        "# What the board's sensors showed, laid out as on the board (docs/instruments.md).",
        f"board = {json.dumps(about['model'] or 'unknown')}",
        f'origin = "captured {day.isoformat()}"',
        f"kernel = {json.dumps(about['kernel'])}",
        "",
        "# what could not be read, and why",
        "[unreadable]",
        *(f"{json.dumps(path)} = {json.dumps(why)}" for path, why in sorted(found["unreadable"].items())),
    ]
    return "\n".join(lines) + "\n"
