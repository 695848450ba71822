"""Models of several files: the store keeps each as one tar, here it becomes a folder for a runtime to read.

unpacked/<sha256>/<names>    the files of the object of that hash

The object is what is verified, activated and rolled back. Its folder is compared with it, byte by byte, each
time it is asked for, and made anew where it differs.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import IO, Dict, Optional

from .env import unpack
from .faults import Fault
from .store import UNPACKED, Store, sync_folder

_CHUNK_BYTES = 1 << 20


def unpacked(store: Store, sha256: str) -> str:
    """Return the folder with the files of an object. Raises `not_found`; `bad_request` if it is no tar."""
    source, target = store.object_path(sha256), store.path(UNPACKED, sha256)
    staging = store.path(UNPACKED, ".%s.%d" % (sha256, os.getpid()))
    try:
        if _is_whole(source, target):
            return target
        shutil.rmtree(staging, ignore_errors=True)
        os.mkdir(staging)
        unpack(source, staging)
        os.sync()  # each file must be on disk before the folder gets its name
        shutil.rmtree(target, ignore_errors=True)
        os.rename(staging, target)
    except (tarfile.TarError, EOFError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Fault(
            "bad_request", "objects/%s: not a tar that can be unpacked: %s" % (sha256, error)
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync_folder(store.path(UNPACKED))
    return target


def _is_whole(source: str, folder: str) -> bool:
    """Return whether a folder holds the files of a tar, the same bytes, and no others."""
    names: Dict[str, bool] = {}
    if not os.path.isdir(folder):
        return False
    with tarfile.open(source, "r|*") as tar:
        for member in tar:
            if member.isfile():
                names[os.path.normpath(member.name)] = True
                if not _is_same(tar.extractfile(member), os.path.join(folder, member.name)):
                    return False
    found = [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, files in os.walk(folder)
        for name in files
    ]
    return sorted(found) == sorted(names)


def _is_same(content: Optional[IO[bytes]], path: str) -> bool:
    if content is None or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            while True:
                chunk = content.read(_CHUNK_BYTES)
                if file.read(max(1, len(chunk))) != chunk:
                    return False
                if not chunk:
                    return True
    except OSError:  # a bad block: new bytes get another
        return False
