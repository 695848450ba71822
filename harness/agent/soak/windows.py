"""A window's record: what the device shows at its end, and several windows as one where the disk is full."""

from __future__ import annotations

import resource
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ..channels import Channels, read
from ..faults import Fault
from ..parsing import Unreadable, parse_integer, read_text
from ..probes import Probes, free_bytes
from ..sensors import Sensor, cpufreq, raspberry
from .tally import Tally

COMMAND_NS = 10 * 10**9  # a reading that starts a process is taken so often at most (chosen)
_LAST = ("variant", "rss_bytes", "pss_bytes", "private_dirty_bytes", "fds", "threads")


class DeviceReader:
    """Reads, once a window, what the device shows. `not_observable`: what it doesn't show, and why."""

    def __init__(
        self, probes: Probes, home: str, channels: Sequence[Dict[str, Any]], found: Channels
    ) -> None:
        self._probes = probes
        self._home = home
        self.not_observable: Dict[str, str] = {}
        self._channels = [self._find(found, str(channel["id"])) for channel in channels]
        # not those of GPU, NPU and memory, which follow loads of their own
        self._clocks = [s for s in cpufreq.find(found.root) if s.id.startswith("cpufreq/")]
        self._throttle = [s for s in raspberry.find(found.root) if s.kind == "throttle_bits"]
        self._ram_bytes = self._ram()
        self._cpu_ns = _own_cpu_ns()
        self._bits: Optional[Tuple[int, Optional[int], str]] = None  # when, what or why not
        self._readings: Dict[str, Callable[[], Any]] = {
            "freq_hz": lambda: max(_value(sensor) for sensor in _some(self._clocks, "frequency of a CPU")),
            "throttled_bits": self._throttled_bits,
            "mem_available_bytes": lambda: self._meminfo("MemAvailable"),
            "disk_free_bytes": lambda: free_bytes(self._home),
            "load1": lambda: float(read_text(self._probes.root + "/proc/loadavg").split()[0]),
        }
        self.device(0)  # what isn't there is known before the first record
        self.values()

    def _find(self, found: Channels, id_: str) -> Optional[Sensor]:
        try:
            return found.get([id_])[0]
        except Fault as fault:
            self.not_observable[id_] = fault.message
            return None

    def _ram(self) -> Optional[int]:
        try:
            return self._meminfo("MemTotal")
        except Unreadable as error:
            self.not_observable["ram_bytes"] = str(error)
            return None

    def _throttled_bits(self) -> int:
        """Return the throttle bits; of a command's those of the last COMMAND_NS."""
        sensor = _some(self._throttle, "throttle bits")[0]
        now_ns = time.monotonic_ns()
        if self._bits is None or sensor.rate_hz is None or now_ns - self._bits[0] >= COMMAND_NS:
            try:
                self._bits = now_ns, int(_value(sensor)), ""
            except Unreadable as error:
                self._bits = now_ns, None, str(error)
        if self._bits[1] is None:
            raise Unreadable(self._bits[2])
        return self._bits[1]

    def _meminfo(self, key: str) -> int:
        path = self._probes.root + "/proc/meminfo"
        for line in read_text(path).splitlines():
            name, _, rest = line.partition(":")
            if name == key:
                return parse_integer(rest.split()[0], path) * 1024  # proc(5): KiB
        raise Unreadable("%s: has no line `%s`" % (path, key))

    def device(self, realtime_minus_boottime_ns: int) -> Dict[str, Any]:
        """Return a window's `dev`. `runner_cpu_ns` is what this process used since the call before."""
        dev: Dict[str, Any] = {"ram_bytes": self._ram_bytes}
        for name, reading in self._readings.items():
            try:
                dev[name] = reading()
            except (Unreadable, OSError, ValueError, IndexError) as error:
                dev[name] = None
                self.not_observable.setdefault(name, str(error))
        before, self._cpu_ns = self._cpu_ns, _own_cpu_ns()
        dev["realtime_minus_boottime_ns"] = realtime_minus_boottime_ns
        dev["runner_cpu_ns"] = self._cpu_ns - before
        dev["runner_rss_bytes"] = _own_rss_bytes()
        return dev

    def values(self) -> List[Optional[float]]:
        """Return a window's `v`: one number a channel, None where it gave none."""
        found: List[Optional[float]] = []
        for sensor in self._channels:
            value, why = None, ""
            if sensor is not None:
                _, value, why = read(sensor)
                if why:
                    value = None
                    self.not_observable.setdefault(sensor.id, why)
            found.append(value)
        return found


def _some(sensors: List[Sensor], what: str) -> List[Sensor]:
    if not sensors:
        raise Unreadable("this device shows no %s" % what)
    return sensors


def _value(sensor: Sensor) -> float:
    return float(sensor.read())


def _own_cpu_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def _own_rss_bytes() -> Optional[int]:
    try:
        pages = read_text("/proc/self/statm").split()[1]
    except Unreadable:
        return None
    return int(pages) * resource.getpagesize()


def merge_windows(a: Dict[str, Any], b: Dict[str, Any]) -> Dict[str, Any]:
    """Return two windows in a row as one record: counts added, levels as they were last, channels' means."""
    merged = dict(b, i=a["i"], n=a["n"] + b["n"], t0_ns=a["t0_ns"])
    merged["streams"] = {
        name: _merge_streams(a["streams"].get(name), b["streams"].get(name))
        for name in {**a["streams"], **b["streams"]}
    }
    merged["v"] = [_mean((x, a["n"]), (y, b["n"])) for x, y in zip(a["v"], b["v"])]
    merged["dev"] = dict(b["dev"])
    for key in ("runner_cpu_ns",):
        merged["dev"][key] = a["dev"][key] + b["dev"][key]
    if a["dev"]["throttled_bits"] is not None and b["dev"]["throttled_bits"] is not None:
        merged["dev"]["throttled_bits"] = a["dev"]["throttled_bits"] | b["dev"]["throttled_bits"]
    return merged


def _merge_streams(a: Optional[Dict[str, Any]], b: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    if a is None or b is None:
        return dict(a or b or {})
    tally = Tally()
    tally.merge(a)
    tally.merge(b)
    levels = {key: a[key] if b[key] is None else b[key] for key in _LAST}
    return dict(tally.to_args(), restarts=a["restarts"] + b["restarts"], **levels)


def _mean(*values: Tuple[Optional[float], int]) -> Optional[float]:
    """Return the weighted mean of the values that are there."""
    there = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in there)
    return sum(value * weight for value, weight in there) / total if there else None
