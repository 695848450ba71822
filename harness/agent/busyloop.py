"""The busy loop of an emulated board's timing profile (docs/emulated-device.md), stopped where it would lie.

A process that has used up its CPU quota comes back when its next period begins, but on a core that isn't idle
only at the next scheduler tick: with 1 of every 2 ms it got 1 of every 4 (250 Hz; measured: 4.05 times as
long instead of 2). And however little the loop is due beside a process that calls a model over and over, it
gets it a tick at a time: 4 ms of one call every 1.3 s (measured). So the loop stands still while such a
process works. On other devices there is none.
"""

from __future__ import annotations

import os
import signal

from .parsing import Unreadable, parse_integer, read_text
from .probes import Probes

PID_FILE = "/run/hil/spin.pid"


class BusyLoop:
    """Stops and continues the loop. While it stands still, idle time flies."""

    def __init__(self, probes: Probes) -> None:
        self._file = probes.root + PID_FILE
        self._users = 0

    def stop(self) -> None:
        """Let it stand still until `go` has been called as often."""
        self._users += 1
        self._signal(signal.SIGSTOP)

    def go(self) -> None:
        """Take back one `stop`."""
        self._users -= 1
        if self._users <= 0:
            self.reset()

    def reset(self) -> None:
        """Let it run, whoever stopped it: also an agent that was killed."""
        self._users = 0
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        try:
            pid = parse_integer(read_text(self._file), self._file)
        except Unreadable:
            return  # no such loop on this device
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            return  # it has ended; or the number is another's by now
