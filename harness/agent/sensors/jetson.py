"""NVIDIA Jetson: power of the INA3221's rails, load of the GPU.

Formats: kernel, Documentation/hwmon/ina3221.rst: inN_label, inN_input (mV), currN_input (mA) for N of 1 to
3; the product is the rail's power. NVIDIA Jetson Linux Developer Guide, "Jetson module power monitor":
which rails a module has; on L4T 32 the driver was an IIO device (ina3221x) with rail_name_N and
in_powerN_input in milliwatts. The GPU's `load` is in thousandths (drivers/gpu/nvgpu of Jetson Linux;
tegrastats shows the same as GR3D_FREQ).
"""

from __future__ import annotations

import os
from typing import Callable, List

from ..parsing import Unreadable, parse_integer, read_text
from .sensor import Sensor, folders, in_file, is_file, shown, text_or

GPU_LOADS = (
    "/sys/devices/gpu.0/load",
    "/sys/devices/platform/gpu.0/load",
    "/sys/devices/platform/*.gpu/load",
    "/sys/devices/platform/bus@0/*.gpu/load",
)
_OLD = "/sys/bus/i2c/drivers/ina3221x/*/iio:device*"
FILES = GPU_LOADS + tuple("%s/%s" % (_OLD, name) for name in ("rail_name_*", "in_power*_input"))

# the module's supply, all its rails behind it (NVIDIA: "total power consumption of the module")
_INPUTS = ("VDD_IN", "POM_5V_IN", "VDD_SYS_IN")


def find(root: str = "") -> List[Sensor]:
    """Return the power of every rail and the GPU's load."""
    return _rails(root) + _old_rails(root) + _gpu(root)


def _boundary(rail: str) -> str:
    return "module" if rail in _INPUTS else "rail"


def _rails(root: str) -> List[Sensor]:
    found = []
    for folder in folders(root, "/sys/class/hwmon/hwmon*"):
        chip = text_or(folder + "/name", "")
        if not chip.startswith("ina3221"):
            continue
        for number in (1, 2, 3):
            volts, amperes = "%s/in%d_input" % (folder, number), "%s/curr%d_input" % (folder, number)
            if is_file(volts) and is_file(amperes):
                rail = text_or("%s/in%d_label" % (folder, number), "rail%d" % number)
                source = "%s × %s" % (shown(root, volts), os.path.basename(amperes))
                read = _product(volts, amperes, "%s/in%d_enable" % (folder, number))
                found.append(Sensor("jetson", chip, rail, "power_w", source, read, _boundary(rail)))
    return found


def _product(volts: str, amperes: str, enable: str) -> Callable[[], float]:
    switched = is_file(enable)

    def read() -> float:
        if switched and parse_integer(read_text(enable), enable) == 0:
            raise Unreadable("%s: it is switched off (%s is 0)" % (volts, os.path.basename(enable)))
        return parse_integer(read_text(volts), volts) * parse_integer(read_text(amperes), amperes) * 1e-6

    return read


def _old_rails(root: str) -> List[Sensor]:
    found = []
    for folder in folders(root, _OLD):
        for path in folders(folder, "/in_power*_input"):
            number = os.path.basename(path)[len("in_power") : -len("_input")]
            rail = text_or("%s/rail_name_%s" % (folder, number), "rail" + number)
            boundary = _boundary(rail)
            found.append(in_file(root, path, "jetson", "ina3221x", rail, "power_w", 1e-3, boundary=boundary))
    return found


def _gpu(root: str) -> List[Sensor]:
    for pattern in GPU_LOADS:
        for path in folders(root, pattern):
            return [in_file(root, path, "jetson", "gpu", "gpu", "load_ratio", 1e-3)]
    return []
