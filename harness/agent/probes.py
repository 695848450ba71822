"""What the device shows of itself: facts, conditions, and the memory of a process. Reads /proc and /sys only.

`root` stands in front of every path, so captures of other boards can be read. What can't be read is None,
and `not_observable` says why; never 0.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import resource
import subprocess
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from .parsing import (
    TEXT_BYTES,
    Unreadable,
    parse_busy_ns,
    parse_file_pages,
    parse_integer,
    parse_smaps,
    parse_steal_ns,
    parse_throttled,
    read_text,
)

_MAPS_BYTES = 64 << 20  # a process with many threads and libraries has thousands of mappings
_THROTTLED_SYSFS = "/sys/devices/platform/soc/soc:firmware/get_throttled"  # Raspberry Pi kernels
_CPUFREQ = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/"
_CPU_FOLDER = re.compile(r".*/(cpu\d+)/")


# The kernel's sum over mappings (smaps_rollup) leaves some out now and then while the process maps or unmaps
# (seen on 6.1: 8 to 31 of 59 MB missing in 20 of 720 windows); its counter beside it (VmRSS) doesn't.
WHOLE_RATIO, SLACK_BYTES, READ_TRIES = 0.95, 1 << 20, 4  # chosen; VmRSS is right to 64 pages a thread


def read_whole(read: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """Return a reading of memory whose sum has all mappings, as `read` gives it; else the largest of some."""
    best: Dict[str, Any] = {}
    for _ in range(READ_TRIES):
        found = read()
        summed, counted = found.get("rss_bytes"), found.get("vm_rss_bytes")
        if summed is None or counted is None or summed >= WHOLE_RATIO * counted - SLACK_BYTES:
            return found
        if not best or summed > best["rss_bytes"]:
            best = found
    return best


class Probes:
    """Readings of this device; `root` is "" on the device itself."""

    def __init__(self, root: str = "") -> None:
        self.root = root

    def _path(self, path: str) -> str:
        return self.root + path

    def _text(self, path: str, limit_bytes: int = TEXT_BYTES) -> str:
        return read_text(self._path(path), limit_bytes)

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
            "cpufreq_governors": self.available_governors,
        }
        return self._collect(readings)

    def conditions(self) -> Dict[str, Any]:
        """Return readings as they are now."""
        readings: Dict[str, Callable[[], Any]] = {
            "load1": lambda: float(self._text("/proc/loadavg").split()[0]),
            "psi_cpu_some_avg10": lambda: self._pressure("cpu"),
            "psi_memory_some_avg10": lambda: self._pressure("memory"),
            "psi_io_some_avg10": lambda: self._pressure("io"),
            "cpu_busy_ns": lambda: parse_busy_ns(self._text("/proc/stat"), _ticks_per_s()),
            "steal_ns": lambda: parse_steal_ns(self._text("/proc/stat"), _ticks_per_s()),
            "agent_cpu_ns": self._agent_cpu_ns,
            "temp_c": self._temperatures,
            "freq_hz": lambda: self._frequencies("scaling_cur_freq"),
            "freq_min_hz": lambda: self._frequencies("scaling_min_freq"),
            "freq_max_hz": lambda: self._frequencies("scaling_max_freq"),
            "freq_boost": self._boost,
            "governor": self.governors,
            "throttled_bits": self._throttled_bits,
            "mem_available_bytes": lambda: self._kib("/proc/meminfo", "MemAvailable"),
            "swap_used_bytes": lambda: (
                self._kib("/proc/meminfo", "SwapTotal") - self._kib("/proc/meminfo", "SwapFree")
            ),
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

    def _pressure(self, what: str) -> float:
        """Return the share of the last 10 s, in percent, in which a task waited (kernel: accounting/psi)."""
        path = "/proc/pressure/" + what
        text = self._text(path)
        found = re.search(r"^some avg10=([0-9.]+)", text)
        if not found:
            raise Unreadable("%s: no `some avg10=` in %r" % (path, text[:80]))
        return float(found.group(1))

    def _agent_cpu_ns(self) -> int:
        """Return the CPU time that this process and its descendants have used, ended ones included."""
        own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        total = int((own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime) * 1e9)
        parents: Dict[int, int] = {}
        used: Dict[int, int] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    parents[int(name)], used[int(name)] = self._parent_and_cpu_ns(int(name))
                except Unreadable:
                    continue  # it has just ended
        known = {os.getpid()}
        while True:
            found = {pid for pid, parent in parents.items() if parent in known} - known
            if not found:
                return total
            total += sum(used[pid] for pid in found)
            known |= found

    def _parent_and_cpu_ns(self, pid: int) -> Tuple[int, int]:
        """Return a process's parent, and its CPU time with that of its ended children (proc(5))."""
        fields = self._stat(pid)
        return int(fields[1]), sum(int(ticks) for ticks in fields[11:15]) * 10**9 // _ticks_per_s()

    def _stat(self, pid: int) -> List[str]:
        """Return the fields of a process's stat from the third on: its name before them may hold anything."""
        path = "/proc/%d/stat" % pid
        fields = self._text(path).rpartition(")")[2].split()
        if len(fields) < 20:
            raise Unreadable("%s: %d fields" % (path, len(fields)))
        return fields

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
        for path in sorted(glob.glob(self._path(_CPUFREQ + file))):
            name = _CPU_FOLDER.match(path)
            if name:
                values[name.group(1)] = read_text(path)
        if not values:
            raise Unreadable("/sys/devices/system/cpu/cpu*/cpufreq/%s: no such file" % file)
        return values

    def _frequencies(self, file: str) -> Dict[str, int]:
        # kernel: admin-guide/pm/cpufreq, kHz
        return {cpu: parse_integer(text, cpu) * 1000 for cpu, text in self._per_cpu(file).items()}

    def governors(self) -> Dict[str, str]:
        """Return the governor by cpu. Raises Unreadable where there is none."""
        return self._per_cpu("scaling_governor")

    def governor_files(self) -> List[str]:
        """Return the paths of the files that hold the governors, in the order of their CPUs."""
        return sorted(glob.glob(self._path(_CPUFREQ + "scaling_governor")))

    def available_governors(self) -> List[str]:
        """Return the names of the governors that every CPU may have."""
        each = [set(text.split()) for text in self._per_cpu("scaling_available_governors").values()]
        return sorted(set.intersection(*each))

    def _boost(self) -> bool:
        """Return whether CPUs may go above what they can keep up (kernel: admin-guide/pm/cpufreq)."""
        try:
            return self._text("/sys/devices/system/cpu/intel_pstate/no_turbo") == "0"
        except Unreadable:
            return self._text("/sys/devices/system/cpu/cpufreq/boost") == "1"

    def _throttled_bits(self) -> int:
        """Return the firmware's throttle bits (Raspberry Pi documentation, `vcgencmd get_throttled`)."""
        try:
            return parse_integer(self._text(_THROTTLED_SYSFS), _THROTTLED_SYSFS, 16)
        except Unreadable as absent:
            if self.root:
                raise
            text = run_vcgencmd(str(absent))
        return parse_throttled(text)

    def memory(self, pid: int, model_path: str = "") -> Dict[str, Any]:
        """Return a process's memory in bytes, its threads and open files. Raises Unreadable if it is gone.

        `model_pages_bytes` are pages of the file `model_path` that it maps and that are resident, without
        those it has changed; None without a `model_path`.
        """
        return read_whole(lambda: self._memory(pid, model_path))

    def _memory(self, pid: int, model_path: str) -> Dict[str, Any]:
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
            "swap_bytes": sums.get("Swap"),
            "model_pages_bytes": self._file_pages(pid, os.path.realpath(model_path)) if model_path else None,
        }

    def _smaps(self, pid: int) -> str:
        try:
            return self._text("/proc/%d/smaps_rollup" % pid)  # since Linux 4.14
        except Unreadable:
            return self._text("/proc/%d/smaps" % pid, _MAPS_BYTES)

    def _file_pages(self, pid: int, file: str) -> int:
        """Return how much of a file a process maps and has resident, unchanged; 0 if it isn't mapped."""
        # smaps is walked page by page: only where the list of mappings names the file
        if file not in self._text("/proc/%d/maps" % pid, _MAPS_BYTES):
            return 0
        return parse_file_pages(self._text("/proc/%d/smaps" % pid, _MAPS_BYTES), file)

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

    def start_ticks(self, pid: int) -> int:
        """Return when a process started, in clock ticks since boot: with its pid it names one process.

        Raises Unreadable.
        """
        return int(self._stat(pid)[19])

    def lives(self, pid: int, start_ticks: int) -> bool:
        """Return whether this very process still lives."""
        try:
            return self.start_ticks(pid) == start_ticks
        except Unreadable:
            return False

    def parent_pid(self, pid: int) -> int:
        """Return the parent of a process. Raises Unreadable."""
        path = "/proc/%d/status" % pid
        return parse_integer(self._key(path, "PPid"), path)


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


def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")  # USER_HZ, the unit of /proc/stat


def _text_or(path: str, default: str) -> str:
    try:
        return read_text(path) or default
    except Unreadable:
        return default
