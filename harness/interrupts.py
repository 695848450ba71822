"""Ctrl-C: the first ends a session, the second is answered, the third is obeyed at once.

Between the first and the clean-up pytest formats a traceback: a second one there would cut short what stores
the session. Other requests to end are `signals`' job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

ANSWER = b"\nharness: ending; what was measured is being stored. Ctrl-C once more stops without that.\n"
_STDERR = 2  # written to below Python's own buffer, in which the signal may have come


class Interrupts:
    """While installed, counts Ctrl-C. Does nothing outside the main thread, or where SIGINT is another's."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def install(self) -> None:
        """Take over SIGINT from Python's own handler."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)

    def restore(self) -> None:
        """Give SIGINT back. Safe to call twice."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 2:
            with contextlib.suppress(OSError):  # a terminal that is gone needs no answer
                os.write(_STDERR, ANSWER)
            return
        signal.default_int_handler(number, frame)
