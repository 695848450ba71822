"""What a contract test holds: one connection of some kind, and ways to look behind it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.connect.base import Connection

LONG_S = 120.0  # only ends what hangs: a busy host takes many times as long as a quiet one


@dataclass(frozen=True)
class Bench:
    """A way to one device of `kind`. `open` makes further connections to it, also as its root user."""

    kind: str
    connection: Connection
    open: Callable[..., Connection]

    def is_alive(self, pid: int) -> bool:
        """Return whether a process runs on the device; one that nobody has reaped yet doesn't."""
        stat = self.connection.run(["cat", f"/proc/{pid}/stat"], timeout_s=LONG_S, check=False)
        return stat.returncode == 0 and stat.stdout.rpartition(b")")[2].split()[0] not in (b"Z", b"X")

    def ends(self, pid: int, within_s: float = LONG_S) -> bool:
        """Return whether the process is gone, waiting for it up to `within_s`."""
        return eventually(lambda: not self.is_alive(pid), within_s)

    @contextlib.contextmanager
    def interrupted_once(self, path: str) -> Iterator[None]:
        """Send this process what Ctrl-C sends, as soon as the device's file `path` holds something."""

        def wait_and_interrupt() -> None:
            def there() -> bool:
                done = self.connection.run(["test", "-s", path], timeout_s=LONG_S, check=False)
                return done.returncode == 0

            eventually(there, LONG_S)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=wait_and_interrupt, daemon=True)
        thread.start()
        yield
        thread.join(LONG_S)


def eventually(condition: Callable[[], bool], within_s: float = LONG_S, every_s: float = 0.02) -> bool:
    """Return whether `condition` comes true in time. `every_s`: longer where each look keeps a board busy."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True
