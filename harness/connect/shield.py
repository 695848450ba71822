"""Work that Ctrl-C may stop between its steps but not in the middle of one.

Python raises KeyboardInterrupt in the main thread wherever it is: halfway through a packet, and the rest of
the connection is noise. So the work is done in a thread of its own, which is asked to stop and waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.connect.base import Progress

STOP_TIMEOUT_S = 15.0  # chosen: over the longest single step, an unlink's deadline


class Stopped(Exception):
    """The transfer was asked to stop. Never leaves `shielded`."""


def shielded(work: Callable[[Progress], None], progress: Progress | None) -> None:
    """Call `work` with a progress function that it calls between its steps; raise what it raises.

    When the caller is interrupted, the next call of that function raises Stopped inside `work`; the
    interrupt goes on when `work` has cleaned up, or after STOP_TIMEOUT_S.
    """
    stop, ended = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def between_steps(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped("stopped by an interrupt")
        if progress is not None:
            progress(done, total)

    def run() -> None:
        try:
            work(between_steps)
        except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
            errors.append(error)
        finally:
            ended.set()

    try:
        threading.Thread(target=run, name="transfer", daemon=True).start()
        ended.wait()
    except BaseException:
        stop.set()
        ended.wait(STOP_TIMEOUT_S)
        raise
    if errors:
        raise errors[0]
