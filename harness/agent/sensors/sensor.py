"""One channel of this device: what it shows, and how it is read. Every family of sensors makes these."""

from __future__ import annotations

import glob
import os
import re
from typing import Any, Callable, Dict, List, Optional

from ..parsing import Unreadable, parse_integer, read_text

# kinds, with the unit at the end of the name; the same words as harness.model.ChannelKind
UNITS = {
    "power_w": "W",
    "voltage_v": "V",
    "current_a": "A",
    "energy_j": "J",
    "temp_c": "°C",
    "freq_hz": "Hz",
    "throttle_bits": "1",
    "load_ratio": "ratio",
    "fan_rpm": "rpm",
}


class Sensor:
    """A channel. `read` returns a float in the unit of `kind`; it raises Unreadable with the reason.

    `boundary` says what of the board is inside a power; `rate_hz` is the highest that it gives, None where
    nothing says so; `uncertainty_ratio` and `uncertainty_abs` are those of its maker, None where none are
    stated.
    """

    def __init__(
        self,
        family: str,
        device: str,
        site: str,
        kind: str,
        source: str,
        read: Callable[[], float],
        boundary: str = "",
        rate_hz: Optional[float] = None,
        uncertainty_ratio: Optional[float] = None,
        uncertainty_abs: Optional[float] = None,
    ) -> None:
        self.id = "/".join(_name(part) for part in (family, device, site, kind))
        self.device = device
        self.site = site
        self.kind = kind
        self.source = source
        self.read = read
        self.boundary = boundary
        self.rate_hz = rate_hz
        self.uncertainty_ratio = uncertainty_ratio
        self.uncertainty_abs = uncertainty_abs

    @property
    def unit(self) -> str:
        return UNITS[self.kind]

    def describe(self) -> Dict[str, Any]:
        """Return what the host needs to know of it, as JSON takes it."""
        return {
            "id": self.id,
            "site": self.site,
            "kind": self.kind,
            "unit": self.unit,
            "source": self.source,
            "boundary": self.boundary,
            "rate_hz": self.rate_hz,
            "uncertainty_ratio": self.uncertainty_ratio,
            "uncertainty_abs": self.uncertainty_abs,
        }


def _name(text: str) -> str:
    """Return `text` as a part of an id: no separator, no blank."""
    return re.sub(r"[\s/]+", "_", text.strip()) or "_"


def folders(root: str, pattern: str) -> List[str]:
    """Return the folders that match under `root`, in the order of the numbers in their names."""
    return sorted(glob.glob(root + pattern), key=_natural)


def _natural(path: str) -> List[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def shown(root: str, path: str) -> str:
    """Return a path as it is on the device, without the root that captures are read under."""
    return path[len(root) :] if root and path.startswith(root) else path


def text_or(path: str, default: str) -> str:
    """Return a file's text, or `default` where it can't be read or is empty."""
    try:
        return read_text(path) or default
    except Unreadable:
        return default


def scaled(path: str, scale: float) -> Callable[[], float]:
    """Return a reading of a file that holds one whole number, times `scale`."""

    def read() -> float:
        return parse_integer(read_text(path), path) * scale

    return read


def in_file(
    root: str, path: str, family: str, device: str, site: str, kind: str, scale: float, **more: Any
) -> Sensor:
    """Return the sensor whose value is one whole number in a file, times `scale`."""
    return Sensor(family, device, site, kind, shown(root, path), scaled(path, scale), **more)


def is_file(path: str) -> bool:
    return os.path.isfile(path)
