"""Energy counters of powercap zones (RAPL).

Format: kernel, Documentation/power/powercap/powercap.rst: `energy_uj` counts microjoules up to
`max_energy_range_uj` and begins again at 0. Since Linux 5.10 only root may read it.
"""

from __future__ import annotations

import os
from typing import Any, Callable, List

from ..parsing import Unreadable, parse_integer, read_text
from .sensor import Sensor, folders, is_file, shown, text_or

FILES = tuple("/sys/class/powercap/*/" + name for name in ("name", "energy_uj", "max_energy_range_uj"))

# Linux, drivers/powercap/intel_rapl_common.c: names of the domains; a package's is package-0, package-1 …
_BOUNDARIES = {"core": "cores", "uncore": "uncore", "dram": "memory", "psys": "platform"}


def find(root: str = "") -> List[Sensor]:
    """Return the counter of every zone. A counter that wrapped goes on from where it was."""
    found = []
    for folder in folders(root, "/sys/class/powercap/*"):
        path = folder + "/energy_uj"
        if not is_file(path):
            continue
        zone = os.path.basename(folder)
        site = text_or(folder + "/name", zone)
        boundary = _BOUNDARIES.get(site, "package" if site.startswith("package") else "rail")
        read = _unwrapped(path, folder + "/max_energy_range_uj")
        found.append(Sensor("powercap", zone, site, "energy_j", shown(root, path), read, boundary))
    return found


def _unwrapped(path: str, range_path: str) -> Callable[[], float]:
    last: Any = None
    turns = 0

    def read() -> float:
        nonlocal last, turns
        now = parse_integer(read_text(path), path)
        if last is not None and now < last:
            span = parse_integer(read_text(range_path), range_path)
            if span < last:
                raise Unreadable("%s: went from %d back to %d, and its range is %d" % (path, last, now, span))
            turns += span
        last = now
        return (now + turns) * 1e-6

    return read
