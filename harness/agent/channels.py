"""The channels that this device shows of itself: the sensors of `sensors/` by id, and one reading of each."""

from __future__ import annotations

import math
import time
from typing import Any, Dict, List, Sequence, Tuple

from .faults import Fault
from .parsing import Unreadable
from .sensors import Sensor, find_sensors, split_readable


class Channels:
    """The device's sensors by id. They are looked for once, and again when an unknown one is asked for.

    `i2c` declares chips without a driver (sensors/i2c_ina.py). `root` stands in front of every path, so
    captures of other boards can be read.
    """

    def __init__(self, root: str = "", i2c: Sequence[Dict[str, Any]] = ()) -> None:
        self.root = root
        self.i2c = list(i2c)
        self._found: Dict[str, Sensor] = {}

    def look(self) -> Dict[str, Any]:
        """Return the sensors that answer now, sorted by id, and why the others don't."""
        found = find_sensors(self.root, self.i2c)
        answering, silent = split_readable(found)
        self._found = {sensor.id: sensor for sensor in found}
        told = [sensor.describe() for sensor in sorted(answering, key=lambda s: s.id)]
        return {"channels": told, "silent": silent}

    def get(self, ids: Sequence[str]) -> List[Sensor]:
        """Return the sensors of these ids, in their order. Raises `unsupported`, listing those there are."""
        if any(id_ not in self._found for id_ in ids):
            self._found = {sensor.id: sensor for sensor in find_sensors(self.root, self.i2c)}
        missing = [id_ for id_ in ids if id_ not in self._found]
        if missing:
            known = ", ".join(sorted(self._found)) or "none"
            raise Fault("unsupported", "no sensor `%s` here; there are: %s" % (missing[0], known))
        return [self._found[id_] for id_ in ids]


def read(sensor: Sensor) -> Tuple[int, float, str]:
    """Return when a reading was taken (CLOCK_MONOTONIC, its middle), its value, and "" or why it failed.

    The value of one that failed is NaN.
    """
    begin = time.monotonic_ns()
    try:
        value, why = float(sensor.read()), ""
    except (Unreadable, OSError, ValueError) as error:
        value, why = math.nan, str(error)
    if not why and not math.isfinite(value):
        value, why = math.nan, "%s is no number" % value
    return (begin + time.monotonic_ns()) // 2, value, why
