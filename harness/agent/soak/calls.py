"""A stream's calls inside the measured child: a slice at a time, as its cycle says, counted and not kept.

Waits sleep, also the last microseconds: on a board whose idle time is skipped a busy loop would hold up time,
and over days it would heat what it measures. So a call begins some 0.1 ms after it is due.
"""

from __future__ import annotations

import signal
import time
from array import array
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from .. import timing
from ..args import Args
from ..faults import Fault, first_line
from ..model import Model
from ..wire import WireFault, unpack_tensors
from .cycles import Schedule, parse_cycle
from .tally import Tally

STOP_SIGNAL = signal.SIGUSR1  # ends the present slice and all that follow, once `soak_begin` was answered
LATE_NS = 1000000  # docs/soak-format.md
# After a failed call of a closed loop, doubled with each that follows: a model that fails at once would spin
ERROR_PAUSE_NS, MAX_ERROR_PAUSE_NS = 10000000, 1000000000
_SOAK_NS = 1 << 60

Clock = Callable[[], int]
Timed = Callable[[], int]  # makes a call, returns its time in ns


class _Told(Exception):
    """STOP_SIGNAL came during a wait."""


class Stop:
    """Whether STOP_SIGNAL came. `wait` ends when it comes.

    It sleeps by clock_nanosleep(2), late by the timer slack of 50 µs. select(2) would be late by a thousandth
    of the wait, up to 100 ms (fs/select.c, select_estimate_accuracy; seen on the emulated board).
    """

    def __init__(self) -> None:
        self.told = False
        self._waits = False
        signal.signal(STOP_SIGNAL, self._tell)

    def _tell(self, _number: int, _frame: Any) -> None:
        self.told = True
        if self._waits:
            self._waits = False
            raise _Told  # or Python would go on sleeping (PEP 475)

    def wait(self, duration_ns: int) -> None:
        """Sleep, at most until told."""
        try:
            self._waits = True
            if not self.told:
                time.sleep(duration_ns / 1e9)
            self._waits = False  # still in here: what comes before it is caught
        except _Told:
            return

    def close(self) -> None:
        signal.signal(STOP_SIGNAL, signal.SIG_IGN)


class Caller:
    """Makes the calls of one stream. Times are soak time, `now_ns` returns it."""

    def __init__(self, call: Timed, schedule: Schedule, after_ns: int, now_ns: Clock, stop: Stop) -> None:
        self._call = call
        self._open = schedule.is_open
        self._due: Iterator[int] = schedule.due_after(after_ns)
        self._next_ns: Optional[int] = next(self._due, None)
        self._served_ns = after_ns
        self._now_ns = now_ns
        self._stop = stop
        self._failures = 0  # in a row
        self._error_text = ""

    def slice(self, until_ns: int) -> Dict[str, Any]:
        """Make the calls that begin before `until_ns`; return their counts.

        It returns as soon as no call is due before `until_ns`, so that the next slice's first call isn't
        held up by this one's end. `served_ns`: no call due by then is left to make.
        """
        tally = Tally()
        if self._open:
            self._open_loop(tally, until_ns)
        else:
            self._closed_loop(tally, until_ns)
        text, self._error_text = self._error_text, ""
        return dict(tally.to_args(), served_ns=self._served_ns, error_text=text)

    def _open_loop(self, tally: Tally, until_ns: int) -> None:
        while not self._stop.told:
            due_ns = self._next_ns
            if due_ns is None or due_ns >= until_ns:
                self._served_ns = max(self._served_ns, until_ns - 1)
                return
            now_ns = self._now_ns()
            if now_ns < due_ns:
                self._stop.wait(due_ns - now_ns)
                continue
            if now_ns >= until_ns and tally.calls:
                return  # behind: what is left is made in the next slice
            tally.began(now_ns - due_ns, LATE_NS)
            self._make(tally)
            self._served_ns = due_ns
            self._next_ns = next(self._due, None)

    def _closed_loop(self, tally: Tally, until_ns: int) -> None:
        while not self._stop.told:
            now_ns = self._now_ns()
            if now_ns >= until_ns:
                break
            if self._failures:
                pause_ns = min(MAX_ERROR_PAUSE_NS, ERROR_PAUSE_NS << min(self._failures - 1, 20))
                self._stop.wait(min(pause_ns, until_ns - now_ns))
                if self._stop.told or self._now_ns() >= until_ns:
                    break
            self._make(tally)
        self._served_ns = max(self._served_ns, min(until_ns, self._now_ns()))

    def _make(self, tally: Tally) -> None:
        """Make one call. What it raises is counted and told by its kind."""
        begin_ns = self._now_ns()
        try:
            tally.succeeded(self._call())
            self._failures = 0
        except Exception as error:  # noqa: BLE001 (recorded: counted by kind, its text is in the answer)
            if isinstance(error, Fault) and error.kind == "child_died":
                raise
            self._failures += 1
            tally.failed(error.kind if isinstance(error, Fault) else type(error).__name__)
            self._error_text = "%s: %s" % (type(error).__name__, first_line(error)[:300])
        tally.busy_ns += self._now_ns() - begin_ns


class Soak:
    """The ops of a child that takes part in a soak."""

    def __init__(self, model: Model, args: Args, payload: Any) -> None:
        """Make ready for slices: args of `soak_begin`."""
        cycle = args.mapping("cycle")
        epoch_ns = args.integer("epoch_ns", low=-_SOAK_NS, high=_SOAK_NS)
        after_ns = args.integer("after_ns", -1, -1, _SOAK_NS)
        entries = args.items("arrays", [])
        args.done()
        if entries:
            cycle = dict(cycle, offsets_ns=_read_offsets(entries, payload))
        schedule = parse_cycle(cycle, "soak_begin: cycle")
        self._stop = Stop()
        now_ns = soak_clock(epoch_ns)
        call = timed_call(model)
        self.after_ns = now_ns() if after_ns < 0 else after_ns
        self._caller = Caller(call, schedule, self.after_ns, now_ns, self._stop)

    def slice(self, args: Args) -> Dict[str, Any]:
        """Answer the op `soak`."""
        until_ns = args.integer("until_ns", low=0, high=_SOAK_NS)
        args.done()
        return self._caller.slice(until_ns)

    def close(self) -> None:
        self._stop.close()


def soak_clock(epoch_ns: int) -> Clock:
    """Return a clock of soak time: 0 was at `epoch_ns` of CLOCK_BOOTTIME, before the boot after a reboot."""
    read, boottime = time.clock_gettime_ns, time.CLOCK_BOOTTIME
    return lambda: read(boottime) - epoch_ns


def timed_call(model: Model) -> Timed:
    """Return what makes one call and returns its time. Raises `unsupported` where none can be told apart."""
    session = model.own_timer()
    if session is not None:
        return _external_call(session)
    next_call, invoke, _ = model.calls("soak")
    now_ns = timing._now_ns

    def call() -> int:
        ready = invoke if next_call is None else next_call()
        begin_ns = now_ns()
        ready()
        return now_ns() - begin_ns

    return call


def _external_call(session: Any) -> Timed:
    """Return a call of a command, by the command's own clock. Its end is `child_died`."""

    def call() -> int:
        try:
            return int(session.timed_run(1)[0])
        except Exception as error:
            code = getattr(session, "exit_code", lambda: None)()
            if code is None:
                raise
            how = "died of signal %d" % -code if code < 0 else "exited with %d" % code
            raise Fault(
                "child_died",
                "the command %s: %s" % (how, first_line(error)),
                signal=-code if code < 0 else None,
                exit_code=code if code >= 0 else None,
            ) from error

    return call


def _read_offsets(entries: Any, payload: Any) -> Any:
    """Return the times of a trace. They travel as an array: a header holds 1 MiB."""
    try:
        tensors = unpack_tensors(entries, payload)
    except WireFault as error:
        raise Fault("bad_request", "soak_begin: %s" % error) from None
    found: Tuple[Any, ...] = tuple((t.name, t.dtype, len(t.shape)) for t in tensors)
    if found != (("offsets_ns", "int64", 1),):
        raise Fault(
            "bad_request", "soak_begin: the arrays are %s, expected `offsets_ns` int64 (n,)" % (found,)
        )
    return list(array("q", bytes(tensors[0].data)))
