"""The few steps by which a ledger changes its files. Tests put a layer here that breaks off between two."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from harness.store.atomic import disk_errors, sync_folder, write_bytes

_THEN = "The soak itself goes on; attach to it again then."


class LedgerFiles:
    """Plain files. Every method raises HostSetupError when the disk refuses."""

    def append(self, path: Path, data: bytes) -> None:
        """Write `data` at the end of `path`, made where there is none. Not on the disk until `sync`."""
        with _disk_errors(path), path.open("ab") as file:
            file.write(data)

    def sync(self, path: Path) -> None:
        """Have the disk hold what `path` holds, and that it exists."""
        with _disk_errors(path):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            sync_folder(path.parent)

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Cut `path` off after `size_bytes`."""
        with _disk_errors(path):
            os.truncate(path, size_bytes)

    def replace(self, path: Path, data: bytes) -> None:
        """Write `data` to `path`, whole or not at all."""
        write_bytes(path, data, then=_THEN)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the block; waits for whoever else has it (for one append at most)."""
    with _disk_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _disk_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    return disk_errors(path, then=_THEN)
