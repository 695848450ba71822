"""A soak's progress as one line, counted up from what each visit brings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.model import SoakTable
from harness.soak.collector import Visit
from harness.soak.spool import Record
from harness.units import counted, format_bytes, format_duration, format_significant


class Tally:
    """Windows, calls, errors, memory and the last event so far; and the time left at the pace seen."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        known: SoakTable | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._duration_s = spec["duration_ns"] / 1e9
        self._compressed = bool(spec.get("compressed"))
        self._clock = clock
        self._first: tuple[float, float] | None = None  # (our time, soak time) of the first visit
        self._seq = 0
        self.windows = self.calls = self.errors = 0
        self.rss_bytes: float | None = None
        self.last_event = ""
        if known is not None:
            self._take(known)

    def _take(self, table: SoakTable) -> None:
        self._seq = table.last_seq
        self.windows = int(table.merged.sum())
        for name, values in table.channels.items():
            kind = name.partition("/")[2]
            if kind == "calls":
                self.calls += int(np.nansum(values))
            elif kind == "errors":
                self.errors += int(np.nansum(values))
        for event in table.events[-1:]:
            self.last_event = f"{event.kind} at {format_duration(event.t_s)}"

    def add(self, records: Sequence[Record]) -> None:
        """Count what a visit brought; what was counted before isn't again."""
        for record in records:
            if record["seq"] <= self._seq:
                continue
            self._seq = record["seq"]
            if record["k"] == "event":
                self.last_event = f"{record['event']} at {format_duration(record['t_ns'] / 1e9)}"
            elif record["k"] == "window":
                self.windows += int(record["n"])
                streams = record["streams"].values()
                self.calls += sum(stream["calls"] or 0 for stream in streams)
                self.errors += sum(sum((stream["errors"] or {}).values()) for stream in streams)
                seen = [stream["rss_bytes"] for stream in streams if stream.get("rss_bytes") is not None]
                self.rss_bytes = float(sum(seen)) if seen else self.rss_bytes

    def line(self, visit: Visit) -> str:
        """Return the line, what matters most first: a terminal may cut its end off.

        "31.4 of 72 h, 2 min left, no errors, RSS 38.1 MB, 377 windows, last: link_back at 3 h"
        """
        parts = [reached(visit.t_s, self._duration_s)]
        left_s = self._left_s(visit.t_s)
        if left_s is not None and not visit.ended:
            parts.append(f"{format_duration(round(left_s), 2)} left")
        parts.append(counted(self.errors, "error") if self.errors else "no errors")
        if self.rss_bytes is not None:
            parts.append(f"RSS {format_bytes(self.rss_bytes)}")
        parts.append(counted(self.windows, "window"))
        if self.last_event:
            parts.append(f"last: {self.last_event}")
        return ", ".join(parts)

    def _left_s(self, t_s: float) -> float | None:
        """Return how long it will take yet, of this host's time; None while that can't be told."""
        left_s: float = max(0.0, self._duration_s - t_s)
        if not self._compressed:
            return left_s
        now_s = self._clock()
        if self._first is None:
            self._first = (now_s, t_s)
        passed_s, gone_s = now_s - self._first[0], t_s - self._first[1]
        return left_s * passed_s / gone_s if gone_s > 0 and passed_s > 0 else None


def reached(done_s: float, asked_s: float) -> str:
    """Return "31.4 of 72 h": both in the unit of what was asked."""
    asked = format_duration(asked_s)
    number, _, unit = asked.partition(" ")
    scale = asked_s / float(number)
    return f"{format_significant(min(done_s, asked_s) / scale)} of {number} {unit}"
