"""Batteries.

Format: kernel, Documentation/ABI/testing/sysfs-class-power: microvolts, microamperes, microwatts, tenths of
a degree. Supplies of type USB and Mains are left out: drivers such as tcpm show there what was negotiated,
not what flows.
"""

from __future__ import annotations

import os
from typing import Callable, List

from ..parsing import Unreadable, parse_integer, read_text
from .sensor import Sensor, folders, in_file, is_file, shown, text_or

FILES = tuple(
    "/sys/class/power_supply/*/" + name
    for name in ("type", "status", "voltage_now", "current_now", "power_now", "temp")
)


def find(root: str = "") -> List[Sensor]:
    """Return voltage, current, power and temperature of every battery."""
    found: List[Sensor] = []
    for folder in folders(root, "/sys/class/power_supply/*"):
        if text_or(folder + "/type", "") != "Battery":
            continue
        name = os.path.basename(folder)
        for file, kind, scale in (
            ("voltage_now", "voltage_v", 1e-6),
            ("current_now", "current_a", 1e-6),
            ("temp", "temp_c", 0.1),
        ):
            if is_file("%s/%s" % (folder, file)):
                boundary = "battery" if kind == "current_a" else ""
                path = "%s/%s" % (folder, file)
                found.append(in_file(root, path, "battery", name, name, kind, scale, boundary=boundary))
        source = "power_now" if is_file(folder + "/power_now") else "current_now"
        if is_file("%s/%s" % (folder, source)):
            path = shown(root, "%s/%s" % (folder, source))
            found.append(Sensor("battery", name, name, "power_w", path, _power(folder, source), "battery"))
    return found


def _power(folder: str, source: str) -> Callable[[], float]:
    """Return a reading of what the board takes out of the battery, in watts."""

    def number(file: str) -> int:
        path = "%s/%s" % (folder, file)
        return parse_integer(read_text(path), path)

    def read() -> float:
        # drivers disagree on the sign of a discharge, so the status says which way it flows
        status = text_or(folder + "/status", "Unknown")
        if status != "Discharging":
            what = "%s: is %s; it shows what the board draws only while it discharges"
            raise Unreadable(what % (folder, status))
        if source == "power_now":
            return abs(number("power_now")) * 1e-6
        return abs(number("voltage_now") * number("current_now")) * 1e-12

    return read
