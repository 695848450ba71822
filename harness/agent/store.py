"""The device's content-addressed store: whenever the power fails, names point at whole, verified files.

incoming/<name>              what a connection pushed; not trusted yet
objects/<sha256>             verified, fsynced, read-only; verified again before each use
links/<sha256><suffix>   ->  ../objects/<sha256>: the object under the extension some programs want
active/<name>            ->  ../links/… or ../objects/…: the version in use, switched by one rename
history/<name>.json          versions in order of activation; the symlink alone says which is active
unpacked/<sha256>/           the files of an object that is a tar (bundles.py)
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from typing import Any, Dict, List, Optional, Set

from .faults import Fault
from .probes import free_bytes

UNPACKED = "unpacked"
FOLDERS = ("incoming", "objects", "links", "active", "history", "envs", UNPACKED)
_CHUNK_BYTES = 1 << 20
_STALE_INCOMING_S = 3600.0  # chosen: no transfer takes that long
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_+-]{1,32})?\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def sync_folder(path: str) -> None:
    """Make the names in a folder durable (fsync(2): needed besides the file's own)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_file(path: str, sync: bool = False) -> str:
    """Return a file's SHA-256; with `sync` its data is on disk afterwards."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
        if sync:
            os.fsync(file.fileno())
    return digest.hexdigest()


def write_whole(path: str, data: bytes) -> None:
    """Write a file so that it is the old one or the new one, never a part."""
    temporary = "%s.%d.tmp" % (path, os.getpid())
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        _remove(temporary)
        raise
    sync_folder(os.path.dirname(path))


def _damage(path: str, sha256: str) -> Optional[str]:
    """Return what is wrong with a file that should have this hash, None if nothing is."""
    try:
        found = hash_file(path)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return "it can't be read (%s)" % error.strerror  # a bad block: new bytes get another
    return None if found == sha256 else "its content is %s" % found


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


class Store:
    """The store under one home folder. Names and hashes come checked (args.py)."""

    def __init__(self, home: str) -> None:
        self.home = os.path.abspath(home)
        for folder in FOLDERS:
            os.makedirs(os.path.join(self.home, folder), exist_ok=True)

    def path(self, folder: str, name: str = "") -> str:
        return os.path.join(self.home, folder, name) if name else os.path.join(self.home, folder)

    def status(self) -> Dict[str, Any]:
        """Return free room, the objects with their sizes, and each name's active hash."""
        objects = [
            {"sha256": entry.name, "size_bytes": entry.stat().st_size}
            for entry in sorted(os.scandir(self.path("objects")), key=lambda entry: entry.name)
            if _SHA256.match(entry.name)
        ]
        return {"free_bytes": free_bytes(self.home), "objects": objects, "active": self._all_active()}

    def take_incoming(self, incoming: str, sha256: str, size_bytes: Optional[int]) -> str:
        """Return the path of a pushed file whose size and hash are right and whose data is on disk.

        A wrong one is removed: raises `checksum`. One that isn't there: `not_found`.
        """
        path = self.path("incoming", incoming)
        if os.path.islink(path) or not os.path.isfile(path):
            raise Fault("not_found", "incoming/%s: no such file; push it first" % incoming)
        size = os.path.getsize(path)
        if size_bytes is not None and size != size_bytes:
            _remove(path)
            raise Fault("checksum", "incoming/%s: %d bytes, expected %d" % (incoming, size, size_bytes))
        found = hash_file(path, sync=True)
        if found != sha256:
            _remove(path)
            raise Fault("checksum", "incoming/%s: sha256 %s, expected %s" % (incoming, found, sha256))
        return path

    def commit(self, incoming: str, sha256: str, size_bytes: int) -> bool:
        """Make a pushed file an object; return whether it was there already, whole."""
        target = self.path("objects", sha256)
        if os.path.isfile(target) and _damage(target, sha256) is None:
            _remove(self.path("incoming", incoming))
            return True
        path = self.take_incoming(incoming, sha256, size_bytes)
        os.chmod(path, 0o444)
        os.replace(path, target)
        sync_folder(self.path("objects"))
        return False

    def verify(self, sha256: str) -> int:
        """Return the size of an object after reading all of it.

        One that changed on disk is removed: raises `checksum`. One that isn't there: `not_found`.
        """
        path = self.object_path(sha256)
        damage = _damage(path, sha256)
        if damage is not None:
            # gone, so that the next push sends it: a damaged object under the right name would stay for ever
            _remove(path)
            sync_folder(self.path("objects"))
            raise Fault("checksum", "objects/%s: %s; it was removed, push it again" % (sha256, damage))
        return os.path.getsize(path)

    def object_path(self, sha256: str) -> str:
        """Return an object's absolute path. Raises `not_found`."""
        path = self.path("objects", sha256)
        if not os.path.isfile(path):
            raise Fault("not_found", "objects/%s: no such object; commit it first" % sha256)
        return path

    def activate(self, name: str, sha256: str, suffix: str) -> Optional[str]:
        """Make an object the active version of `name`; return the hash that was active before.

        It is read whole before: raises `checksum` as `verify` does, and the old version stays active.
        """
        if not _SUFFIX.match(suffix):
            raise Fault("bad_request", "store_activate: `suffix` is %r, expected none or .letters" % suffix)
        self.verify(sha256)
        previous = self.active(name)
        versions = [entry for entry in self._history(name) if entry["sha256"] != sha256]
        versions.append({"sha256": sha256, "suffix": suffix, "activated_at_ns": time.time_ns()})
        self._switch(name, sha256, suffix)
        # after the switch: a cut in between leaves a version that `_history` finds through the symlink
        self._write_history(name, versions)
        return previous

    def rollback(self, name: str) -> str:
        """Make the version activated before the active one active again; return its hash."""
        versions = self._history(name)
        active = self.active(name)
        if active is None:
            raise Fault("not_found", "`%s` has no active version" % name)
        hashes = [entry["sha256"] for entry in versions]
        index = hashes.index(active)
        if index == 0:
            raise Fault("not_found", "`%s` has no version before %s" % (name, active))
        before = versions[index - 1]
        self.verify(before["sha256"])
        self._switch(name, before["sha256"], before["suffix"])
        return str(before["sha256"])

    def versions(self, name: str) -> List[Dict[str, Any]]:
        """Return the versions of a name, newest first. Raises `not_found` for a name never activated."""
        versions = self._history(name)
        if not versions:
            raise Fault("not_found", "`%s` was never activated here" % name)
        active = self.active(name)
        return [
            {
                "sha256": entry["sha256"],
                "activated_at_ns": entry["activated_at_ns"],
                "active": entry["sha256"] == active,
            }
            for entry in reversed(versions)
        ]

    def collect_garbage(self, keep_versions: int, keep: Set[str]) -> Dict[str, Any]:
        """Remove objects that no kept version needs, and stale incoming files; return what was freed."""
        wanted = set(keep)
        for file in os.listdir(self.path("history")):
            if not file.endswith(".json"):
                continue
            name = file[: -len(".json")]
            wanted.update(self._prune(name, keep_versions))
        wanted.update(self._all_active().values())
        removed, freed = [], 0
        for entry in list(os.scandir(self.path("objects"))):
            if entry.name not in wanted:
                freed += entry.stat().st_size
                os.unlink(entry.path)
                removed.append(entry.name)
        self._remove_dangling_links()
        self._remove_unpacked()
        freed += self._remove_stale_incoming()
        for folder in ("objects", "links", "incoming"):
            sync_folder(self.path(folder))
        return {"removed": sorted(removed), "freed_bytes": freed}

    def active(self, name: str) -> Optional[str]:
        """Return the active hash of a name, None where there is none."""
        try:
            target = os.readlink(self.path("active", name))
        except FileNotFoundError:
            return None
        return os.path.basename(target)[:64]

    def active_path(self, name: str) -> str:
        return self.path("active", name)

    def _all_active(self) -> Dict[str, str]:
        found: Dict[str, str] = {}
        for name in sorted(os.listdir(self.path("active"))):
            sha256 = None if name.startswith(".") else self.active(name)
            if sha256 is not None:
                found[name] = sha256
        return found

    def _switch(self, name: str, sha256: str, suffix: str) -> None:
        target = "../objects/" + sha256
        if suffix:
            target = "../links/" + sha256 + suffix
            self._symlink("../objects/" + sha256, self.path("links", sha256 + suffix))
        self._symlink(target, self.path("active", name))

    def _symlink(self, target: str, path: str) -> None:
        """Point `path` at `target` in one step."""
        folder, name = os.path.split(path)
        temporary = os.path.join(
            folder, ".%d.%s" % (os.getpid(), hashlib.sha256(name.encode()).hexdigest()[:16])
        )
        _remove(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)
        sync_folder(folder)

    def _history(self, name: str) -> List[Dict[str, Any]]:
        """Return the versions, oldest first; the active one is always among them."""
        path = self.path("history", name + ".json")
        versions: List[Dict[str, Any]] = []
        try:
            with open(path, "rb") as file:
                versions = json.loads(file.read().decode("utf-8"))
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise Fault(
                "checksum", "history/%s.json is damaged (%s); remove it to start afresh" % (name, error)
            ) from None
        active = self.active(name)
        if active is not None and active not in [entry["sha256"] for entry in versions]:
            link = self.path("active", name)
            suffix = os.path.basename(os.readlink(link))[64:]
            switched = os.lstat(link).st_mtime_ns
            versions.append({"sha256": active, "suffix": suffix, "activated_at_ns": switched})
        return versions

    def _write_history(self, name: str, versions: List[Dict[str, Any]]) -> None:
        data = json.dumps(versions, indent=1).encode("utf-8")
        write_whole(self.path("history", name + ".json"), data)

    def _prune(self, name: str, keep_versions: int) -> List[str]:
        """Forget all but the newest versions and the active one; return the hashes still wanted."""
        versions = self._history(name)
        active = self.active(name)
        newest = versions[-keep_versions:] if keep_versions else []
        kept = [entry for entry in versions if entry in newest or entry["sha256"] == active]
        if len(kept) != len(versions):
            self._write_history(name, kept)
        return [entry["sha256"] for entry in kept]

    def _remove_dangling_links(self) -> None:
        for entry in list(os.scandir(self.path("links"))):
            if not os.path.exists(entry.path):
                os.unlink(entry.path)

    def _remove_unpacked(self) -> None:
        """Remove the files of bundles that are gone, and what an interrupted unpacking left."""
        for name in os.listdir(self.path(UNPACKED)):
            owner = name.rpartition(".")[2]
            alive = name.startswith(".") and os.path.exists("/proc/" + owner)
            if not alive and not os.path.isfile(self.path("objects", name)):
                shutil.rmtree(self.path(UNPACKED, name))

    def _remove_stale_incoming(self) -> int:
        freed = 0
        for entry in list(os.scandir(self.path("incoming"))):
            found = entry.stat(follow_symlinks=False)
            if not entry.is_dir(follow_symlinks=False) and time.time() - found.st_mtime > _STALE_INCOMING_S:
                os.unlink(entry.path)
                freed += found.st_size
        return freed
