"""Spools as a runner writes them, from a seed: records, and the segments that hold them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.soak.spool import encode_record

Record = dict[str, Any]
SEGMENT_BYTES = 1 << 20
CHANNELS = (
    {"id": "thermal/thermal_zone0/cpu-thermal/temp_c", "kind": "temp_c", "unit": "°C"},
    {"id": "hwmon/hwmon1/VDD/power_w", "kind": "power_w", "unit": "W"},
)
BOOT_ID = "11111111-2222-3333-4444-555555555555"


def life(life: int = 1, t_ns: int = 0, *, gap_ns: int = 0, gap_from: str = "start", **more: Any) -> Record:
    """Return a `life` record without its seq."""
    return {
        "k": "life",
        "life": life,
        "t_ns": t_ns,
        "gap_ns": gap_ns,
        "gap_from": gap_from,
        "boot_id": BOOT_ID,
        "boottime_ns": 10**12 + t_ns,
        "realtime_ns": 1_700_000_000 * 10**9 + t_ns,
        "pid": 100,
        "agent_sha256": "a" * 64,
        "channels": list(CHANNELS),
        "not_observable": {},
        **more,
    }


def stream(rng: random.Random, calls: int = 50, variant: str = "fp32", buckets: int = 8) -> Record:
    """Return what a window says of one stream."""
    low = 64 * 13 + rng.randrange(100, 110)
    counts = [calls // buckets + (1 if i < calls % buckets else 0) for i in range(buckets)]
    return {
        "variant": variant,
        "calls": calls,
        "errors": {},
        "late": 0,
        "max_late_ns": 0,
        "busy_ns": calls * 900_000,
        "sum_ns": calls * 900_000,
        "min_ns": 850_000,
        "max_ns": 990_000,
        "h": [[low + i, n] for i, n in enumerate(counts) if n],
        "rss_bytes": 50_000_000 + rng.randrange(100_000),
        "pss_bytes": 45_000_000,
        "private_dirty_bytes": 30_000_000,
        "fds": 12,
        "threads": 3,
        "restarts": 0,
    }


def window(
    i: int,
    window_ns: int = 10**9,
    *,
    rng: random.Random | None = None,
    streams: Mapping[str, Record] | None = None,
    n_channels: int = len(CHANNELS),
    **more: Any,
) -> Record:
    """Return window `i` without its seq."""
    rng = rng or random.Random(i)
    return {
        "k": "window",
        "i": i,
        "n": 1,
        "t0_ns": i * window_ns,
        "t1_ns": (i + 1) * window_ns,
        "life": 1,
        "streams": {"main": stream(rng)} if streams is None else dict(streams),
        "v": [round(55 + rng.random(), 3) for _ in range(n_channels)],
        "dev": {
            "freq_hz": 1_500_000_000,
            "throttled_bits": 0,
            "mem_available_bytes": 10**9,
            "ram_bytes": 2 * 10**9,
            "disk_free_bytes": 10**9,
            "load1": 1.0,
            "realtime_minus_boottime_ns": 1_700_000_000 * 10**9,
            "runner_cpu_ns": i * 1000,
            "runner_rss_bytes": 12_000_000,
        },
        **more,
    }


def event(kind: str, t_ns: int, text: str = "", **details: Any) -> Record:
    """Return a device's event without its seq."""
    return {"k": "event", "t_ns": t_ns, "life": 1, "event": kind, "text": text or kind, "details": details}


def end(t_ns: int, reason: str = "duration") -> Record:
    """Return an `end` record without its seq."""
    return {"k": "end", "t_ns": t_ns, "life": 1, "reason": reason}


def numbered(records: Iterable[Record], first: int = 1) -> list[Record]:
    """Return the records with their seq."""
    return [{"seq": seq, **record} for seq, record in enumerate(records, first)]


def short_soak(windows: int = 10, window_ns: int = 10**9) -> list[Record]:
    """Return the records of a soak of one life that has ended."""
    middle = [window(i, window_ns) for i in range(windows)]
    return numbered([life(), *middle, end(windows * window_ns)])


def lines(records: Iterable[Record]) -> bytes:
    """Return the records as bytes of a segment."""
    return b"".join(encode_record(record) for record in records)


def segments(records: Iterable[Record], segment_bytes: int = SEGMENT_BYTES) -> Iterator[bytes]:
    """Yield segments that each end with the record that makes them `segment_bytes` or longer."""
    parts: list[bytes] = []
    size = 0
    for record in records:
        parts.append(encode_record(record))
        size += len(parts[-1])
        if size >= segment_bytes:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
