"""The host's cache folder: where it is, its locks, and the runtime environments and bundles kept in it.

Folders below it are complete or absent: makers write beside and rename. Images and snapshots of emulated
boards have their own keeper, harness/emulation/cache.py.
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

from harness import in_use

ENV_VARIABLE = "HIL_HARNESS_CACHE"
ENVIRONMENTS = "environments"
BUNDLES = "bundles"
DEFAULT_CAP_BYTES = 10 << 30  # chosen: hundreds of environments, or an image with a dozen snapshots


@dataclass(frozen=True)
class CacheEntry:
    """An environment or bundle. `size_bytes` is allocated space, `used_at_s` when it was last used (Unix)."""

    name: str  # with its kind: environments/…
    path: Path
    size_bytes: int
    used_at_s: float
    in_use: bool  # by a process that lives


def root() -> Path:
    """Return the cache folder, created: $HIL_HARNESS_CACHE, else the platform's (XDG on Linux)."""
    if set_by_user := os.environ.get(ENV_VARIABLE):
        path = Path(set_by_user).expanduser().resolve()
    else:
        import platformdirs

        path = Path(platformdirs.user_cache_path("hil-harness"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def folder(kind: str) -> Path:
    """Return the cache's folder for one kind of thing, created."""
    path = root() / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def file_lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold an advisory lock on `path` (created), waiting for it. Its holder's death releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def lock(name: str) -> contextlib.AbstractContextManager[None]:
    """Hold the cache's lock called `name`, among processes."""
    return file_lock(folder("locks") / f"{name}.lock")


def use(path: Path) -> bool:
    """Note that an entry is used now, and keep it while this process lives; return whether it is there."""
    there = in_use.use(path)
    if there:
        os.utime(path)
    return there


def sync_tree(path: Path) -> None:
    """Flush every file and folder below `path` to the disk, so that a rename publishes whole data."""
    for parent, _, files in os.walk(path):
        for name in [*files, "."]:
            fd = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def entries() -> list[CacheEntry]:
    """Return the environments and bundles, least recently used first."""
    found = []
    for kind in (ENVIRONMENTS, BUNDLES):
        for path in folder(kind).iterdir():
            if path.is_dir() and not path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # another process may be tidying up
                    found.append(_entry(f"{kind}/{path.name}", path))
    return sorted(found, key=lambda e: (e.used_at_s, e.name))


def _entry(name: str, path: Path) -> CacheEntry:
    size_bytes = sum(f.stat().st_blocks * 512 for f in path.iterdir())
    with in_use.unused(path) as unused:
        return CacheEntry(name, path, size_bytes, path.stat().st_mtime, not unused)


def prune(cap_bytes: int = DEFAULT_CAP_BYTES) -> tuple[str, ...]:
    """Remove what was unused for longest until the rest fits; return the names of what was removed.

    What a process uses stays. Each is renamed first, so that nobody finds half of it.
    """
    found = entries()
    size_bytes = sum(e.size_bytes for e in found)
    removed = []
    for entry in found:
        if size_bytes <= cap_bytes:
            break
        if _remove(entry.path):
            size_bytes -= entry.size_bytes
            removed.append(entry.name)
    return tuple(removed)


def _remove(path: Path) -> bool:
    """Remove an entry that no process uses; return whether it went, by us."""
    doomed = path.with_name(f".gone-{path.name}-{time.time_ns()}")
    try:
        with in_use.unused(path) as unused:
            if not unused:
                return False
            path.rename(doomed)
    except FileNotFoundError:
        return False
    shutil.rmtree(doomed)
    return True
