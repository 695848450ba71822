"""SIGTERM and SIGHUP end a session as Ctrl-C does: what was measured is stored, nothing stays behind."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

# a supervisor's or CI's request to end, and a terminal that was closed
_REQUESTS = (signal.SIGTERM, signal.SIGHUP)


class Termination:
    """While installed, the first request to end raises KeyboardInterrupt; later ones are taken note of only.

    `cleaning_up` set beforehand makes the first one a later one: clean-up that has begun is not cut short
    (SIGKILL still is what it is). Does nothing outside the main thread, where Python allows no handlers.
    """

    def __init__(self) -> None:
        self.cleaning_up = False
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over the signals that nobody ignores: nohup's SIGHUP stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _REQUESTS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back. Safe to call twice."""
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.cleaning_up:
            self.cleaning_up = True
            raise KeyboardInterrupt(signal.Signals(number).name)
