"""Progress of long steps on a terminal; silent anywhere else.

One line at the bottom says what is being done and how far it is; it never ends up in a log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.status import Status

MIN_UPDATE_S = 0.1


class Progress:
    """Says what is going on. With no `stream`, or one that is no terminal, every method does nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._status: Status | None = None
        self._title = ""
        self._last_s = 0.0
        self._counted_from_s = 0.0

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        """Show `title` while the block runs; steps nest, the innermost is shown."""
        outer = self._title
        self._title = f"{outer} · {title}" if outer else title
        self._show(self._title)
        try:
            yield self
        finally:
            self._title = outer
            if outer:
                self._show(outer)
            else:
                self.stop()

    def say(self, text: str) -> None:
        """Show what the step is at now."""
        self._show(f"{self._title} · {text}" if self._title else text)

    def bytes(self, done: int, total: int) -> None:
        """Show how much of a transfer is done."""
        now = time.monotonic()
        if total and (done >= total or now - self._last_s > MIN_UPDATE_S):
            self._last_s = now
            self.say(f"{100 * done / total:.0f}% of {total / 1e6:.1f} MB")

    def count(self, what: str, done: int, total: int) -> None:
        """Show how far a counted step is (`done` of `total` are over) and about how long it will take yet."""
        now = time.monotonic()
        if done == 0:
            self._counted_from_s = now
            left = ""
        else:
            left = f", about {(now - self._counted_from_s) / done * (total - done):.0f} s left"
        self.say(f"{what} {done + 1} of {total}{left}")

    def share(self, step: str, done: float) -> None:
        """Show a step that knows its share done, 0 to 1."""
        self.say(f"{step} {100 * done:.0f}%")

    def stop(self) -> None:
        """Clear the line."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _show(self, text: str) -> None:
        if self._stream is None:
            return
        if self._status is None:
            from rich.console import Console

            self._status = Console(file=self._stream).status(_escaped(text), spinner="dots")
            self._status.start()
        else:
            self._status.update(_escaped(text))


def _escaped(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # never markup: names come from files
