"""Measuring what runs outside the child: a command that times itself, or that only prints a summary."""

from __future__ import annotations

import time
from array import array
from typing import Any, Dict, List

from .timing import FLAT_RATIO, Plan, Timed, median

_CHUNK_CALLS = 64  # calls asked for at once, so that max_duration is looked at in between


def first(session: Any) -> int:
    """Return the time of one call in ns, by the command's own clock."""
    return int(session.timed_run(1)[0])


def measure(session: Any, plan: Plan) -> Timed:
    """Warm up and time a command; its own clock's samples, none of them made here."""
    deadline = time.monotonic_ns() + plan.max_duration_ns
    done, flat, before = 0, False, 0
    block = max(1, min(plan.warmup_max // 4, _CHUNK_CALLS))
    while done + block <= plan.warmup_max and not flat and time.monotonic_ns() < deadline:
        now = median(array("q", session.timed_run(block)))
        done += block
        flat = bool(before) and abs(now - before) < FLAT_RATIO * before
        before = now
    samples: List[int] = []
    begin = time.monotonic_ns()
    deadline = begin + plan.max_duration_ns
    while len(samples) < plan.iterations:
        samples += session.timed_run(min(_CHUNK_CALLS, plan.iterations - len(samples)))
        if time.monotonic_ns() >= deadline and len(samples) >= 2:
            break
    elapsed = time.monotonic_ns() - begin
    report = {
        "warmup_iterations": done,
        "warmup_flat": flat,
        "iterations_requested": plan.iterations,
        "iterations_got": len(samples),
        "ended_by": "iterations" if len(samples) >= plan.iterations else "max_duration",
        "clock": str(session.clock),
        "elapsed_ns": elapsed,
    }
    return Timed(array("q", samples), array("q"), report)


def summarise(session: Any, plan: Plan) -> Dict[str, Any]:
    """Return a measurement that has a summary and no samples."""
    summary = session.summarise(plan.iterations, plan.warmup_max, plan.max_duration_ns)
    return {
        "arrays": [],
        "summary": summary,
        "warmup_iterations": plan.warmup_max,
        "warmup_flat": None,
        "iterations_requested": plan.iterations,
        "iterations_got": summary.get("count", 0),
        "ended_by": "iterations",
        "clock": "the command's own",
    }
