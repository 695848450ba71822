"""Run folders: one per running machine, with its disk, sockets and logs; swept when their keeper is gone.

lock          held by the keeper for as long as it lives
spec.json     what the keeper starts          status.json   what it has started
info.json     the machine, once it is ready   lease.json    a supervised machine's lifetime
disk.qcow2    what the guest has written      console.log   what it has printed
qmp.sock console.sock                         qemu.log      QEMU's own complaints
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.cache import file_lock
from harness.cache import root as cache_folder
from harness.emulation.cache import try_lock
from harness.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` can name a machine's folder."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"`{name}` can't name a machine; letters, digits, `.`, `_` and `-` can, 63 at most",
            where="emulated device",
        )


def ephemeral_root() -> Path:
    """Return the folder of ephemeral machines."""
    return cache_folder() / "run"


def supervised_root() -> Path:
    """Return the folder of supervised machines: one folder each, under its own name."""
    return cache_folder() / "machines"


@contextlib.contextmanager
def _registry(shared: bool = False) -> Iterator[None]:
    with file_lock(cache_folder() / "run.lock", shared=shared):
        yield


def is_alive(folder: Path) -> bool:
    """Return whether the keeper of this run folder lives."""
    try:
        fd = try_lock(folder / "lock")
    except FileNotFoundError:
        return False
    if fd is None:
        return True
    os.close(fd)
    return False


def _sweep_locked() -> list[str]:
    removed = []
    for root in (ephemeral_root(), supervised_root()):
        for folder in root.iterdir() if root.is_dir() else ():
            if not is_alive(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder.name)
    return removed


def sweep() -> list[str]:
    """Remove the folders whose keeper was killed; return their names."""
    with _registry():
        return _sweep_locked()


def new_folder(name: str, *, supervised: bool) -> tuple[Path, int]:
    """Return (a new run folder, the descriptor that holds its lock; the keeper inherits it).

    Raises ConfigError when a supervised machine of that name is up.
    """
    check_name(name)
    with _registry():
        _sweep_locked()
        root = supervised_root() if supervised else ephemeral_root()
        folder = root / (name if supervised else f"{name}.{secrets.token_hex(4)}")
        try:
            folder.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            raise ConfigError(
                f"a supervised machine `{name}` is already up.",
                where="emulated device",
                next_step=f"Use it, or end it with `harness devices down {name}`.",
            ) from None
        fd = try_lock(folder / "lock")
        if fd is None:
            raise ConfigError(f"the new folder {folder} is locked by someone else", where="emulated device")
        return folder, fd


def discard(folder: Path) -> None:
    """Remove a run folder that no keeper was started for."""
    with _registry():
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(condition: Callable[[], bool], timeout_s: float, interval_s: float = 0.02) -> bool:
    """Return whether `condition` came true within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True
