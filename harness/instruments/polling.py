"""Samples of an instrument that gives one reading when asked: a thread on the host that asks at a fixed
rate."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from harness.errors import DeadlineExceeded, HarnessError
from harness.instruments.base import already_started, check_rate, find_channel, not_started
from harness.instruments.health import compute_health
from harness.model import Capture, Channel, Reading

_JOIN_GRACE_S = 1.0
_ERRORS_SHOWN = 5  # of different kinds; each has a count
MAX_SAMPLES = 20_000_000  # chosen: of one channel; a week at 30 Hz

ReadNow = Callable[[Sequence[Channel]], Sequence[float]]


class Poller:
    """Asks for the started channels together, every 1 / rate seconds; a late round leaves its slots out.

    `read_now` returns a value for each channel (NaN: it said nothing of that one) or raises HarnessError;
    then the round is NaN throughout and its reason is kept. `timeout_s` is the longest that `read_now`
    takes.
    """

    def __init__(
        self,
        name: str,
        read_now: ReadNow,
        *,
        clock_ns: Callable[[], int],
        timeout_s: float,
        stale_s: float | None,
    ) -> None:
        self._name = name
        self._read_now = read_now
        self._clock_ns = clock_ns
        self._timeout_s = timeout_s
        self._stale_s = stale_s
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()  # the meter answers one question at a time
        self._channels: tuple[Channel, ...] = ()
        self._rate_hz = 1.0
        self._began_ns = 0
        self._t_ns: list[int] = []
        self._rounds: list[tuple[float, ...]] = []
        self._errors: Counter[str] = Counter()
        self._crash: BaseException | None = (
            None  # what `_poll` ended with, where it isn't the meter's failure
        )

    def read(self, channel: Channel) -> Reading:
        """Return one reading, stamped in the middle of its round trip. Raises as `read_now` does."""
        with self._lock:
            before = self._clock_ns()
            (value,) = self._read_now([channel])
            return Reading((before + self._clock_ns()) // 2, value)

    def start(self, channels: Sequence[Channel], channel_ids: Sequence[str], rate_hz: float) -> None:
        """Begin to ask. Raises ConfigError, Unsupported or DeviceError as Instrument.start says."""
        if self._thread is not None:
            raise already_started(self._name)
        chosen = tuple(find_channel(self._name, channels, id_) for id_ in channel_ids)
        for channel in chosen:
            check_rate(self._name, channel, rate_hz)
        self._channels, self._rate_hz = chosen, rate_hz
        self._t_ns, self._rounds, self._errors = [], [], Counter()
        self._ending.clear()
        self._began_ns = self._clock_ns()
        self._thread = threading.Thread(target=self._run, name=f"instrument-{self._name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._poll()
        except BaseException as error:  # noqa: BLE001  a defect of an instrument: `stop` raises it
            self._crash = error

    def _poll(self) -> None:
        period_ns = 1e9 / self._rate_hz
        slot = 0
        while not self._ending.is_set() and len(self._t_ns) < MAX_SAMPLES:
            with self._lock:
                before = self._clock_ns()
                values = self._ask()
                after = self._clock_ns()
            self._t_ns.append((before + after) // 2)
            self._rounds.append(values)
            slot = max(slot + 1, math.floor((after - self._began_ns) / period_ns) + 1)
            due_ns = self._began_ns + slot * period_ns
            self._ending.wait(max(0.0, (due_ns - self._clock_ns()) / 1e9))

    def _ask(self) -> tuple[float, ...]:
        try:
            return tuple(self._read_now(self._channels))
        except HarnessError as error:  # kept, and told in the captures' health
            self._errors[str(error)] += 1
            return (math.nan,) * len(self._channels)

    def stop(self) -> tuple[Capture, ...]:
        """End asking; return the captures.

        Raises DeviceError when nothing was started, DeadlineExceeded when the last question doesn't end, and
        whatever an instrument raised that is no HarnessError.
        """
        thread = self._thread
        if thread is None:
            raise not_started(self._name)
        self._end(thread)
        window = (self._began_ns, self._clock_ns())
        errors = [f"{why} ({count} times)" for why, count in self._errors.most_common(_ERRORS_SHOWN)]
        t_ns = np.array(self._t_ns, np.int64)
        values = np.array(self._rounds, np.float64).reshape(len(self._t_ns), len(self._channels))
        captures = []
        for i, channel in enumerate(self._channels):
            health = compute_health(
                channel,
                t_ns,
                values[:, i],
                rate_hz=self._rate_hz,
                window_ns=window,
                stale_s=self._stale_s,
                errors=errors,
            )
            captures.append(Capture(channel, t_ns, np.ascontiguousarray(values[:, i]), health))
        return tuple(captures)

    def _end(self, thread: threading.Thread) -> None:
        self._ending.set()
        limit_s = self._timeout_s * (len(self._channels) + 1) + _JOIN_GRACE_S
        thread.join(limit_s)
        if thread.is_alive():
            raise DeadlineExceeded(
                f"its last reading did not end within {limit_s:.1f} s.",
                where=self._name,
                next_step="Check the meter and its cable.",
            )
        self._thread = None
        crash, self._crash = self._crash, None
        if crash is not None:
            raise crash

    def close(self) -> None:
        """End asking, if it was begun."""
        if self._thread is not None:
            self._end(self._thread)
