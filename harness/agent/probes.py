"""What the device shows of itself: facts, conditions, and the memory of a process. Reads /proc and /sys only.

`root` stands in front of every path, so captures of other boards can be read. What can't be read is None,
and `not_observable` says why; never 0.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional

_TEXT_BYTES = 1 << 20
_THROTTLED_SYSFS = "/sys/devices/platform/soc/soc:firmware/get_throttled"  # Raspberry Pi kernels
_CPU_FOLDER = re.compile(r".*/(cpu\d+)/")


class Unreadable(Exception):
    """A reading that this device doesn't give; the text says why."""


def read_text(path: str) -> str:
    """Return a small file's text, stripped. Raises Unreadable."""
    try:
        with open(path, "rb") as file:
            return file.read(_TEXT_BYTES).decode("utf-8", "replace").strip("\0 \n")
    except OSError as error:
        raise Unreadable("%s: %s" % (path, error.strerror or error)) from None


def parse_integer(text: str, path: str, base: int = 10) -> int:
    """Return the whole number that a sysfs file holds. Raises Unreadable."""
    try:
        return int(text, base)
    except ValueError:
        raise Unreadable("%s: %r is not a number" % (path, text[:40])) from None


class Probes:
    """Readings of this device; `root` is "" on the device itself."""

    def __init__(self, root: str = "") -> None:
        self._root = root

    def _path(self, path: str) -> str:
        return self._root + path

    def _text(self, path: str) -> str:
        return read_text(self._path(path))

    def _key(self, path: str, key: str) -> str:
        """Return what follows `key:` in a file of such lines."""
        for line in self._text(path).splitlines():
            name, colon, value = line.partition(":")
            if colon and name.strip() == key:
                return value.strip()
        raise Unreadable("%s: has no line `%s`" % (path, key))

    def _kib(self, path: str, key: str) -> int:
        """Return a `key: 123 kB` line in bytes (proc(5): these are KiB)."""
        return parse_integer(self._key(path, key).split(" ")[0], path) * 1024

    def facts(self, home: str) -> Dict[str, Any]:
        """Return what doesn't change while the device is up, and the free room on the disk of `home`."""
        readings: Dict[str, Callable[[], Any]] = {
            "cpu_model": self._cpu_model,
            "cpus": lambda: sorted(os.sched_getaffinity(0)),
            "ram_bytes": lambda: self._kib("/proc/meminfo", "MemTotal"),
            "kernel": lambda: platform.release(),
            "boot_id": lambda: self._text("/proc/sys/kernel/random/boot_id"),
            "uptime_s": lambda: float(self._text("/proc/uptime").split()[0]),
            "serial": self._serial,
            "model": lambda: self._first(["/proc/device-tree/model", "/sys/class/dmi/id/product_name"]),
            "disk_free_bytes": lambda: free_bytes(home),
            "cgroup_v2": lambda: os.path.exists(self._path("/sys/fs/cgroup/cgroup.controllers")),
            "clock": self._clock,
        }
        return self._collect(readings)

    def conditions(self) -> Dict[str, Any]:
        """Return readings as they are now."""
        readings: Dict[str, Callable[[], Any]] = {
            "load1": lambda: float(self._text("/proc/loadavg").split()[0]),
            "psi_cpu_some_avg10": self._psi_cpu,
            "temp_c": self._temperatures,
            "freq_hz": self._frequencies,
            "governor": lambda: self._per_cpu("scaling_governor"),
            "throttled_bits": self._throttled_bits,
            "mem_available_bytes": lambda: self._kib("/proc/meminfo", "MemAvailable"),
            "boot_id": lambda: self._text("/proc/sys/kernel/random/boot_id"),
            "monotonic_ns": time.monotonic_ns,
            "realtime_ns": time.time_ns,
            "raw_ns": lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW),
        }
        return self._collect(readings)

    def _collect(self, readings: Dict[str, Callable[[], Any]]) -> Dict[str, Any]:
        values: Dict[str, Any] = {}
        reasons: Dict[str, str] = {}
        for name, read in readings.items():
            try:
                values[name] = read()
            except (Unreadable, OSError, ValueError, IndexError) as error:
                values[name] = None
                reasons[name] = str(error)
        values["not_observable"] = reasons
        return values

    def _first(self, paths: List[str]) -> str:
        failures = []
        for path in paths:
            try:
                text = self._text(path)
            except Unreadable as error:
                failures.append(str(error))
                continue
            if text:
                return text
            failures.append("%s: empty" % path)
        raise Unreadable("; ".join(failures))

    def _cpu_model(self) -> str:
        for key in ("model name", "Model", "Hardware"):
            try:
                return self._key("/proc/cpuinfo", key)
            except Unreadable:
                continue
        # arm64 kernels give numbers only (Documentation/arch/arm64/cpu-feature-registers.rst)
        implementer = self._key("/proc/cpuinfo", "CPU implementer")
        return "CPU implementer %s part %s" % (implementer, self._key("/proc/cpuinfo", "CPU part"))

    def _serial(self) -> str:
        try:
            return self._first(["/proc/device-tree/serial-number"])
        except Unreadable as absent:
            try:
                return self._key("/proc/cpuinfo", "Serial")
            except Unreadable as error:
                raise Unreadable("%s; %s" % (absent, error)) from None

    def _clock(self) -> Dict[str, Any]:
        source = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        return {
            "name": "CLOCK_MONOTONIC",
            "resolution_ns": int(time.clock_getres(time.CLOCK_MONOTONIC) * 1e9),
            "source": self._text(source),
        }

    def _psi_cpu(self) -> float:
        text = self._text("/proc/pressure/cpu")
        found = re.search(r"^some avg10=([0-9.]+)", text)
        if not found:
            raise Unreadable("/proc/pressure/cpu: no `some avg10=` in %r" % text[:80])
        return float(found.group(1))

    def _temperatures(self) -> Dict[str, float]:
        """Return degrees C by zone (kernel: thermal/sysfs-api, hwmon/sysfs-interface; both millidegrees)."""
        found: Dict[str, float] = {}
        for path in sorted(glob.glob(self._path("/sys/class/thermal/thermal_zone*/temp"))):
            folder = os.path.dirname(path)
            name = "%s:%s" % (os.path.basename(folder), _text_or(folder + "/type", "?"))
            self._add_temperature(found, name, path)
        for path in sorted(glob.glob(self._path("/sys/class/hwmon/hwmon*/temp*_input"))):
            folder = os.path.dirname(path)
            site = _text_or(path[: -len("_input")] + "_label", os.path.basename(path)[: -len("_input")])
            chip = _text_or(folder + "/name", "?")
            self._add_temperature(found, "%s:%s:%s" % (os.path.basename(folder), chip, site), path)
        if not found:
            raise Unreadable("no thermal zone and no hwmon temperature can be read under /sys/class")
        return found

    def _add_temperature(self, found: Dict[str, float], name: str, path: str) -> None:
        try:
            found[name] = parse_integer(read_text(path), path) / 1000.0
        except Unreadable:
            return  # a zone whose driver is off answers EINVAL or EAGAIN; the others still count

    def _per_cpu(self, file: str) -> Dict[str, str]:
        values: Dict[str, str] = {}
        for path in sorted(glob.glob(self._path("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/" + file))):
            name = _CPU_FOLDER.match(path)
            if name:
                values[name.group(1)] = read_text(path)
        if not values:
            raise Unreadable("/sys/devices/system/cpu/cpu*/cpufreq/%s: no such file" % file)
        return values

    def _frequencies(self) -> Dict[str, int]:
        # kernel: admin-guide/pm/cpufreq, kHz
        return {
            cpu: parse_integer(text, cpu) * 1000 for cpu, text in self._per_cpu("scaling_cur_freq").items()
        }

    def _throttled_bits(self) -> int:
        """Return the firmware's throttle bits (Raspberry Pi documentation, `vcgencmd get_throttled`)."""
        try:
            return parse_integer(self._text(_THROTTLED_SYSFS), _THROTTLED_SYSFS, 16)
        except Unreadable as absent:
            if self._root:
                raise
            text = run_vcgencmd(str(absent))
        return parse_throttled(text)

    def memory(self, pid: int) -> Dict[str, Any]:
        """Return a process's memory in bytes, its threads and open files. Raises Unreadable if it is gone."""
        status = "/proc/%d/status" % pid
        sums = parse_smaps(self._smaps(pid))
        return {
            "vm_hwm_bytes": self._kib(status, "VmHWM"),
            "vm_rss_bytes": self._kib(status, "VmRSS"),
            "threads": parse_integer(self._key(status, "Threads"), status),
            "fds": self._count_fds(pid),
            "rss_bytes": sums.get("Rss"),
            "pss_bytes": sums.get("Pss"),
            # split since kernel 5.14 or so; absent before
            "pss_file_bytes": sums.get("Pss_File"),
            "pss_anon_bytes": sums.get("Pss_Anon"),
            "private_clean_bytes": sums.get("Private_Clean"),
            "private_dirty_bytes": sums.get("Private_Dirty"),
        }

    def _smaps(self, pid: int) -> str:
        try:
            return self._text("/proc/%d/smaps_rollup" % pid)  # since Linux 4.14
        except Unreadable:
            return self._text("/proc/%d/smaps" % pid)

    def _count_fds(self, pid: int) -> int:
        try:
            return len(os.listdir(self._path("/proc/%d/fd" % pid)))
        except OSError as error:
            raise Unreadable("/proc/%d/fd: %s" % (pid, error.strerror)) from None

    def oom_kills(self) -> Optional[int]:
        """Return how often the kernel killed for want of memory since boot (Linux 4.13); None if unknown."""
        try:
            found = re.search(r"^oom_kill (\d+)$", self._text("/proc/vmstat"), re.MULTILINE)
        except Unreadable:
            return None
        return int(found.group(1)) if found else None

    def parent_pid(self, pid: int) -> int:
        """Return the parent of a process. Raises Unreadable."""
        path = "/proc/%d/status" % pid
        return parse_integer(self._key(path, "PPid"), path)


def parse_smaps(text: str) -> Dict[str, int]:
    """Return bytes by key, added up over the mappings, of smaps or smaps_rollup (proc(5): KiB)."""
    sums: Dict[str, int] = {}
    for key, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE):
        sums[key] = sums.get(key, 0) + int(kib) * 1024
    return sums


def parse_throttled(text: str) -> int:
    """Return the bits of `throttled=0x50005`. Raises Unreadable for anything else."""
    found = re.match(r"throttled=0x([0-9a-fA-F]+)\s*\Z", text)
    if not found:
        raise Unreadable("vcgencmd get_throttled: %r, expected throttled=0x…" % text[:80])
    return int(found.group(1), 16)


def run_vcgencmd(why: str) -> str:
    """Return what `vcgencmd get_throttled` prints. Raises Unreadable, with `why` nothing else served."""
    try:
        done = subprocess.run(
            ["vcgencmd", "get_throttled"], stdin=subprocess.DEVNULL, capture_output=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreadable("%s; vcgencmd: %s" % (why, error)) from None
    if done.returncode:
        raise Unreadable("vcgencmd get_throttled exited with %d: %r" % (done.returncode, done.stderr[:120]))
    return done.stdout.decode("utf-8", "replace")


def free_bytes(path: str) -> int:
    """Return the bytes a user may still write to the disk of `path`."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def libc_version() -> str:
    """Return "glibc-2.36", or "" where it can't be told."""
    name, version = platform.libc_ver()
    return "%s-%s" % (name, version) if name else ""


def _text_or(path: str, default: str) -> str:
    try:
        return read_text(path) or default
    except Unreadable:
        return default
