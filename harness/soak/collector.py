"""Collecting a soak until it ends: short visits, back-off while the device is away, one collector alone.

The soak needs none of this: it runs and spools by itself. A collector that ends, however it ends, leaves it
running, and the next one goes on from the ledger.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from harness.errors import (
    AgentError,
    DataError,
    DeadlineExceeded,
    DeviceBusy,
    FencedError,
    HarnessError,
    TransientError,
    WireError,
)
from harness.remote.soak import SoakClient, SoakStatus
from harness.soak.fetch import Fetched, OnRecords, collect_once, repair
from harness.soak.ledger import Ledger
from harness.soak.spool import Record
from harness.units import counted, format_duration, how_often

# one visit's way to the device, agent and all; closed when the visit is over
Reach = Callable[[], AbstractContextManager[SoakClient]]

NS_PER_S = 1e9
SHORTEST_POLL_S = 1.0
_HOLDER = re.compile(r".*@(?P<host>\S+) pid (?P<pid>\d+)")


@dataclass(frozen=True)
class CollectSettings:
    """How often to look, and when to stop trusting. All in seconds of this host's time.

    `lease_s` protects from other collectors between visits; `stall_s` is how long a living runner may write
    nothing; `give_up_s` how long a device may be unreachable.
    """

    poll_s: float = 15.0
    first_poll_s: float = 5.0  # while the pace of a compressed soak isn't known
    longest_poll_s: float = 120.0  # where visits fail: back-off doubles up to this
    lease_s: float = 300.0
    stall_s: float = 900.0
    give_up_s: float = 86400.0
    gap_s: float = 300.0  # time without any collector from which it is told
    resumes_per_h: int = 20


@dataclass(frozen=True)
class Visit:
    """What one visit found. `ended` is why nothing more will come, "" while the soak goes on.

    `t_s` is soak time as of the device's last record; `lost_s` how long the link had been lost before.
    """

    status: SoakStatus
    fetched: Fetched
    t_s: float
    cost_s: float
    resumed: bool = False
    lost_s: float = 0.0
    ended: str = ""


# told each visit; returns why the soak must end now ("aborted: …"), None to go on
OnVisit = Callable[[Visit], str | None]


class Clock(Protocol):
    """This host's time. `now_s` goes on while the host is suspended."""

    def now_s(self) -> float: ...

    def realtime_ns(self) -> int: ...

    def sleep(self, seconds: float) -> None: ...


class HostClock:
    def now_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def realtime_ns(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class PowerCycles(Protocol):
    """Cuts a device's power when it is due (harness/soak/power.py)."""

    def run_due(self, ledger: Ledger, t_ns: int) -> bool: ...

    def next_due_ns(self, t_ns: int) -> int | None: ...


def this_holder() -> str:
    """Return how this process calls itself to other collectors: user@host pid N."""
    return f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()}"


def is_gone(holder: str) -> bool:
    """Return whether a holder was a process of this host that has ended. In doubt it lives."""
    match = _HOLDER.fullmatch(holder)
    if match is None or match["host"] != socket.gethostname():
        return False
    return not os.path.exists(f"/proc/{match['pid']}")


def how_to_attach(soak_id: str) -> str:
    """Return what to tell whoever leaves a soak running."""
    return f"The soak goes on by itself on the device. Collect it again with: harness soak attach {soak_id}"


class Collector:
    """One collector of one soak. `run` once."""

    def __init__(
        self,
        reach: Reach,
        ledger: Ledger,
        *,
        settings: CollectSettings | None = None,
        take_over: bool = False,
        on_records: OnRecords | None = None,
        power: PowerCycles | None = None,
        clock: Clock | None = None,
        holder: str = "",
    ) -> None:
        self._reach = reach
        self._ledger = ledger
        self._spec = ledger.read_spec()
        self._settings = settings or CollectSettings()
        self._take_over = take_over
        self._on_records = on_records
        self._power = power
        self._clock = clock or HostClock()
        self._holder = holder or this_holder()
        self._token = 0
        self._lost_since_s: float | None = None
        self._failures = 0
        self._resumed_at_s: list[float] = []
        self._progress = (-1, -1)  # (seq, t_ns) as last seen to move
        self._moved_at_s = self._clock.now_s()
        self._seen_at_s = self._clock.now_s()
        self._stop_reason: str | None = None
        self._told_gap = False
        # what earlier collectors have told: a segment that is read again brings it once more
        self._told_seq = int(ledger.read_state().seen.get("seq", 0))
        self._paced: tuple[float, float] | None = None  # (soak time, ours) at the visit before

    @property
    def token(self) -> int:
        """The token of this collector's claim; 0 before its first visit."""
        return self._token

    def run(self, on_visit: OnVisit | None = None) -> Visit:
        """Visit the device until the soak has ended and all of it is here; return the last visit.

        Raises FencedError when another collector takes over, DeviceBusy when one is at work already,
        DeadlineExceeded when the runner lives but writes nothing, what a visit raises when the device can't
        be reached for `give_up_s`. KeyboardInterrupt passes through, with a note on how to attach again.
        """
        try:
            while True:
                visit = self.visit_once()
                if visit is not None:
                    reason = on_visit(visit) if on_visit is not None else None
                    if visit.ended:
                        return visit
                    if reason is not None and self._stop_reason is None:
                        self._stop_reason = reason
                        continue  # at once
                    if self._power is not None and self._power.run_due(self._ledger, visit.status.t_ns):
                        self._moved_at_s = self._clock.now_s()
                self._clock.sleep(self._pause_s(visit))
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(how_to_attach(self._ledger.soak_id))
            raise

    def visit_once(self) -> Visit | None:
        """Visit the device once; return what it found, None where it can't be reached now.

        Raises as `run` does.
        """
        began_s = self._clock.now_s()
        try:
            with self._reach() as soaks:
                visit = self._look(soaks, began_s)
        except FencedError as error:
            self._ledger.add_event("fenced", self._estimate_t_ns(), str(error))
            raise
        except (TransientError, WireError, AgentError) as error:
            if isinstance(error, DeviceBusy) and self._token == 0:
                raise  # another collector is at work: a claim is a decision, not a matter of patience
            self._lose(error)
            return None
        self._failures = 0
        self._check_progress(visit.status)
        return visit

    def stop(self, soaks: SoakClient, reason: str, deadline_s: float) -> bool:
        """End the soak over an open connection and bring what is there then; return whether it has ended."""
        if self._token == 0:
            self._claim(soaks, self._status(soaks))
        done = soaks.stop(self._ledger.soak_id, self._token, reason, deadline_s=deadline_s)
        status = self._status(soaks)
        collect_once(soaks, self._ledger, self._token, status, self._tell)
        self._ledger.note_status(self._token, status.raw, self._clock.realtime_ns())
        return done

    def _look(self, soaks: SoakClient, began_s: float) -> Visit:
        status = self._status(soaks)
        if self._token == 0:
            self._claim(soaks, status)
        lost_s = self._reached_again(status)
        ended, resumed = self._keep_running(soaks, status)
        fetched = collect_once(soaks, self._ledger, self._token, status, self._tell)
        if self._stop_reason is not None and not ended:
            soaks.stop(self._ledger.soak_id, self._token, self._stop_reason)
        self._ledger.note_status(self._token, status.raw, self._clock.realtime_ns())
        now_s = self._seen_at_s = self._clock.now_s()
        cost_s = now_s - began_s
        return Visit(status, fetched, status.t_ns / NS_PER_S, cost_s, resumed, lost_s, ended)

    def _tell(self, records: Sequence[Record]) -> None:
        """Pass on records that are news."""
        news = [record for record in records if record["seq"] > self._told_seq]
        if news:
            self._told_seq = max(record["seq"] for record in news)
            if self._on_records is not None:
                self._on_records(news)

    def _status(self, soaks: SoakClient) -> SoakStatus:
        try:
            return soaks.status(self._ledger.soak_id)
        except AgentError as error:
            there = [status.id for status in soaks.list()]
            if self._ledger.soak_id in there:
                raise
            held = self._ledger.read_state().seen.get("seq", 0)
            raise DataError(
                f"isn't on the device any more; there are: {', '.join(there) or 'none'}. "
                f"{counted(held, 'record')} {'was' if held == 1 else 'were'} collected before.",
                where=self._ledger.soak_id,
                next_step="Was its disk replaced, or the soak removed?",
            ) from error

    def _claim(self, soaks: SoakClient, status: SoakStatus) -> None:
        """Become the one collector. One whose process has ended on this host gives way without asking."""
        soak_id = self._ledger.soak_id
        other = str(status.collector.get("holder") or "")
        take_over = self._take_over or is_gone(other)
        lease_s = self._settings.lease_s
        token = soaks.claim(soak_id, self._holder, take_over=take_over, lease_s=lease_s)
        self._ledger.adopt(token, self._holder)
        self._token = token
        repair(soaks, self._ledger, token, status)
        self._tell_gap()

    def _tell_gap(self) -> None:
        """Record for how long nobody has collected, as far as this host knows."""
        seen = self._ledger.read_state().seen
        if self._told_gap or "at_realtime_ns" not in seen:
            return
        self._told_gap = True
        away_s = (self._clock.realtime_ns() - int(seen["at_realtime_ns"])) / NS_PER_S
        if away_s > self._settings.gap_s:
            text = f"no collector for {format_duration(away_s)}; the device spooled meanwhile"
            self._ledger.add_event("collector_gap", int(seen["t_ns"]), text, {"away_s": away_s})

    def _keep_running(self, soaks: SoakClient, status: SoakStatus) -> tuple[str, bool]:
        """Bring a dead runner back where the soak's policy lets it. Returns why it has ended ("": it hasn't),
        and whether it was brought back."""
        if status.state == "ended":
            return "ended", False
        if status.state == "running":
            return "", False
        if status.state == "dead" and not self._spec.get("restart", {}).get("reboot", True):
            return "dead: its runner is gone, and the soak's policy doesn't bring it back", False
        now_s = self._clock.now_s()
        self._resumed_at_s = [at_s for at_s in self._resumed_at_s if now_s - at_s < 3600]
        if len(self._resumed_at_s) >= self._settings.resumes_per_h:
            return f"dead: its runner ended {how_often(len(self._resumed_at_s))} within an hour", False
        self._resumed_at_s.append(now_s)
        return "", soaks.resume(self._ledger.soak_id)

    def _check_progress(self, status: SoakStatus) -> None:
        now_s = self._clock.now_s()
        progress = (status.seq, status.t_ns)
        if progress != self._progress or status.state != "running":
            self._progress, self._moved_at_s = progress, now_s
            return
        still_s = now_s - self._moved_at_s
        if still_s > self._settings.stall_s:
            raise DeadlineExceeded(
                f"its runner (pid {status.pid}) lives but has written nothing for {still_s:.0f} s "
                f"(stall_s = {self._settings.stall_s:g}); the last record is {status.seq}.",
                where=self._ledger.soak_id,
                next_step="Look at runner.log in the soak's folder on the device, or end it: "
                f"harness soak stop {self._ledger.soak_id}",
            )

    def _lose(self, error: HarnessError) -> None:
        """Note that a visit failed; give up when none has worked for too long."""
        now_s = self._clock.now_s()
        self._failures += 1
        if self._lost_since_s is None:
            self._lost_since_s = self._seen_at_s
            self._ledger.add_event("link_lost", self._estimate_t_ns(), str(error), {"error": error.slug})
        if now_s - self._lost_since_s > self._settings.give_up_s:
            error.add_note(
                f"No visit has worked for {format_duration(now_s - self._lost_since_s)}. "
                + how_to_attach(self._ledger.soak_id)
            )
            raise error

    def _reached_again(self, status: SoakStatus) -> float:
        """Note that the device is back after a lost link; return for how long it was away, 0: it wasn't."""
        if self._lost_since_s is None:
            return 0.0
        lost_s = self._clock.now_s() - self._lost_since_s
        self._lost_since_s = None
        text = f"back after {format_duration(lost_s)}"
        self._ledger.add_event("link_back", status.t_ns, text, {"lost_s": lost_s})
        return lost_s

    def _pause_s(self, visit: Visit | None) -> float:
        """Return the wait until the next visit: less near the end or a power cycle, more after failures."""
        if visit is not None:
            cycle_ns = self._power.next_due_ns(visit.status.t_ns) if self._power is not None else None
            due_ns = visit.status.duration_ns if cycle_ns is None else cycle_ns
            left_s = due_ns / NS_PER_S - visit.t_s
            speed = self._speed(visit.t_s)
            soon_s = self._settings.first_poll_s if speed is None else left_s / speed + SHORTEST_POLL_S
            return min(self._settings.poll_s, max(SHORTEST_POLL_S, soon_s))
        longest = max(self._settings.poll_s, self._settings.longest_poll_s)
        return float(min(longest, max(1.0, self._settings.poll_s / 4) * 2 ** (self._failures - 1)))

    def _speed(self, t_s: float) -> float | None:
        """Return how much faster soak time passed than ours since the visit before; None: not known yet.

        It is 1 but for a compressed soak.
        """
        if not self._spec.get("compressed"):
            return 1.0
        now_s = self._clock.now_s()
        before, self._paced = self._paced, (t_s, now_s)
        if before is None or now_s <= before[1] or t_s <= before[0]:
            return None
        return (t_s - before[0]) / (now_s - before[1])

    def _estimate_t_ns(self) -> int:
        """Return soak time now as far as it can be known here: what was seen last, and the time since.

        Not in a compressed soak, whose time passes at a pace of its own.
        """
        seen = self._ledger.read_state().seen
        if "t_ns" not in seen:
            return 0
        if self._spec.get("compressed"):
            return int(seen["t_ns"])
        return int(seen["t_ns"]) + max(0, self._clock.realtime_ns() - int(seen["at_realtime_ns"]))


def stop_soak(reach: Reach, ledger: Ledger, reason: str, *, deadline_s: float = 60.0) -> bool:
    """End a soak on its device, taking it over from whoever collects it; what it spooled is brought too.

    Returns whether its runner had ended by the deadline; else it does after its slice. Raises as a visit.
    """
    with reach() as soaks:
        collector = Collector(reach, ledger, take_over=True)
        return collector.stop(soaks, reason, deadline_s)
