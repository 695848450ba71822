"""hwmon chips: power, current, voltage, energy, temperature, fans.

Format: kernel, Documentation/hwmon/sysfs-interface.rst: a folder for each chip with its `name`; values are
whole numbers in millivolts, milliamperes, microwatts, microjoules, thousandths of a degree, revolutions per
minute.
"""

from __future__ import annotations

import os
import re
from typing import Callable, Dict, List, Tuple

from ..parsing import Unreadable, parse_integer, read_text
from .sensor import Sensor, folders, is_file, scaled, shown, text_or

FILES = ("/sys/class/hwmon/hwmon*/name",) + tuple(
    "/sys/class/hwmon/hwmon*/%s*_%s" % (what, file)
    for what, files in (
        ("in", ("input", "label", "enable")),
        ("curr", ("input", "label", "enable")),
        ("power", ("input", "average", "label", "enable")),
        ("energy", ("input", "label", "enable")),
        ("temp", ("input", "label", "fault", "enable")),
        ("fan", ("input", "label", "fault", "enable")),
    )
    for file in files
)

_ATTRIBUTES: Dict[str, Tuple[str, float]] = {
    "in": ("voltage_v", 1e-3),
    "curr": ("current_a", 1e-3),
    "power": ("power_w", 1e-6),
    "energy": ("energy_j", 1e-6),
    "temp": ("temp_c", 1e-3),
    "fan": ("fan_rpm", 1.0),
}
_INPUT = re.compile(r"(in|curr|power|energy|temp|fan)(\d+)_(input|average)$")
# kernel, Documentation/hwmon/ina3221.rst: in4 to in6 are shunt voltages and in7 their sum, in microvolts
# where the interface says millivolts; jetson.py has the chip's rails
_INA3221_SHUNTS = ("in4", "in5", "in6", "in7")


def find(root: str = "") -> List[Sensor]:
    """Return the sensors of every chip."""
    found: List[Sensor] = []
    for folder in folders(root, "/sys/class/hwmon/hwmon*"):
        chip = text_or(folder + "/name", os.path.basename(folder))
        found += _of_chip(root, folder, chip)
    return found


def _of_chip(root: str, folder: str, chip: str) -> List[Sensor]:
    found = []
    for path in folders(folder, "/*_*"):
        match = _INPUT.match(os.path.basename(path))
        if not match or not is_file(path):
            continue
        what, number, last = match.groups()
        # a meter of power has an average, a momentary value, or both; then the momentary one serves
        if last == "average" and (what != "power" or is_file(path[: -len("average")] + "input")):
            continue
        if chip.startswith("ina3221") and what + number in _INA3221_SHUNTS:
            continue
        kind, scale = _ATTRIBUTES[what]
        stem = "%s/%s%s" % (folder, what, number)
        site = text_or(stem + "_label", what + number)
        if chip.startswith("ina3221") and what == "curr":  # its currents bear no names; their rails do
            site = text_or("%s/in%s_label" % (folder, number), site) if number in "123" else site
        boundary = "rail" if kind in ("power_w", "current_a", "energy_j") else ""
        read = _reading(stem, path, scale)
        found.append(Sensor("hwmon", chip, site, kind, shown(root, path), read, boundary))
    return found


def _reading(stem: str, path: str, scale: float) -> Callable[[], float]:
    read = scaled(path, scale)
    fault, enable = stem + "_fault", stem + "_enable"
    has_fault, has_enable = is_file(fault), is_file(enable)
    if not has_fault and not has_enable:
        return read

    def checked() -> float:
        if has_enable and parse_integer(read_text(enable), enable) == 0:
            raise Unreadable("%s: it is switched off (%s is 0)" % (path, os.path.basename(enable)))
        if has_fault and parse_integer(read_text(fault), fault) != 0:
            raise Unreadable("%s: its sensor is faulty (%s is not 0)" % (path, os.path.basename(fault)))
        return read()

    return checked
