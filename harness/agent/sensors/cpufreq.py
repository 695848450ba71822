"""Clocks: of CPUs by cpufreq policy, of other engines (GPU, NPU, memory) by devfreq.

Formats: kernel, Documentation/admin-guide/pm/cpufreq.rst: kHz, one policy for CPUs that share a clock;
Documentation/ABI/testing/sysfs-class-devfreq: Hz.
"""

from __future__ import annotations

import os
from typing import List

from .sensor import Sensor, folders, in_file, is_file

FILES = tuple(
    "/sys/devices/system/cpu/cpufreq/policy*/" + name
    for name in ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq", "scaling_governor")
) + tuple("/sys/class/devfreq/*/" + name for name in ("cur_freq", "min_freq", "max_freq", "governor"))


def find(root: str = "") -> List[Sensor]:
    """Return the clock of every policy and of every devfreq device."""
    found = []
    for folder in folders(root, "/sys/devices/system/cpu/cpufreq/policy*"):
        path, policy = folder + "/scaling_cur_freq", os.path.basename(folder)
        if is_file(path):
            found.append(in_file(root, path, "cpufreq", policy, policy, "freq_hz", 1e3))
    for folder in folders(root, "/sys/class/devfreq/*"):
        if is_file(folder + "/cur_freq"):
            engine = os.path.basename(folder)
            found.append(in_file(root, folder + "/cur_freq", "devfreq", engine, engine, "freq_hz", 1.0))
    return found
