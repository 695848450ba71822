"""The kernel's files as numbers: texts in, bytes and nanoseconds out. Anything else raises Unreadable."""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

TEXT_BYTES = 1 << 20
# address range, permissions, offset, device, inode, path (proc(5))
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ \d+ *(.*)$")


class Unreadable(Exception):
    """A reading that this device doesn't give; the text says why."""


def read_text(path: str, limit_bytes: int = TEXT_BYTES) -> str:
    """Return a small file's text, stripped. Raises Unreadable."""
    try:
        with open(path, "rb") as file:
            return file.read(limit_bytes).decode("utf-8", "replace").strip("\0 \n")
    except OSError as error:
        raise Unreadable("%s: %s" % (path, error.strerror or error)) from None


def parse_integer(text: str, path: str, base: int = 10) -> int:
    """Return the whole number that a sysfs file holds. Raises Unreadable."""
    try:
        return int(text, base)
    except ValueError:
        raise Unreadable("%s: %r is not a number" % (path, text[:40])) from None


def parse_smaps(text: str) -> Dict[str, int]:
    """Return bytes by key, added up over the mappings, of smaps or smaps_rollup (proc(5): KiB)."""
    sums: Dict[str, int] = {}
    for key, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE):
        sums[key] = sums.get(key, 0) + int(kib) * 1024
    return sums


def parse_file_pages(text: str, file: str) -> int:
    """Return the resident bytes of the mappings of `file` in smaps, changed copies of pages left out."""
    total, counts = 0, False
    for line in text.splitlines():
        header = _MAPPING.match(line)
        if header:
            counts = header.group(1) in (file, file + " (deleted)")
        elif counts:
            key, _, value = line.partition(":")
            if key in ("Rss", "Anonymous"):  # anonymous: copied on write, no page of the file any more
                kib = parse_integer(value.strip().split(" ")[0], "smaps")
                total += (kib if key == "Rss" else -kib) * 1024
    return total


def parse_busy_ns(text: str, ticks_per_s: int) -> Dict[str, int]:
    """Return the time that CPUs were busy since boot by cpu, and for all ("total"), from /proc/stat.

    Busy is all but idle and iowait (proc(5); time of guests is in user and nice already).
    """
    return {name: sum(ticks[:8]) - ticks[3] - ticks[4] for name, ticks in _parse_cpu_lines(text, ticks_per_s)}


def parse_steal_ns(text: str, ticks_per_s: int) -> int:
    """Return the time that a hypervisor gave to others while this machine wanted it, over all CPUs."""
    return next(ticks[7] for name, ticks in _parse_cpu_lines(text, ticks_per_s) if name == "total")


def _parse_cpu_lines(text: str, ticks_per_s: int) -> List[Tuple[str, List[int]]]:
    found = [
        (name or "total", [int(ticks) * 10**9 // ticks_per_s for ticks in rest.split()])
        for name, rest in re.findall(r"^(?:cpu(?= )|(cpu\d+))((?: +\d+){8,})", text, re.MULTILINE)
    ]
    if not found or found[0][0] != "total":
        raise Unreadable("/proc/stat: no line `cpu` with at least 8 numbers in %r" % text[:80])
    return found


def parse_throttled(text: str) -> int:
    """Return the bits of `throttled=0x50005`. Raises Unreadable for anything else."""
    found = re.match(r"throttled=0x([0-9a-fA-F]+)\s*\Z", text)
    if not found:
        raise Unreadable("vcgencmd get_throttled: %r, expected throttled=0x…" % text[:80])
    return int(found.group(1), 16)
