"""The host's cache folder: where it is, who may write, and what may go when it grows.

Folders below it are complete or absent: makers write beside and rename. What is in them belongs to the
modules that made them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENV_VARIABLE = "HIL_HARNESS_CACHE"
DEFAULT_CAP_BYTES = 20 << 30  # chosen: some ten images with their snapshots


@dataclass(frozen=True)
class CacheEntry:
    """One removable folder. `last_used_s` is seconds since the epoch."""

    kind: str
    name: str
    path: Path
    size_bytes: int
    last_used_s: float


def root() -> Path:
    """Return the cache folder: $HIL_HARNESS_CACHE, else the platform's (XDG on Linux)."""
    if set_by_user := os.environ.get(ENV_VARIABLE):
        return Path(set_by_user)
    import platformdirs

    return Path(platformdirs.user_cache_path("hil-harness"))


def folder(kind: str) -> Path:
    """Return the cache's folder for one kind of thing, created."""
    path = root() / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold an exclusive lock among processes. The kernel frees it when its holder dies."""
    path = folder("locks") / f"{name}.lock"
    with path.open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def touch(path: Path) -> None:
    """Note that an entry was used now."""
    os.utime(path)


def sync_tree(path: Path) -> None:
    """Flush every file and folder below `path` to the disk, so that a rename publishes whole data."""
    for parent, _, files in os.walk(path):
        for name in [*files, "."]:
            fd = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def size_bytes(path: Path) -> int:
    """Return the disk space that `path` and all below it take (blocks, not apparent size)."""
    total = 0
    for parent, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def entries(kinds: tuple[str, ...] = ("environments",)) -> list[CacheEntry]:
    """Return what could be removed, least recently used first."""
    found = []
    for kind in kinds:
        for path in folder(kind).iterdir():
            if path.is_dir() and not path.name.startswith("."):
                found.append(CacheEntry(kind, path.name, path, size_bytes(path), path.stat().st_mtime))
    return sorted(found, key=lambda e: e.last_used_s)


def remove(entry: CacheEntry) -> None:
    """Remove one entry: renamed first, so that nobody finds half of it."""
    doomed = entry.path.with_name(f".gone-{entry.name}-{time.time_ns()}")
    entry.path.rename(doomed)
    shutil.rmtree(doomed)
