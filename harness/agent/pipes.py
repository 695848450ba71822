"""Writing to a pipe without ever waiting for its reader."""

from __future__ import annotations

import os
from collections import deque
from typing import Deque

from .wire import Frame, encode_header


class Outbox:
    """Frames on their way into a non-blocking descriptor. The event loop calls `flush` when it has room."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._pieces: Deque[memoryview] = deque()

    def put(self, frame: Frame) -> None:
        """Queue a frame. Raises WireFault if it breaks a size limit; nothing is queued then."""
        self._pieces.append(memoryview(encode_header(frame)))
        if len(frame.payload):
            self._pieces.append(memoryview(frame.payload))

    def flush(self) -> None:
        """Write what the descriptor takes now. Raises OSError when its reader is gone."""
        while self._pieces:
            piece = self._pieces[0]
            try:
                written = os.write(self.descriptor, piece[: 1 << 20])
            except BlockingIOError:
                return
            if written == len(piece):
                self._pieces.popleft()
            else:
                self._pieces[0] = piece[written:]

    @property
    def pending(self) -> bool:
        return bool(self._pieces)
