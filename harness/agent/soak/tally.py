"""What a stream's calls came to: counted call by call in the child, slice by slice in the runner."""

from __future__ import annotations

from typing import Any, Dict, Optional

from .histogram import Histogram

MAX_ERROR_KINDS = 32  # chosen: a window's record stays small whatever a runtime raises
OTHER = "other"


class Tally:
    """Counts of calls. `calls` are all of them, failed ones included; times are of those that succeeded."""

    def __init__(self) -> None:
        self.calls = 0
        self.errors: Dict[str, int] = {}
        self.late = 0
        self.max_late_ns: Optional[int] = None
        self.busy_ns = 0
        self.sum_ns = 0
        self.min_ns: Optional[int] = None
        self.max_ns: Optional[int] = None
        self.histogram = Histogram()

    def succeeded(self, latency_ns: int) -> None:
        """Count a call that took `latency_ns`."""
        self.calls += 1
        self.sum_ns += latency_ns
        if self.min_ns is None or latency_ns < self.min_ns:
            self.min_ns = latency_ns
        if self.max_ns is None or latency_ns > self.max_ns:
            self.max_ns = latency_ns
        self.histogram.add(latency_ns)

    def failed(self, kind: str, count: int = 1) -> None:
        """Count `count` calls that failed in one way."""
        self.calls += count
        if kind not in self.errors and len(self.errors) >= MAX_ERROR_KINDS:
            kind = OTHER
        self.errors[kind] = self.errors.get(kind, 0) + count

    def began(self, late_ns: int, tolerance_ns: int) -> None:
        """Count how late a call began that had a due time."""
        if late_ns > tolerance_ns:
            self.late += 1
        if self.max_late_ns is None or late_ns > self.max_late_ns:
            self.max_late_ns = late_ns

    def to_args(self) -> Dict[str, Any]:
        """Return it as JSON values, under the names of a window's STREAM."""
        return {
            "calls": self.calls,
            "errors": dict(self.errors),
            "late": self.late,
            "max_late_ns": self.max_late_ns,
            "busy_ns": self.busy_ns,
            "sum_ns": self.sum_ns,
            "min_ns": self.min_ns,
            "max_ns": self.max_ns,
            "h": self.histogram.pairs(),
        }

    def merge(self, args: Dict[str, Any]) -> None:
        """Add what `to_args` of another gave; keys beyond are left alone."""
        self.calls += args["calls"]
        for kind, count in args["errors"].items():
            if kind not in self.errors and len(self.errors) >= MAX_ERROR_KINDS:
                kind = OTHER
            self.errors[kind] = self.errors.get(kind, 0) + count
        self.late += args["late"]
        self.busy_ns += args["busy_ns"]
        self.sum_ns += args["sum_ns"]
        self.max_late_ns = highest(self.max_late_ns, args["max_late_ns"])
        self.max_ns = highest(self.max_ns, args["max_ns"])
        if args["min_ns"] is not None and (self.min_ns is None or args["min_ns"] < self.min_ns):
            self.min_ns = args["min_ns"]
        self.histogram.merge(args["h"])


def highest(a: Optional[int], b: Optional[int]) -> Optional[int]:
    """Return the larger one of those that are there."""
    return b if a is None else a if b is None else max(a, b)
