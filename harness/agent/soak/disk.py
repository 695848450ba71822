"""The calls by which a spool touches the disk, in one place: tests script a full or failing one."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Dict

FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK_BYTES = 4096


def note(text: str) -> None:
    """Write a line to the runner's log, which is on the disk that may be full: then the line is lost."""
    with contextlib.suppress(OSError):
        sys.stderr.write("agent soak: %s\n" % text)


class Disk:
    """Thin over os. Every method may raise OSError."""

    def open(self, path: str, flags: int) -> int:
        """Return a descriptor that isn't inherited."""
        return os.open(path, flags | os.O_CLOEXEC, 0o644)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Return how many bytes were taken, as pwrite(2) does."""
        return os.pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        os.ftruncate(descriptor, size_bytes)

    def sync(self, descriptor: int) -> None:
        """Return when data, and the size that is needed to read it, are on the disk (fdatasync(2))."""
        os.fdatasync(descriptor)

    def allocate(self, descriptor: int, size_bytes: int) -> None:
        """Give a file blocks of its own, so that they can be handed on later."""
        os.posix_fallocate(descriptor, 0, size_bytes)

    def size(self, descriptor: int) -> int:
        """Return an open file's size in bytes, -1 once it was removed."""
        found = os.fstat(descriptor)
        return found.st_size if found.st_nlink else -1

    def sizes(self, folder: str) -> Dict[str, int]:
        """Return the sizes in bytes of the files in a folder by name."""
        found = {}
        for entry in list(os.scandir(folder)):
            with contextlib.suppress(FileNotFoundError):
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
        return found

    def read(self, path: str) -> bytes:
        """Return a file's content; blocks that can't be read any more (EIO) are zeros in it."""
        pieces = []
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            try:
                whole = os.pread(descriptor, size, 0)
                if len(whole) == size:
                    return whole
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
            for offset in range(0, size, _BLOCK_BYTES):
                try:
                    pieces.append(os.pread(descriptor, _BLOCK_BYTES, offset))
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    pieces.append(bytes(min(_BLOCK_BYTES, size - offset)))
        finally:
            os.close(descriptor)
        return b"".join(pieces)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
