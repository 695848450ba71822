"""Copying one file, whole or not at all, and what to say when that fails."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from harness.connect.base import Progress
from harness.connect.streams import Deadline
from harness.errors import (
    ConfigError,
    DeadlineExceeded,
    DeviceError,
    DeviceFull,
    HarnessError,
    HostSetupError,
)


class Readable(Protocol):
    """A file to copy from."""

    def read(self, size: int, /) -> bytes: ...


_COPY_BYTES = 2 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def temporary_name() -> str:
    """Return a fresh file name, short enough beside any target name (255 bytes on Linux)."""
    return f".harness-{uuid.uuid4().hex}.part"


def check_absolute(path: str, device_name: str) -> None:
    """Raise ConfigError unless `path` is an absolute path that a device can hold."""
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(
            f"a path on the device must be absolute and free of NUL, got {path!r}", where=device_name
        )


def open_source(path: Path) -> io.FileIO:
    """Return a host file opened for reading. Raises ConfigError when it can't be."""
    try:
        return io.FileIO(path)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes `target`'s place, synced to disk, once the block ends without an error."""
    temporary = target.parent / temporary_name()
    try:
        with open(temporary, "xb", buffering=0) as out:
            yield out
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def copy(
    stream: Readable,
    write: Callable[[memoryview], int | None],
    size_bytes: int,
    deadline: Deadline,
    progress: Progress | None,
    where: str,
) -> None:
    """Copy `size_bytes` of `stream`. Raises DeadlineExceeded, or DeviceError when the source changes size."""
    done = 0
    while data := stream.read(_COPY_BYTES):
        if deadline.passed:
            raise transfer_timeout(where, done, size_bytes, deadline)
        view = memoryview(data)
        while view:
            written = write(view)
            view = view[len(view) if written is None else written :]
        done += len(data)
        if progress is not None:
            progress(done, size_bytes)
    if done != size_bytes:
        raise DeviceError(
            f"the source changed while it was copied: {done} bytes, expected {size_bytes}.", where=where
        )


def transfer_timeout(where: str, done: int, size_bytes: int, deadline: Deadline) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"{done} of {size_bytes} bytes were copied in {deadline.limit_s:g} s "
        f"(timeout_s = {deadline.limit_s:g}); the partial copy was removed.",
        where=where,
        next_step="Check the link, or allow more time.",
    )


def device_read_error(device_name: str, path: str, error: OSError) -> DeviceError:
    return DeviceError(f"can't read {path!r} on the device: {_reason(error)}.", where=device_name)


def device_write_error(device_name: str, path: str, error: OSError, size_bytes: int) -> DeviceError:
    """Return DeviceFull or DeviceError for a failed write on the device."""
    if error.errno in _NO_SPACE:
        return device_full(device_name, path, size_bytes, None)
    if error.errno == errno.ENOENT:
        return DeviceError(
            f"can't write {path!r} on the device: its folder doesn't exist.",
            where=device_name,
            next_step="Create the folder first.",
        )
    return DeviceError(f"can't write {path!r} on the device: {_reason(error)}.", where=device_name)


def device_full(device_name: str, path: str, size_bytes: int, free_bytes: int | None) -> DeviceFull:
    free = "not enough room" if free_bytes is None else f"{free_bytes} bytes free"
    return DeviceFull(
        f"{path!r} needs {size_bytes} bytes, {free} on that file system.",
        where=device_name,
        next_step="Free space on the device (`harness devices check` shows what the harness keeps there).",
    )


def host_write_error(device_name: str, path: str, error: OSError, size_bytes: int) -> HarnessError:
    """Return HostSetupError for a failed write on this host."""
    return HostSetupError(
        f"can't write {path!r} ({size_bytes} bytes) on this host: {_reason(error)}.", where=device_name
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
