"""Runtime environments: a verified tar becomes `envs/<sha256>/`, whole or not at all.

`.manifest` in it says which files were unpacked, with their sizes. An environment that lacks one of them, or
has one of another size, counts as absent and is installed anew. Bytes that change in place are not noticed:
reading hundreds of megabytes before each session would cost more than it finds.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tarfile
from typing import Dict, List, Tuple

from .faults import Fault
from .store import Store, sync_folder, write_whole

MAX_MEMBERS = 200000
MAX_UNPACKED_BYTES = 8 << 30
MANIFEST = ".manifest"


def installed(store: Store) -> List[str]:
    """Return the hashes of the environments that are there."""
    return sorted(name for name in os.listdir(store.path("envs")) if not name.startswith("."))


def is_whole(store: Store, sha256: str) -> bool:
    """Return whether an environment is there with every file that was unpacked, each of its size."""
    folder = store.path("envs", sha256)
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as file:
            sizes = json.loads(file.read().decode("utf-8"))
        found = {name: os.lstat(os.path.join(folder, name)) for name in sizes}
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return all(stat.S_ISREG(s.st_mode) and s.st_size == sizes[name] for name, s in found.items())


def env_path(store: Store, sha256: str) -> str:
    """Return an environment's folder. Raises `not_found`."""
    path = store.path("envs", sha256)
    if not os.path.isdir(path):
        raise Fault("not_found", "envs/%s: no such environment; install it first" % sha256)
    return path


def install(store: Store, incoming: str, sha256: str) -> Tuple[str, bool]:
    """Unpack a pushed tar (plain, gz, bz2 or xz); return its folder and whether it was there, whole."""
    target = store.path("envs", sha256)
    source = store.path("incoming", incoming)
    if is_whole(store, sha256):
        if os.path.isfile(source):
            os.unlink(source)
        return target, True
    source = store.take_incoming(incoming, sha256, None)
    staging = store.path("envs", ".%s.%d" % (sha256, os.getpid()))
    shutil.rmtree(staging, ignore_errors=True)
    try:
        os.mkdir(staging)
        write_whole(os.path.join(staging, MANIFEST), json.dumps(unpack(source, staging)).encode("utf-8"))
        os.sync()  # one for thousands of files; each must be on disk before the folder gets its name
        if os.path.isdir(target):
            remove(store, sha256)
        os.rename(staging, target)
    except (tarfile.TarError, EOFError, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Fault(
            "bad_request", "incoming/%s: not a tar that can be unpacked: %s" % (incoming, error)
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.unlink(source)
    sync_folder(store.path("envs"))
    return target, False


def remove(store: Store, sha256: str) -> None:
    """Remove an environment. Raises `not_found`."""
    path = env_path(store, sha256)
    doomed = store.path("envs", ".%s.removed.%d" % (sha256, os.getpid()))
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)  # gone at once, even if the power fails half-way through the files
    shutil.rmtree(doomed)


def remove_leftovers(store: Store) -> None:
    """Remove what an interrupted install or removal left behind, unless its agent lives."""
    for name in os.listdir(store.path("envs")):
        owner = name.rpartition(".")[2]
        if name.startswith(".") and not os.path.exists("/proc/" + owner):
            shutil.rmtree(store.path("envs", name), ignore_errors=True)


def unpack(source: str, folder: str) -> Dict[str, int]:
    """Unpack plain files and folders whose names stay inside; anything else is refused.

    Return the files' sizes by name, but for .pyc: Python writes those anew when it likes.
    """
    sizes: Dict[str, int] = {}
    members, unpacked = 0, 0
    with tarfile.open(source, "r|*") as tar:
        for member in tar:
            members += 1
            unpacked += member.size
            if members > MAX_MEMBERS or unpacked > MAX_UNPACKED_BYTES:
                raise Fault(
                    "bad_request", "the tar holds too much: %d members, %d bytes" % (members, unpacked)
                )
            target = os.path.join(folder, *_safe_parts(member))
            if member.isdir():
                os.makedirs(target, exist_ok=True)
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            content = tar.extractfile(member)
            if content is None:
                raise Fault("bad_request", "`%s` in the tar can't be read" % member.name)
            mode = 0o755 if member.mode & 0o100 else 0o644
            # O_EXCL: a second member of the same name can't write through the first
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            name = os.path.relpath(target, folder)
            if not name.endswith(".pyc"):
                sizes[name] = member.size
    return sizes


def _safe_parts(member: tarfile.TarInfo) -> List[str]:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if not (member.isreg() or member.isdir()):
        raise Fault(
            "bad_request", "`%s` in the tar is a link or a device; only files and folders" % member.name
        )
    if parts == [MANIFEST]:
        raise Fault("bad_request", "`%s` in the tar is a name the agent keeps for itself" % member.name)
    if member.name.startswith("/") or ".." in parts or "\0" in member.name or not (parts or member.isdir()):
        raise Fault("bad_request", "`%s` in the tar leaves its folder" % member.name)
    return parts
