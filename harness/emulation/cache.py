"""The cache folder: where it is, its locks, what is in it, and keeping it under its cap.

apt/                  package lists and downloads, outside any image so that a rebuild resumes
images/<hash>/        one built image; boards/ and snapshots/ inside belong to it
run/<name>.<hex>/     one ephemeral machine each, while it runs
machines/<name>/      one supervised machine each, while it is up
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.cache import file_lock
from harness.cache import root as cache_folder
from harness.errors import ConfigError

USE_LOCK = "use.lock"  # held shared by each user of an entry, exclusively to remove it
ENV_CACHE_LIMIT = "HIL_HARNESS_CACHE_GB"
DEFAULT_LIMIT_BYTES = 10 << 30  # chosen: an image with a few snapshots is below 2 GB


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Return a descriptor that holds the lock on `path` (created), or None if another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def allocated_bytes(path: Path) -> int:
    """Return the disk space that `path` and all below it take; holes of sparse files don't count."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # another process may be tidying up
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` to `path`: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Remove a tree whose folders may lack write permission (packages carry such modes)."""
    if not path.exists():
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)
    shutil.rmtree(path)


@dataclass(frozen=True)
class CacheEntry:
    """One removable thing in the cache. `in_use`: a running machine holds it."""

    name: str  # relative to the cache folder; what remove_cache_entry() takes
    kind: str  # "image" | "snapshot" | "downloads"
    size_bytes: int  # allocated; an image's without its snapshots
    used_at_s: float  # Unix time of its last use
    in_use: bool


def _in_use(folder: Path) -> bool:
    fd = try_lock(folder / USE_LOCK)
    if fd is None:
        return True
    os.close(fd)
    return False


def hold(folder: Path) -> int:
    """Return a descriptor that keeps an entry from being removed while it is open, and mark it as used.

    Raises ConfigError when the entry has just been removed.
    """
    path = folder / USE_LOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_ino != path.stat().st_ino:
            raise FileNotFoundError(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{folder} was removed from the cache meanwhile.", where="cache", next_step="Try again."
        ) from error
    os.utime(fd)
    return fd


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep an entry from being removed for the length of a block."""
    fd = hold(folder)
    try:
        yield
    finally:
        os.close(fd)


def _entries(root: Path, folder: Path, kind: str, size_bytes: int) -> list[CacheEntry]:
    """Return the entry of `folder`, or nothing if another process has just removed it."""
    lock = folder / USE_LOCK
    try:
        used_at = (lock if lock.exists() else folder).stat().st_mtime
        return [CacheEntry(str(folder.relative_to(root)), kind, size_bytes, used_at, _in_use(folder))]
    except FileNotFoundError:
        return []


def cache_entries() -> tuple[CacheEntry, ...]:
    """Return what the cache holds, least recently used first."""
    root = cache_folder()
    entries: list[CacheEntry] = []
    for image in sorted((root / "images").glob("[!.]*/manifest.json")):
        folder = image.parent
        snapshots = [meta.parent for meta in folder.glob("snapshots/*/[!.]*/meta.json")]
        snapshots = [s for s in snapshots if not s.is_symlink()]
        sizes = {s: allocated_bytes(s) for s in snapshots}
        for snapshot, size in sizes.items():
            entries += _entries(root, snapshot, "snapshot", size)
        entries += _entries(root, folder, "image", allocated_bytes(folder) - sum(sizes.values()))
    if (root / "apt").is_dir():
        entries += _entries(root, root / "apt", "downloads", allocated_bytes(root / "apt"))
    return tuple(sorted(entries, key=lambda e: (e.used_at_s, e.name)))


def remove_cache_entry(name: str) -> int:
    """Remove the entry called `name` and return the bytes freed. An image takes its snapshots along.

    Raises ConfigError when there is no such entry, or a running machine uses it.
    """
    known = {e.name: e for e in cache_entries()}
    entry = known.get(name)
    if entry is None:
        raise ConfigError(f"no cache entry `{name}`; there are: {', '.join(known) or 'none'}", where="cache")
    within = [e for e in known.values() if e.name == name or e.name.startswith(name + "/")]
    busy = [e.name for e in within if e.in_use]
    if busy:
        raise ConfigError(
            f"`{busy[0]}` is in use by a running machine.",
            where="cache",
            next_step="End it first (`harness devices down`).",
        )
    folder = cache_folder() / name
    fd = try_lock(folder / USE_LOCK)
    if fd is None:
        raise ConfigError(f"`{name}` is in use.", where="cache", next_step="End its machines first.")
    try:
        gone = folder.with_name(f".{folder.name}.{os.getpid()}.removed")
        os.rename(folder, gone)  # out of sight in one step; nobody meets half a folder
    finally:
        os.close(fd)
    shutil.rmtree(gone)
    return sum(e.size_bytes for e in within)


def limit_bytes() -> int:
    """Return the cache's cap. `HIL_HARNESS_CACHE_GB` sets another. Raises ConfigError if it is no number."""
    text = os.environ.get(ENV_CACHE_LIMIT)
    if not text:
        return DEFAULT_LIMIT_BYTES
    try:
        return int(float(text) * 1e9)
    except ValueError as error:
        raise ConfigError(f"{ENV_CACHE_LIMIT} is `{text}`, expected a number of GB") from error


def sweep_leftovers() -> None:
    """Remove what killed processes left half-made or half-removed; it is in no entry."""
    root = cache_folder()
    for pattern in ("images/.*.removed", "images/*/snapshots/*/.*.removed"):
        for folder in root.glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)
    for work in root.glob("images/.*.building"):
        lock = try_lock(work.with_suffix(".lock"))
        if lock is not None:  # nobody builds it
            remove_tree(work)
            os.close(lock)
    for work in root.glob("images/*/snapshots/*/.*.tmp"):
        with file_lock(work.parent / ".lock"):
            if work.exists() and not _in_use(work):
                shutil.rmtree(work, ignore_errors=True)


def prune_cache(cap_bytes: int | None = None, keep: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Remove the least recently used snapshots and images until the cache fits its cap.

    `keep` names folders that must stay (what was just made). Returns the names that were removed; what
    running machines hold is passed over.
    """
    cap = limit_bytes() if cap_bytes is None else cap_bytes
    sweep_leftovers()
    root = cache_folder()
    kept = [path.resolve() for path in keep]  # a folder of the cache may be a link to another disk
    entries = cache_entries()
    total = sum(e.size_bytes for e in entries)
    removed: list[str] = []
    for entry in sorted(entries, key=lambda e: (e.kind == "image", e.used_at_s)):
        if total <= cap:
            break
        if entry.in_use or any(path.is_relative_to((root / entry.name).resolve()) for path in kept):
            continue
        if any(entry.name.startswith(gone + "/") for gone in removed):
            continue
        try:
            total -= remove_cache_entry(entry.name)
        except (ConfigError, FileNotFoundError):
            continue  # taken into use, or removed, by another process meanwhile
        removed.append(entry.name)
    return tuple(removed)
