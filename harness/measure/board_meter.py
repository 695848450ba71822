"""The emulated board's meter on the host: nothing is asked of the core that is measured.

Power is what the INA219 on its bus shows, temperature what the LM75 shows: their faults reach a run as a real
board's do. Every number is an estimate, with the boundary "board model", at the guest's own times.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from harness.errors import DataError, DeadlineExceeded, HarnessError
from harness.instruments.base import already_started, find_channel, not_started
from harness.instruments.health import compute_health
from harness.model import Capture, Channel, ChannelKind, Fidelity, Mode, Reading

NAME = "board"
BOUNDARY = "board model"
RATE_HZ = 10.0  # of guest time: the model's steps
POLL_S = 0.02  # of the host: the model steps every 100 ms of guest time, under load some ten times as long
JOIN_S = 15.0  # an answer takes at most 10 s


class ModelReading(Protocol):
    """One step of the model. `at_ns` is the guest's CLOCK_MONOTONIC."""

    @property
    def at_ns(self) -> int: ...
    @property
    def shown_temp_c(self) -> float | None: ...
    @property
    def shown_power_w(self) -> float | None: ...
    @property
    def ambient_c(self) -> float | None: ...
    @property
    def throttled_bits(self) -> int: ...


_VALUES: dict[str, Callable[[ModelReading], float | None]] = {
    "power_w": lambda r: r.shown_power_w,
    "temp_c": lambda r: r.shown_temp_c,
    "throttle_bits": lambda r: float(r.throttled_bits),
    "ambient_temp_c": lambda r: r.ambient_c,
}


class BoardMeter:
    """Power, temperature and throttling of an emulated board, each step of its model once."""

    name = NAME

    def __init__(self, read_model: Callable[[], ModelReading | None], *, where: str) -> None:
        self._read_model = read_model
        self._where = where
        self._channels = (
            _channel("power_w", ChannelKind.POWER_W, "board", "INA219"),
            _channel("temp_c", ChannelKind.TEMP_C, "soc", "LM75"),
            _channel("throttle_bits", ChannelKind.THROTTLE_BITS, "soc", "firmware"),
            _channel("ambient_temp_c", ChannelKind.TEMP_C, "ambient", "as it is set"),
        )
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._started: tuple[Channel, ...] = ()
        self._steps: list[ModelReading] = []
        self._errors: list[str] = []

    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    def read(self, channel_id: str) -> Reading:
        """Return the model's last step.

        Raises DeadlineExceeded where it doesn't run, DataError where the chip gives no answer.
        """
        channel = find_channel(self.name, self._channels, channel_id)
        step = self._read_model()
        if step is None:
            raise DeadlineExceeded("its board model isn't running.", where=self._where)
        value = _VALUES[channel.id](step)
        if value is None:
            raise DataError(f"its {_silent(channel)}", where=self._where)
        return Reading(step.at_ns, value)

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        """Take every step of the model from now on; `rate_hz` is the model's own."""
        if self._thread is not None:
            raise already_started(self.name)
        self._started = tuple(find_channel(self.name, self._channels, id_) for id_ in channel_ids)
        self._steps, self._errors = [], []
        self._ending.clear()
        self._thread = threading.Thread(target=self._poll, name=f"board-{self._where}", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._ending.wait(POLL_S):
            try:
                step = self._read_model()
            except HarnessError as error:
                self._errors.append(str(error))
                return
            if step is None:
                continue
            if self._steps and step.at_ns == self._steps[-1].at_ns:
                self._steps[-1] = step  # a fault came or went since
            else:
                self._steps.append(step)

    def stop(self) -> tuple[Capture, ...]:
        if self._thread is None:
            raise not_started(self.name)
        self.close()
        t_ns = np.array([step.at_ns for step in self._steps], dtype=np.int64)
        captures = []
        for channel in self._started:
            read = (_VALUES[channel.id](step) for step in self._steps)
            values = np.array([math.nan if value is None else value for value in read], dtype=np.float64)
            missing = int(np.count_nonzero(np.isnan(values)))
            silent = [f"{_silent(channel)} ({missing} times)"] if missing else []
            errors = (*self._errors, *silent)
            health = compute_health(channel, t_ns, values, rate_hz=None, stale_s=0, errors=errors)
            captures.append(Capture(channel, t_ns, values, health))
        return tuple(captures)

    def close(self) -> None:
        """End taking steps. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ending.set()
            thread.join(JOIN_S)


def _silent(channel: Channel) -> str:
    return f"{channel.source.removeprefix(BOUNDARY + ', ')} gives no reading"


def _channel(id_: str, kind: ChannelKind, site: str, source: str) -> Channel:
    return Channel(
        id_,
        site,
        kind,
        Mode.CONTINUOUS,
        RATE_HZ,
        boundary=BOUNDARY,
        clock="device",
        fidelity=Fidelity.ESTIMATED,
        source=f"{BOUNDARY}, {source}",
    )
