"""Calibrations on disk, with the unit they were taken on: reports/units/DEVICE/calibration.json.

The newest replaces the one before. What it says is measured by `measure.calibrate` and shown by the report.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import StoredRunError
from harness.model import Calibration
from harness.store import codec, write_bytes
from harness.store.atomic import checked_name, is_safe_name, make_folder

SCHEMA_VERSION = 1
FOLDER = "units"
FILE = "calibration.json"


def calibration_path(reports_dir: Path, device_name: str) -> Path:
    """Return where a unit's calibration is kept. Raises ConfigError for a name that is no file's."""
    return reports_dir / FOLDER / checked_name(device_name, what="the device's name") / FILE


def save_calibration(reports_dir: Path, calibration: Calibration) -> Path:
    """Keep a unit's calibration in place of the one before; return its file."""
    path = calibration_path(reports_dir, calibration.device)
    make_folder(path.parent)
    plain = {"schema_version": SCHEMA_VERSION, "calibration": codec.to_plain(calibration)}
    write_bytes(path, codec.dump_json(plain))
    return path


def load_calibrations(reports_dir: Path, device_names: Iterable[str]) -> tuple[Calibration, ...]:
    """Return the calibrations of those units that have one, in their order.

    Raises StoredRunError where one can't be read.
    """
    found = []
    for name in device_names:
        if not is_safe_name(name):
            continue  # no file can bear it
        path = calibration_path(reports_dir, name)
        if path.is_file():
            found.append(_read(path, name))
    return tuple(found)


def _read(path: Path, name: str) -> Calibration:
    remedy = f"Take it again: harness devices calibrate {name}."
    plain = codec.load_json(path.read_bytes(), where=str(path))
    version = plain.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoredRunError(
            f"its schema_version is {version!r}, expected {SCHEMA_VERSION}.",
            where=str(path),
            next_step=remedy,
        )
    calibration = codec.from_plain(Calibration, plain.get("calibration"), where=str(path))
    if calibration.device != name:
        raise StoredRunError(
            f"it is of `{calibration.device}`, expected `{name}`.", where=str(path), next_step=remedy
        )
    return calibration
