"""One request that is on its way to the agent, and its reply."""

from __future__ import annotations

import queue
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
        self._arrived: queue.SimpleQueue[wire.Frame | HarnessError] = queue.SimpleQueue()

    def put(self, arrived: wire.Frame | HarnessError) -> None:
        """Take a frame, or the reason why none will come, from the reading thread."""
        self._arrived.put(arrived)

    def wait(self) -> Reply:
        """Return the reply; call it once. Raises what failures.py makes of an error, or why there is none.

        `on_event` is called from here.
        """
        while True:
            try:
                arrived = self._arrived.get(timeout=max(0.0, self._due_s - time.monotonic()))
            except queue.Empty:
                raise self._too_late() from None
            if isinstance(arrived, HarnessError):
                raise arrived
            if arrived.type == "error":
                raise to_error(arrived.args, self.op, self._where)
            if arrived.type == "result":
                return Reply(arrived.args, bytes(arrived.payload))
            if self._on_event:
                self._on_event(arrived.args)

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"no answer to `{self.op}` for {self._timeout_s:.1f} s (timeout_s = {self._timeout_s:.1f}).",
            where=self._where,
            next_step="Check the load on the device, or raise the unit's timeout_s.",
        )
