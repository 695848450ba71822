"""Every sensor that a board shows, one file a family. All take a `root`: captures are read as boards are."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from ..parsing import Unreadable
from . import battery, cpufreq, hwmon, i2c_ina, iio, jetson, powercap, raspberry, rockchip, thermal
from .sensor import UNITS, Sensor

__all__ = ["COMMANDS", "FAMILIES", "FILES", "UNITS", "Sensor", "Unreadable", "find_sensors", "split_readable"]

_MODULES = (hwmon, iio, thermal, cpufreq, powercap, battery, raspberry, jetson, rockchip)
FAMILIES: Tuple[Callable[[str], List[Sensor]], ...] = tuple(module.find for module in _MODULES)
# what a capture of a board holds
FILES: Tuple[str, ...] = tuple(dict.fromkeys(p for module in (*_MODULES, i2c_ina) for p in module.FILES))
COMMANDS = raspberry.COMMANDS


def find_sensors(root: str = "", i2c: Sequence[Mapping[str, Any]] = ()) -> List[Sensor]:
    """Return the sensors of this device, each with an id of its own; `i2c` declares chips without a driver.

    Ids don't hold the kernel's running numbers, which change from boot to boot, but where two sensors would
    share one: then the second gets `#2`. Nothing is read yet: `split_readable` does.
    """
    found = [sensor for family in FAMILIES for sensor in family(root)]
    found += i2c_ina.find(root, list(i2c))
    seen: Dict[str, int] = {}
    for sensor in found:
        seen[sensor.id] = seen.get(sensor.id, 0) + 1
        if seen[sensor.id] > 1:
            sensor.id += "#%d" % seen[sensor.id]
    return found


def split_readable(sensors: Sequence[Sensor]) -> Tuple[List[Sensor], Dict[str, str]]:
    """Return the sensors that answer now, and why the others don't, by id."""
    answering, silent = [], {}
    for sensor in sensors:
        try:
            sensor.read()
        except Unreadable as why:
            silent[sensor.id] = str(why)
        else:
            answering.append(sensor)
    return answering, silent
