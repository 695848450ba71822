"""Files and folders that appear whole under their final name, or not at all.

Also the one check on names that come from outside: nothing here writes or reads through a name that could
leave its folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import ConfigError, HostSetupError

# A first character that is no dot keeps names clear of temporary ones (".tmp-…"), "." and "..";
# 200 bytes leave room for a temporary prefix below the 255 that ext4 and APFS allow.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+@-]{0,199}")

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def disk_errors(path: Path, *, then: str = "") -> Iterator[None]:
    """Raise HostSetupError, which names `path`, for an OSError of the block; `then` adds to the next step."""
    try:
        yield
    except OSError as error:
        raise HostSetupError(
            f"can't be written: {error.strerror or error}.",
            where=str(path),
            next_step=f"Free some room or fix its rights. {then}".rstrip(),
        ) from error


def is_safe_name(name: str) -> bool:
    """Return whether `name` is one plain path component that can't leave its folder."""
    return _SAFE_NAME.fullmatch(name) is not None


def checked_name(name: str, *, what: str) -> str:
    """Return `name` if it is one safe path component. Raises ConfigError that says what is allowed."""
    if not is_safe_name(name):
        raise ConfigError(
            f"{what} {name!r} can't be a file name",
            next_step="Use 1 to 200 letters, digits or ._=+@- and start with a letter, a digit or _.",
        )
    return name


def write_bytes(path: Path, data: bytes, *, then: str = "") -> None:
    """Write `data` to `path`: temporary name, fsync, rename. Raises HostSetupError, as `disk_errors` does."""
    with disk_errors(path, then=then):
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), 0o666 & ~_umask())  # mkstemp's 0600 would hide reports from others
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_text(path: Path, text: str, *, then: str = "") -> None:
    """Write `text` as UTF-8 to `path`, as `write_bytes` does.

    Half a surrogate pair, which an undecodable file name leaves in a text, becomes "?".
    """
    write_bytes(path, text.encode("utf-8", "replace"), then=then)


def write_synced(path: Path, data: bytes, *, then: str = "") -> None:
    """Write `data` to `path` and fsync it, under its own name: for files inside a `new_folder`."""
    with disk_errors(path, then=then), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def new_folder(final: Path, *, then: str = "") -> Iterator[Path]:
    """Yield a temporary folder beside `final`; on success sync it and rename it to `final`.

    On any error the temporary folder is removed and nothing appears. Raises ConfigError if `final` exists
    already, HostSetupError if the disk refuses.
    """
    with disk_errors(final, then=then):
        if final.exists():
            raise ConfigError("exists already", where=str(final), next_step="Every attempt needs its own id.")
        temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{final.name}-", dir=final.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            sync_folder(temporary)
            os.rename(temporary, final)
        except BaseException:
            _remove_flat(temporary)
            raise
        sync_folder(final.parent)


def make_folder(path: Path, *, then: str = "") -> None:
    """Create `path` and its parents. Raises ConfigError for a file, HostSetupError if the disk refuses."""
    with disk_errors(path, then=then):
        if path.exists() and not path.is_dir():
            raise ConfigError(
                "is a file, expected a folder.",
                where=str(path),
                next_step=f"Move it away. {then}".rstrip(),
            )
        path.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _remove_flat(folder: Path) -> None:
    """Remove a folder of plain files; a file that can't go stays, as the first error matters more."""
    try:
        for entry in folder.iterdir():
            entry.unlink()
        folder.rmdir()
    except OSError:
        # The reader reports what is left under a temporary name as an unfinished run.
        return


def _umask() -> int:
    # The only portable way to read it is to set it; both calls are immediate.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
