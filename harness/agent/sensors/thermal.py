"""Thermal zones.

Format: kernel, Documentation/driver-api/thermal/sysfs-api.rst: `temp` in thousandths of a degree, `type`
the zone's name. A zone whose driver is off answers EINVAL or EAGAIN.
"""

from __future__ import annotations

import os
from typing import List

from .sensor import Sensor, folders, in_file, is_file, text_or

FILES = tuple(
    "/sys/class/thermal/thermal_zone*/" + name
    for name in ("type", "temp", "mode", "trip_point_*_temp", "trip_point_*_type", "trip_point_*_hyst")
)


def find(root: str = "") -> List[Sensor]:
    """Return the temperature of every zone."""
    found = []
    for folder in folders(root, "/sys/class/thermal/thermal_zone*"):
        if is_file(folder + "/temp"):
            site = text_or(folder + "/type", os.path.basename(folder))
            found.append(in_file(root, folder + "/temp", "thermal", "zone", site, "temp_c", 1e-3))
    return found
