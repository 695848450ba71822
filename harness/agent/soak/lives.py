"""A life of the runner: where soak time stands at its start, and what the gap before it was."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .folder import SoakFolder
from .spool import End
from .watch import Found

FILE = "life.json"  # clocks and boot of the present life, for the next one
MAX_GAP_NS = 30 * 86400 * 10**9  # docs/soak-format.md
_KEYS = ("t_ns", "boottime_ns", "realtime_minus_boottime_ns")


class Clocks(NamedTuple):
    """The clocks and the boot now."""

    boot_id: str
    boottime_ns: int
    realtime_ns: int


class Life(NamedTuple):
    """One life. `t_ns` is soak time at `boottime_ns`."""

    number: int
    t_ns: int
    gap_ns: int
    gap_from: str  # "start", "boottime", "realtime", "uptime"
    boot_id: str
    boottime_ns: int
    realtime_minus_boottime_ns: int
    pid: int
    start_ticks: int
    is_new_boot: bool
    cpufreq: Dict[str, Any] = {}  # at the soak's start (frequency.py); empty where none is shown

    @property
    def epoch_ns(self) -> int:
        """CLOCK_BOOTTIME at soak time 0; before the boot after a reboot."""
        return self.boottime_ns - self.t_ns

    def record(
        self,
        channels: List[Dict[str, str]],
        not_observable: Dict[str, str],
        agent_sha256: str,
        cpufreq: Optional[Dict[str, Any]] = None,
    ) -> Dict[str, Any]:
        """Return the record `life`. `cpufreq`: as it is at this life's start."""
        return {
            "k": "life",
            "life": self.number,
            "t_ns": self.t_ns,
            "gap_ns": self.gap_ns,
            "gap_from": self.gap_from,
            "boot_id": self.boot_id,
            "boottime_ns": self.boottime_ns,
            "realtime_ns": self.boottime_ns + self.realtime_minus_boottime_ns,
            "pid": self.pid,
            "agent_sha256": agent_sha256,
            "channels": channels,
            "not_observable": not_observable,
            "cpufreq": cpufreq or {},
        }

    def events(self) -> List[Found]:
        """Return what this life's start says of the end of the one before."""
        if self.gap_from == "start":
            return []
        text = "after %.1f s unobserved (by %s)" % (self.gap_ns / 1e9, self.gap_from)
        if self.is_new_boot:
            return [("reboot", "the device has started again " + text, {"planned": None})]
        return [("runner_restarted", "the runner has started again " + text, {})]


def find_gap(end: End, before: Dict[str, Any], now: Clocks, compressed: bool) -> Tuple[int, str]:
    """Return how long nobody observed since the spool's `end`, and by which clock that is known.

    `before` is life.json of the life before, empty where it is lost.
    """
    if end.last is None:
        return 0, "start"
    known = all(isinstance(before.get(key), int) for key in _KEYS)
    if known:
        # CLOCK_BOOTTIME at the last record's end, in the boot of that life
        end_boottime_ns = before["boottime_ns"] + end.t_ns - before["t_ns"]
        if now.boot_id and before.get("boot_id") == now.boot_id:
            return max(0, now.boottime_ns - end_boottime_ns), "boottime"
        gap_ns = now.realtime_ns - (end_boottime_ns + before["realtime_minus_boottime_ns"])
        if now.boottime_ns < gap_ns < MAX_GAP_NS and not compressed:
            return gap_ns, "realtime"
    return now.boottime_ns, "uptime"


def begin_life(
    folder: SoakFolder,
    end: End,
    compressed: bool,
    now: Clocks,
    pid: int,
    start_ticks: Optional[int],
    cpufreq: Optional[Dict[str, Any]] = None,
) -> Life:
    """Return this life, its clocks written down for the next one. `cpufreq`: as it is now.

    That of the soak's start is kept, where a life before has written it down.
    """
    before = folder.read_object(FILE)
    gap_ns, gap_from = find_gap(end, before, now, compressed)
    life = Life(
        number=end.life + 1,
        t_ns=end.t_ns + gap_ns,
        gap_ns=gap_ns,
        gap_from=gap_from,
        boot_id=now.boot_id,
        boottime_ns=now.boottime_ns,
        realtime_minus_boottime_ns=now.realtime_ns - now.boottime_ns,
        pid=pid,
        start_ticks=start_ticks or 0,
        is_new_boot=gap_from in ("realtime", "uptime"),
        cpufreq=before.get("cpufreq") or cpufreq or {},
    )
    write_life(folder, life)
    return life


def write_life(folder: SoakFolder, life: Life) -> None:
    """Write down what the next life needs to know. Raises OSError."""
    values = {key: getattr(life, key) for key in _KEYS}
    told = {"boot_id": life.boot_id, "life": life.number, "cpufreq": life.cpufreq}
    folder.write_object(FILE, dict(values, **told))
