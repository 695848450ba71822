"""Counts the instructions that this thread retires in user space, by perf_event_open(2) through ctypes.

Only the calling thread is counted: a runtime's own threads would need `inherit`, whose counts arrive only
when they end. Where the kernel gives no count, the reason takes its place.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import NamedTuple, Optional

# linux/perf_event.h
_TYPE_HARDWARE = 0
_COUNT_HW_INSTRUCTIONS = 1
_ATTR_BYTES = 64  # PERF_ATTR_SIZE_VER0
_FORMAT_TIME_ENABLED, _FORMAT_TIME_RUNNING = 1, 2
_EXCLUDE_KERNEL, _EXCLUDE_HV = 1 << 5, 1 << 6
_FLAG_CLOEXEC = 8
# The system call's number: arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h
_NUMBERS = {"x86_64": 298, "aarch64": 241}
_ANY_CPU, _THIS_THREAD, _NO_GROUP = -1, 0, -1
_PARANOID = "/proc/sys/kernel/perf_event_paranoid"


class Reading(NamedTuple):
    """What the counter says: instructions, and for how long it was wanted and did count."""

    instructions: int
    enabled_ns: int
    running_ns: int


class Counter:
    """An open counter, or why there is none. Close it."""

    def __init__(self, descriptor: int, reason: str = "") -> None:
        self._descriptor = descriptor
        self.reason = reason  # "" while it counts

    def read(self) -> Optional[Reading]:
        """Return the counter's state, None where there is none."""
        if self.reason:
            return None
        return Reading(*struct.unpack("=QQQ", os.read(self._descriptor, 24)))

    def between(self, before: Optional[Reading], after: Optional[Reading]) -> Optional[int]:
        """Return how many instructions lie between two readings, None where they weren't all counted.

        It stops counting then, and `reason` says why: a share of a count is no exact count.
        """
        if before is None or after is None:
            return None
        if after.running_ns - before.running_ns != after.enabled_ns - before.enabled_ns:
            self.stop("others used the counter too, or the thread moved to a core of another kind")
            return None
        if after.instructions <= before.instructions:
            self.stop("the counter stands still")
            return None
        return after.instructions - before.instructions

    def stop(self, reason: str) -> None:
        """Close it for a reason; the first one stays."""
        self.reason = self.reason or reason
        self.close()

    def close(self) -> None:
        """Give it back. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self.reason = self.reason or "the counter is closed"


def open_counter(threads: int) -> Counter:
    """Return a running counter of this thread, or one that says why there is none."""
    if threads > 1:
        return Counter(-1, "only one thread can be counted, the runtime has %d" % threads)
    machine = os.uname().machine
    number = _NUMBERS.get(machine)
    if number is None or sys.maxsize < 1 << 32:  # a 32-bit process has other numbers on the same kernel
        return Counter(-1, "no number is known here for perf_event_open on %s" % machine)
    attributes = bytearray(_ATTR_BYTES)
    struct.pack_into("=IIQ", attributes, 0, _TYPE_HARDWARE, _ATTR_BYTES, _COUNT_HW_INSTRUCTIONS)
    struct.pack_into("=Q", attributes, 32, _FORMAT_TIME_ENABLED | _FORMAT_TIME_RUNNING)
    struct.pack_into("=Q", attributes, 40, _EXCLUDE_KERNEL | _EXCLUDE_HV)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    descriptor = libc.syscall(
        ctypes.c_long(number),
        (ctypes.c_char * _ATTR_BYTES).from_buffer(attributes),
        ctypes.c_int(_THIS_THREAD),
        ctypes.c_int(_ANY_CPU),
        ctypes.c_int(_NO_GROUP),
        ctypes.c_ulong(_FLAG_CLOEXEC),
    )
    if descriptor < 0:
        return Counter(-1, refusal(ctypes.get_errno()))
    return Counter(int(descriptor))


def refusal(number: int) -> str:
    """Return what an errno of perf_event_open(2) means, with what can be done about it."""
    text = "perf_event_open: %s" % os.strerror(number)
    if number in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        return text + "; this CPU, or the virtual machine it belongs to, shows no instruction counter"
    if number in (errno.EACCES, errno.EPERM):
        try:
            with open(_PARANOID, encoding="ascii") as file:
                level = file.read().strip()
        except OSError:
            level = "unreadable"
        return text + "; kernel.perf_event_paranoid is %s, at most 2 lets a user count" % level
    return text
