"""What the runner sees happen to the device between two windows: clock steps, throttling, shortage, faults.

Each watcher is asked once a window and returns events: (event, text, details).
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .frequency import FrequencyWatch

Found = Tuple[str, str, Dict[str, Any]]

STEP_NS = 500000000  # docs/soak-format.md; NTP steps from 128 ms on, but a late reading is no step (chosen)
SLEW_RATIO = 500e-6  # the fastest that adjtimex(2) slews a clock
# now: under-voltage, frequency capped, throttled, soft temperature limit; the same 16 bits up: it has been
# so (Raspberry Pi documentation, computers/os.html#get_throttled)
THROTTLED_NOW = 0xF
MAX_TOLD_LINES = 5
_LINE_BYTES = 8192  # one record of /dev/kmsg fits (kernel: ABI/testing/dev-kmsg)

# Few, each with the place in the kernel that prints it. Case matters not.
HARDWARE = re.compile(
    "|".join(
        (
            r"\[Hardware Error\]",  # include/linux/printk.h, HW_ERR: MCE, APEI, AER, EDAC's decoders
            r"EDAC \S+: \d+ (CE|UE)\b",  # drivers/edac/edac_mc.c, edac_device.c
            # block/blk-core.c, blk_print_req_error
            r"(I/O|critical \w+|protection|data integrity) error, dev \S+, sector",
            r"mmcblk\d\S*: .*error -\d+",  # drivers/mmc/core/block.c
            r"nvme\S* (nvme\S+: )?(I/O .*timeout|controller is down)",  # drivers/nvme/host/pci.c
            r"critical temperature reached",  # drivers/thermal/thermal_core.c
            r"under-?voltage detected",  # drivers/hwmon/raspberrypi-hwmon.c
        )
    ),
    re.IGNORECASE,
)


class ClockWatch:
    """CLOCK_REALTIME against CLOCK_BOOTTIME: they part only when somebody sets the clock."""

    def __init__(self, realtime_ns: int, boottime_ns: int) -> None:
        self._apart_ns = realtime_ns - boottime_ns
        self._at_ns = boottime_ns

    def look(self, realtime_ns: int, boottime_ns: int) -> List[Found]:
        """Return a `clock_step` where the clock moved by more than slewing does."""
        apart_ns = realtime_ns - boottime_ns
        step_ns = apart_ns - self._apart_ns
        slewed_ns = SLEW_RATIO * (boottime_ns - self._at_ns)
        self._apart_ns, self._at_ns = apart_ns, boottime_ns
        if abs(step_ns) <= STEP_NS + slewed_ns:
            return []
        text = "the clock was set %s by %.1f s" % ("forward" if step_ns > 0 else "back", abs(step_ns) / 1e9)
        return [("clock_step", text, {"step_ns": step_ns})]


class ThrottleWatch:
    """The firmware's throttle bits."""

    def __init__(self) -> None:
        self._bits: Optional[int] = None  # as they were at the last look

    def look(self, bits: Optional[int]) -> List[Found]:
        """Return `throttled` when the device begins to be, or was since the last look; `unthrottled`."""
        if bits is None:
            return []
        before, self._bits = self._bits, bits
        now, was = bits & THROTTLED_NOW, (before or 0) & THROTTLED_NOW
        details = {"bits": bits}
        if now and not was:
            return [("throttled", "the device is throttled (bits %#x)" % bits, details)]
        if was and not now:
            return [("unthrottled", "the device is no longer throttled (bits %#x)" % bits, details)]
        occurred = (bits & ~before if before is not None else 0) >> 16
        if not now and occurred:
            return [("throttled", "the device was throttled meanwhile (bits %#x)" % bits, details)]
        return []


class ShortageWatch:
    """The kernel's count of processes that it killed for want of memory."""

    def __init__(self, count: Callable[[], Optional[int]]) -> None:
        self._count = count
        self._kills = count()
        self._open = 0  # kills that nobody has told of

    def look(self, told: int) -> List[Found]:
        """Return an `oom` for kills beyond the `told` ones of streams.

        It waits for the look after: the kernel counts before a child's end has reached the runner.
        """
        kills = self._count()
        before, self._kills = self._kills, kills
        waited = max(0, self._open - told)
        new = kills - before if kills is not None and before is not None else 0
        self._open = max(0, self._open + new - told)
        others = min(waited, self._open)
        if not others:
            return []
        self._open -= others
        text = "the kernel killed %d other process%s for want of memory" % (others, "es"[: 2 * (others > 1)])
        return [("oom", text, {"child": None, "kills": others})]


class KernelLog:
    """/dev/kmsg, where this user may read it. Lines that say that hardware fails become events."""

    def __init__(self, path: str = "/dev/kmsg", from_start: bool = False) -> None:
        """Begin at the log's end, or `from_start` where nobody saw this boot's beginning."""
        self.why_not = ""
        self._descriptor: Optional[int] = None
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not from_start:
                os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            self._give_up("%s: %s" % (path, error.strerror))

    def look(self) -> List[Found]:
        """Return a `hardware_error` for the lines since the last look, one for all of them."""
        lines = self._read()
        if not lines:
            return []
        text = "; ".join(lines[:MAX_TOLD_LINES])
        if len(lines) > MAX_TOLD_LINES:
            text += "; and %d more" % (len(lines) - MAX_TOLD_LINES)
        return [("hardware_error", text[:1000], {"lines": len(lines)})]

    def _read(self) -> List[str]:
        found: List[str] = []
        while self._descriptor is not None:
            try:
                record = os.read(self._descriptor, _LINE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten before it was read: the next read goes on
                    continue
                self._give_up("/dev/kmsg: %s" % error.strerror)
                break
            if not record:
                break
            line = parse_kernel_line(record)
            if line is not None and HARDWARE.search(line):
                found.append(line[:200])
        return found

    def _give_up(self, why: str) -> None:
        self.why_not = why
        self.close()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def parse_kernel_line(record: bytes) -> Optional[str]:
    """Return the text of a record of /dev/kmsg; None if a program wrote it, or it is none.

    `prefix,sequence,time,flags;text`, then lines of details; the prefix is facility · 8 + level, and programs
    can't write under the kernel's facility 0 (kernel: ABI/testing/dev-kmsg).
    """
    head, semicolon, rest = record.partition(b";")
    prefix = head.split(b",")[0]
    if not semicolon or not prefix.isdigit() or int(prefix) >> 3 != 0:
        return None
    return rest.split(b"\n")[0].decode("utf-8", "replace")


class Reading(NamedTuple):
    """What a look of all watchers needs."""

    realtime_ns: int
    boottime_ns: int
    throttled_bits: Optional[int]
    ooms_told: int


class Watch:
    """All of them."""

    def __init__(
        self,
        clock: ClockWatch,
        shortage: ShortageWatch,
        kernel: KernelLog,
        throttle: ThrottleWatch,
        frequency: FrequencyWatch,
    ) -> None:
        self._frequency = frequency
        self._clock = clock
        self._shortage = shortage
        self._kernel = kernel
        self._throttle = throttle

    def look(self, reading: Reading) -> List[Found]:
        """Return what happened since the last look."""
        return [
            *self._clock.look(reading.realtime_ns, reading.boottime_ns),
            *self._throttle.look(reading.throttled_bits),
            *self._frequency.look(reading.boottime_ns),
            *self._shortage.look(reading.ooms_told),
            *self._kernel.look(),
        ]

    def close(self) -> None:
        self._kernel.close()
