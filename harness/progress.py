"""Progress of long steps on a terminal; silent anywhere else.

What is being done is shown after the cursor, in place, and wiped before anything else is written there: it
never ends up in a log, and leaves the line of whoever else writes to the terminal (pytest) alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

MIN_UPDATE_S = 0.1
# ECMA-48 and DEC: save the cursor, restore it, erase to the end of the line
_SAVE, _RESTORE, _ERASE = "\x1b7", "\x1b8", "\x1b[K"


class Progress:
    """Says what is going on. With no `stream`, or one that is no terminal, every method does nothing.

    `column` returns how much of the terminal's line is taken by others.
    """

    def __init__(
        self,
        stream: TextIO | None,
        *,
        column: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._column = column
        self._clock = clock
        self._console: Console | None = None
        self._title = ""
        self._shown_at_s = float("-inf")
        self._counted_from_s = 0.0

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        """Show `title` while the block runs; steps nest, the innermost is shown."""
        outer = self._title
        self._title = title
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
        if total and (done >= total or self._due()):
            self.say(f"{100 * done / total:.0f}% of {total / 1e6:.1f} MB")

    def count(self, what: str, done: int, total: int) -> None:
        """Show how far a counted step is (`done` of `total` are over) and about how long it will take yet."""
        now = self._clock()
        left = ""
        if done == 0:
            self._counted_from_s = now
        else:
            left = f", about {(now - self._counted_from_s) / done * (total - done):.0f} s left"
        self.say(f"{what} {done + 1} of {total}{left}")

    def share(self, step: str, done: float) -> None:
        """Show a step that knows its share done, 0 to 1."""
        if done >= 1 or self._due():
            self.say(f"{step} {100 * done:.0f}%")

    def stop(self) -> None:
        """Wipe what is shown."""
        if self._stream is not None and self._console is not None:
            self._stream.write(_ERASE)
            self._stream.flush()

    def _due(self) -> bool:
        return self._clock() - self._shown_at_s > MIN_UPDATE_S

    def _show(self, text: str) -> None:
        if self._stream is None:
            return
        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            self._console = Console(file=self._stream, highlight=False)
        room = self._console.width - self._column() - 2
        if room < 8:
            return
        shown = Text(f" {text}", style="dim")  # never markup: names come from files
        shown.truncate(room, overflow="ellipsis")
        with self._console.capture() as capture:
            self._console.print(shown, end="", soft_wrap=True)
        self._stream.write(f"{_SAVE}{capture.get()}{_ERASE}{_RESTORE}")
        self._stream.flush()
        self._shown_at_s = self._clock()
