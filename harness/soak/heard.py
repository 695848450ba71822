"""How old it is what a host knows of a soak, and whether that is older than it should be. Pure."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from harness.soak.glance import LOST, UNCOLLECTED, Glance
from harness.units import format_duration

# A collector visits each minute at most, each two minutes where visits fail; from so long on an absence is
# told on the time line too (CollectSettings.gap_s).
SILENT_S = 300.0
# Chosen: a runner that goes on after a reboot, and the last visit, take that long past the duration.
GRACE_S = 600.0

SILENT = "silent"
OVERDUE = "overdue"


@dataclass(frozen=True)
class Heard:
    """`age_s`: since the device was heard, None where it never was or that doesn't matter any more.

    `late` is SILENT where nobody has heard of it for longer than a collector is quiet, OVERDUE where its
    duration must be over by now, else "". `why` says so in words.
    """

    age_s: float | None
    late: str = ""
    why: str = ""


def heard_of(glance: Glance, now: datetime.datetime) -> Heard:
    """Return how fresh a glance is that was taken at `now` (aware of its zone).

    Of a soak that has ended as far as is known nothing new is to come, so that it is never late.
    """
    age_s = glance.contact.seen_ago_s
    if glance.stored:
        return Heard(None)
    if glance.state in ("ended", LOST):
        return Heard(age_s)
    since_s = age_s if age_s is not None else _since_start_s(glance, now)
    if since_s is None:
        return Heard(age_s)
    past_s = glance.reached_s + since_s - glance.duration_s
    if not glance.compressed and past_s > GRACE_S and since_s > SILENT_S:
        return Heard(
            age_s, OVERDUE, f"its duration, {format_duration(glance.duration_s)}, was over {_ago(past_s)}"
        )
    if glance.state != UNCOLLECTED and since_s > SILENT_S:
        return Heard(age_s, SILENT, f"nobody here has heard of it for {format_duration(round(since_s), 2)}")
    return Heard(age_s)


def _since_start_s(glance: Glance, now: datetime.datetime) -> float | None:
    """Return how long ago it was started, None where its spec doesn't say."""
    if not glance.started_at:
        return None
    try:
        started = datetime.datetime.fromisoformat(glance.started_at)
    except ValueError:
        return None
    if started.tzinfo is None:  # whose clock it was isn't known
        return None
    return max(0.0, (now - started).total_seconds())


def _ago(seconds: float) -> str:
    return f"{format_duration(round(seconds), 2)} ago"
