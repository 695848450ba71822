"""One request that is on its way to the agent, and its reply."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.agent import wire
from harness.errors import DeadlineExceeded, HarnessError
from harness.remote.failures import to_error

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Reply:
    """The result of one op."""

    args: Mapping[str, Any]
    payload: bytes = b""


class Pending:
    """A request that is on its way. `wait` returns its Reply."""

    def __init__(self, op: str, timeout_s: float, where: str, on_event: OnEvent | None) -> None:
        self.op = op
        self._where = where
        self._timeout_s = timeout_s
        self._due_s = time.monotonic() + timeout_s
        self._on_event = on_event
        self._done = threading.Event()
        self._events: list[Mapping[str, Any]] = []
        self._frame: wire.Frame | None = None
        self._error: HarnessError | None = None

    def receive(self, frame: wire.Frame) -> bool:
        """Take a frame from the reader; return whether it was the last one."""
        if frame.type == "event":
            if self._on_event:
                self._on_event(frame.args)
            return False
        self._frame = frame
        self._done.set()
        return True

    def fail(self, error: HarnessError) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> Reply:
        """Return the reply. Raises what failures.py makes of an error frame, or why there is none."""
        if not self._done.wait(max(0.0, self._due_s - time.monotonic())):
            raise DeadlineExceeded(
                f"no answer to `{self.op}` for {self._timeout_s:.1f} s (timeout_s = {self._timeout_s:.1f}).",
                where=self._where,
                next_step="Check the load on the device, or raise the unit's timeout_s.",
            )
        if self._error is not None:
            raise self._error
        frame = self._frame
        assert frame is not None  # set before `_done`
        if frame.type == "error":
            raise to_error(frame.args, self.op, self._where)
        return Reply(frame.args, bytes(frame.payload))
