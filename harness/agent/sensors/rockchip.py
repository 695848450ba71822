"""Rockchip: load of the NPU's cores, and of what devfreq scales.

Formats: drivers/rknpu/rknpu_debugger.c of Rockchip's kernel: `NPU load:  Core0: 12%, Core1:  0%, Core2:
0%,`, on chips with one core `NPU load:  12%`, in /sys/kernel/debug/rknpu/load (root) or /proc/rknpu/load;
drivers/devfreq/ devfreq.c of the same kernel: `load` holds `72@800000000Hz`.
"""

from __future__ import annotations

import os
import re
from typing import Callable, Dict, List

from ..parsing import Unreadable, read_text
from .sensor import Sensor, folders, is_file, shown

NPU_LOADS = ("/sys/kernel/debug/rknpu/load", "/proc/rknpu/load")
FILES = (*NPU_LOADS, "/sys/class/devfreq/*/load")

_CORE = re.compile(r"(?:Core(\d+):)?\s*(\d+)%\s*,?\s*")
_DEVFREQ = re.compile(r"(\d+)@(\d+)(?:Hz)?\Z")


def parse_npu_load(text: str) -> Dict[str, float]:
    """Return the load (0 to 1) by core, "npu" where there is only one. Raises Unreadable."""
    head, colon, rest = text.strip().partition(":")
    if head != "NPU load" or not colon:
        raise Unreadable("NPU load: %r, expected `NPU load:  Core0:  0%%,`" % text[:80])
    rest, found = rest.strip(), {}
    while rest:
        match = _CORE.match(rest)
        if not match:
            raise Unreadable("NPU load: %r, expected `NPU load:  Core0:  0%%,`" % text[:80])
        found["core" + match.group(1) if match.group(1) else "npu"] = int(match.group(2)) / 100.0
        rest = rest[match.end() :]
    if not found:
        raise Unreadable("NPU load: no core in %r" % text[:80])
    return found


def parse_devfreq_load(text: str) -> float:
    """Return the load (0 to 1) of `72@800000000Hz`. Raises Unreadable."""
    match = _DEVFREQ.match(text.strip())
    if not match:
        raise Unreadable("devfreq load: %r, expected `72@800000000Hz`" % text[:40])
    return int(match.group(1)) / 100.0


def find(root: str = "") -> List[Sensor]:
    """Return the load of each core of the NPU, and of each devfreq device that shows one."""
    found = _npu(root)
    for folder in folders(root, "/sys/class/devfreq/*"):
        path = folder + "/load"
        if is_file(path):
            engine = os.path.basename(folder)
            read = _devfreq(path)
            found.append(Sensor("rockchip", engine, engine, "load_ratio", shown(root, path), read))
    return found


def _devfreq(path: str) -> Callable[[], float]:
    return lambda: parse_devfreq_load(read_text(path))


def _npu(root: str) -> List[Sensor]:
    for name in NPU_LOADS:
        path = root + name
        try:
            cores = parse_npu_load(read_text(path))
        except Unreadable:
            continue  # not this kernel's place, or only root may look; then the other one may serve
        return [Sensor("rockchip", "npu", core, "load_ratio", name, _npu_core(path, core)) for core in cores]
    return []


def _npu_core(path: str, core: str) -> Callable[[], float]:
    def read() -> float:
        cores = parse_npu_load(read_text(path))
        if core not in cores:
            raise Unreadable("%s: no longer shows %s" % (path, core))
        return cores[core]

    return read
