"""IIO devices: voltage, current, power, temperature and energy of ADCs and monitors.

Format: kernel, Documentation/ABI/testing/sysfs-bus-iio: (raw + offset) · scale, or an `_input` that is
scaled already, in millivolts, milliamperes, milliwatts, thousandths of a degree, joules. Scale and offset
may belong to a channel or to all of its kind.
"""

from __future__ import annotations

import os
import re
from typing import Callable, Dict, List, Tuple

from ..parsing import Unreadable, read_text
from .sensor import Sensor, folders, is_file, shown, text_or

FILES = tuple(
    "/sys/bus/iio/devices/iio:device*/" + name
    for name in (
        "name",
        "label",
        "in_voltage*",
        "in_current*",
        "in_power*",
        "in_temp*",
        "in_energy*",
    )
)

_KINDS: Dict[str, Tuple[str, float]] = {
    "voltage": ("voltage_v", 1e-3),
    "current": ("current_a", 1e-3),
    "power": ("power_w", 1e-3),
    "temp": ("temp_c", 1e-3),
    "energy": ("energy_j", 1.0),
}
_VALUE = re.compile(r"in_((voltage|current|power|temp|energy)(\d*)[\w-]*?)_(raw|input)$")


def parse_number(path: str) -> float:
    """Return the decimal number that a file holds. Raises Unreadable."""
    text = read_text(path)
    try:
        return float(text)
    except ValueError:
        raise Unreadable("%s: %r is not a number" % (path, text[:40])) from None


def find(root: str = "") -> List[Sensor]:
    """Return the sensors of every device."""
    found: List[Sensor] = []
    for folder in folders(root, "/sys/bus/iio/devices/iio:device*"):
        device = text_or(folder + "/label", text_or(folder + "/name", os.path.basename(folder)))
        for path in folders(folder, "/in_*"):
            match = _VALUE.match(os.path.basename(path))
            if not match or not is_file(path):
                continue
            channel, what, _, form = match.groups()
            if form == "raw" and is_file(path[: -len("raw")] + "input"):
                continue
            kind, scale = _KINDS[what]
            site = text_or("%s/in_%s_label" % (folder, channel), channel)
            boundary = "rail" if kind in ("power_w", "current_a", "energy_j") else ""
            read = _reading(folder, path, channel, what, scale)
            found.append(Sensor("iio", device, site, kind, shown(root, path), read, boundary))
    return found


def _reading(folder: str, path: str, channel: str, what: str, scale: float) -> Callable[[], float]:
    if path.endswith("_input"):
        return lambda: parse_number(path) * scale

    def attribute(name: str) -> str:
        for stem in (channel, what):
            candidate = "%s/in_%s_%s" % (folder, stem, name)
            if is_file(candidate):
                return candidate
        return ""

    factor, offset = attribute("scale"), attribute("offset")

    def read() -> float:
        # without a scale the number is the ADC's own code, no voltage
        if not factor:
            raise Unreadable("%s: its channel has no scale" % path)
        shift = parse_number(offset) if offset else 0.0
        return (parse_number(path) + shift) * parse_number(factor) * scale

    return read
