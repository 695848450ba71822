"""Saved states of a machine: where they are, how a disk and a state become one, published in one step.

A snapshot belongs to its image and to the exact QEMU, board and profile (`machine_hash`). It is the migration
stream of the stopped machine beside the disk it had, whose backing file is the image's. (Not `savevm`: a
state inside the disk would have to be copied for each machine; so any number restore from the same file.)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from harness.cache import file_lock, sync_tree
from harness.emulation.cache import hold, write_atomically
from harness.emulation.command import Profile, machine_hash
from harness.emulation.image import Image
from harness.emulation.tools import run_tool
from harness.errors import ConfigError
from harness.model import QemuBoard

WARM = "warm"  # booted, nothing pushed yet
_COPY = ("cp", "--reflink=auto", "--sparse=auto")


def snapshots_folder(image: Image, board: QemuBoard, profile: Profile) -> Path:
    """Return the folder of the snapshots that such a machine can restore."""
    return image.folder / "snapshots" / f"{profile}-{machine_hash(board, profile)}"


def snapshot_link(image: Image, board: QemuBoard, profile: Profile, key: str) -> Path:
    """Return the link to the snapshot `key`'s folder, there or not. Any string is a key.

    A folder never changes once it is published; a new state under the same key is a new folder.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return snapshots_folder(image, board, profile) / name


def has_snapshot(image: Image, profile: Profile, key: str, *, board: QemuBoard | None = None) -> bool:
    """Return whether the state `key` is saved for this image, profile and board (the image's own)."""
    return (snapshot_link(image, board or image.board, profile, key) / "meta.json").exists()


def open_snapshot(image: Image, board: QemuBoard, profile: Profile, key: str) -> Path:
    """Return the folder of the state `key`. Raises ConfigError if it isn't saved."""
    folder = snapshot_link(image, board, profile, key).resolve()
    if not (folder / "meta.json").exists():
        raise ConfigError(
            f"no snapshot `{key}` for the {profile} profile of this board and image.",
            where="emulated device",
            next_step="Start without one, or save it first.",
        )
    return folder


def make_overlay(target: Path, base: Path, base_format: str) -> None:
    """Create the disk of a machine: empty, over `base`."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base), str(target)]
    run_tool(argv, timeout_s=60)


def _rebase(disk: Path, base: str, base_format: str) -> None:
    argv = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", base_format, "-b", base, str(disk)]
    run_tool(argv, timeout_s=60)


def merge_disk(overlay: Path, parent: Path | None, target: Path, image_disk: str) -> None:
    """Write to `target` all that `overlay`, over the snapshot disk `parent`, differs in from the image's.

    `image_disk` is the image's disk as seen from `target`'s folder.
    """
    if parent is None:
        run_tool([*_COPY, str(overlay), str(target)], timeout_s=600)
    else:
        top = target.with_name("top.qcow2")
        run_tool([*_COPY, str(parent), str(target)], timeout_s=600)
        run_tool([*_COPY, str(overlay), str(top)], timeout_s=600)
        _rebase(target, image_disk, "raw")
        _rebase(top, target.name, "qcow2")
        run_tool(["qemu-img", "commit", "-q", str(top)], timeout_s=600)
        top.unlink()
    _rebase(target, image_disk, "raw")


@contextlib.contextmanager
def publishing(link: Path, key: str) -> Iterator[Path]:
    """Yield a temporary folder for `state` and `disk.qcow2`; publish it when the block ends well.

    Machines that run from a state that was under the key keep its folder; the cache's cap removes it later.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    name = f"{link.name}.{secrets.token_hex(4)}"
    work = link.with_name(f".{name}.tmp")
    with file_lock(link.parent / ".lock", shared=True):  # see cache.sweep_leftovers
        work.mkdir()
        lock_fd = hold(work)
    try:
        yield work
        meta = {"key": key, "saved_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        write_atomically(work / "meta.json", json.dumps(meta).encode())
        sync_tree(work)
        os.rename(work, link.with_name(name))
        pointer = link.with_name(f".{name}.link")
        pointer.symlink_to(name)
        os.replace(pointer, link)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    finally:
        os.close(lock_fd)
