"""What this process uses of what others may remove: files and folders, each held by a lock until it ends.

Whoever removes asks `unused` first. A lock ends with its holder, however that ends, so nothing is held for
ever; and none is inherited by what the process starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_held: dict[Path, int] = {}  # descriptors, each with a shared lock


def use(path: Path) -> bool:
    """Hold a file or folder until this process ends; return whether it is there. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)  # of who removes it, which takes an instant
        if not _is_at(fd, path):
            os.close(fd)
            return False
    except BaseException:
        os.close(fd)
        raise
    before = _held.get(path)
    _held[path] = fd
    if before is not None:
        os.close(before)
    return True


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Yield whether no process uses a file or folder; if so, none begins to in the block. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


def let_go() -> None:
    """Use nothing any more."""
    while _held:
        os.close(_held.popitem()[1])


def _is_at(fd: int, path: Path) -> bool:
    """Return whether `path` is still what was opened."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
