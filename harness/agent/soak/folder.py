"""One soak's folder on the device: its files by name, and the lock of its living runner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import sys
import time
from typing import Any, Dict, List, Optional, TextIO

from ..faults import Fault
from ..store import write_whole
from .disk import FULL, Disk
from .spool import RESERVE, End, Spool, find_end, segment_name, segment_sizes

SOAKS = "soak"  # the folder of all soaks below the agent's home
LOG_BYTES = 256 << 10
_LOCK_WAIT_S = 1.0  # a look at the lock takes it for an instant
_LENT_BYTES = 16 << 10  # of the reserve, for one small file and its folder's block
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def check_id(soak_id: str) -> str:
    """Return an id that is safe as a file name and in a boot hook. Raises `bad_request`."""
    if not _ID.match(soak_id):
        raise Fault(
            "bad_request",
            "soak id %r: expected at most 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"
            % soak_id,
        )
    return soak_id


def list_ids(home: str) -> List[str]:
    """Return the ids of the soaks under a home, ascending."""
    try:
        names = os.listdir(os.path.join(home, SOAKS))
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _ID.match(name) and SoakFolder(home, name).exists())


class SoakFolder:
    """`<home>/soak/<id>/`. Missing or damaged small files read as nothing; only spec.json must be whole."""

    def __init__(self, home: str, soak_id: str) -> None:
        self.home = os.path.abspath(home)
        self.id = check_id(soak_id)
        self.path = os.path.join(self.home, SOAKS, soak_id)
        self.spool_path = os.path.join(self.path, "spool")

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def exists(self) -> bool:
        """Return whether there is such a soak: a folder, no link, with its spec."""
        return not os.path.islink(self.path) and os.path.isfile(self.file("spec.json"))

    def spec(self) -> Dict[str, Any]:
        """Return spec.json. Raises `not_found`, or `checksum` where the disk has damaged it."""
        if not self.exists():
            raise Fault("not_found", "soak %s: there is none on this device" % self.id)
        found = self.read_object("spec.json")
        if not found:
            raise Fault("checksum", "soak %s: spec.json is damaged; nothing can go on with it" % self.id)
        return found

    def read_object(self, name: str) -> Dict[str, Any]:
        """Return a JSON object of the folder; empty where it is missing or damaged."""
        try:
            with open(self.file(name), "rb") as file:
                found = json.loads(file.read(1 << 24).decode("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def heartbeat(self) -> Dict[str, Any]:
        """Return runner.json, empty where there is none yet."""
        return self.read_object("runner.json")

    def write_heartbeat(self, values: Dict[str, Any]) -> None:
        """Replace runner.json in one step, not synced: it is stale in a second. Raises OSError."""
        temporary = self.file("runner.json.tmp")
        with open(temporary, "wb") as file:
            file.write(json.dumps(values, allow_nan=False).encode("utf-8"))
        os.replace(temporary, self.file("runner.json"))

    def write_object(self, name: str, values: Dict[str, Any], lend: bool = True) -> None:
        """Replace a small file durably; on a full disk with room that the reserve lends. Raises OSError."""
        data = json.dumps(values, allow_nan=False).encode("utf-8")
        try:
            write_whole(self.file(name), data)
        except OSError as error:
            if error.errno not in FULL or not lend or not self._lend():
                raise
            write_whole(self.file(name), data)

    def overwrite_object(self, name: str, values: Dict[str, Any]) -> bool:
        """Write a small file over itself, into the blocks that it has; return whether that could be done.

        A power cut may leave it damaged, which reads as nothing: for what is found out again. Raises OSError,
        for a full disk never.
        """
        data = json.dumps(values, allow_nan=False).encode("utf-8")
        try:
            descriptor = os.open(self.file(name), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            held = os.fstat(descriptor)
            if len(data) > held.st_blocks * 512:  # st_blocks counts so, whatever a block is (stat(2))
                return False
            # as long as before, so that one write does: what reads it meanwhile finds the old or the new
            if os.pwrite(descriptor, data.ljust(held.st_size), 0) < len(data):
                return False
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in FULL:
                raise
            return False
        finally:
            os.close(descriptor)
        return True

    def remove_oldest(self, last: int) -> bool:
        """Remove the oldest segment if it is `last` or before, and not the one that grows.

        Returns whether it went. Its runner, which removes segments too, goes on. Raises OSError.
        """
        numbers = list(self.segments())
        if len(numbers) < 2 or numbers[0] > last:
            return False
        disk = Disk()
        disk.unlink(os.path.join(self.spool_path, segment_name(numbers[0])))
        disk.sync_folder(self.spool_path)
        return True

    def _lend(self) -> bool:
        """Cut a little from the reserve; return whether there was so much."""
        try:
            path = os.path.join(self.spool_path, RESERVE)
            size = os.path.getsize(path)
            os.truncate(path, max(0, size - _LENT_BYTES))
        except OSError:
            return False
        return size > 0

    def stop_reason(self) -> Optional[str]:
        """Return why the soak shall end, None if it needn't."""
        if not os.path.exists(self.file("stop.json")):
            return None
        return str(self.read_object("stop.json").get("reason", "stopped"))

    def write_stop(self, reason: str) -> None:
        """Have the soak end, for `reason` where the disk has room for that. Raises OSError.

        An empty file needs no block for its content, and says it too.
        """
        try:
            self.write_object("stop.json", {"reason": reason})
        except OSError as error:
            if error.errno not in FULL:
                raise
            os.close(os.open(self.file("stop.json"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            sys.stderr.write("agent: soak %s: no room for why it ends: %s\n" % (self.id, reason))

    def acknowledged(self) -> int:
        """Return the last segment that the collector has safe; 0 without one."""
        number = self.read_object("collector.json").get("acked_segment", 0)
        return number if isinstance(number, int) else 0

    def segments(self) -> Dict[int, int]:
        """Return the sizes in bytes of the spool's segments by number, ascending."""
        try:
            return segment_sizes(Disk(), self.spool_path)
        except FileNotFoundError:
            return {}

    def end(self) -> End:
        """Return where the spool stands; its runner may be writing on."""
        return find_end(Disk(), self.spool_path, list(self.segments()))

    def open_spool(self) -> Spool:
        """Return the soak's spool for its runner, which holds the lock. Raises OSError."""
        spec, beat = self.spec(), self.heartbeat().get("seq")
        return Spool(
            self.spool_path,
            int(spec["max_spool_bytes"]),
            int(spec["reserve_bytes"]),
            self.acknowledged,
            beat if isinstance(beat, int) else 0,
        )

    def take_lock(self) -> Optional[int]:
        """Return a descriptor that holds runner.lock until it is closed, None if another runner lives."""
        descriptor = os.open(self.file("runner.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        due_s = time.monotonic() + _LOCK_WAIT_S
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > due_s:
                os.close(descriptor)
                return None
            time.sleep(0.01)
        with contextlib.suppress(OSError):  # a full disk: the lock alone says that it lives
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return descriptor

    def living_runner(self) -> Optional[int]:
        """Return the pid of the runner that holds the lock (0: it didn't say), None if none lives."""
        try:
            descriptor = os.open(self.file("runner.lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(descriptor, fcntl.LOCK_SH):
                return None
            text = os.pread(descriptor, 32, 0).strip()
        finally:
            os.close(descriptor)
        return int(text) if text.isdigit() else 0

    def keep_log_small(self) -> None:
        """Have stdout and stderr in runner.log, begun anew when it has reached its size; one older is kept.

        The runner calls it at its start and now and then. What a full disk hasn't taken yet goes to the new
        log. Raises OSError.
        """
        path = self.file("runner.log")
        with contextlib.suppress(FileNotFoundError):
            if os.path.getsize(path) < LOG_BYTES and _is_open_as(2, path):
                return
            if os.path.getsize(path) >= LOG_BYTES:
                os.replace(path, path + ".1")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            for stream in (sys.stdout, sys.stderr):
                _flush(stream)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        finally:
            os.close(descriptor)

    def log_tail(self, chars: int = 1000) -> str:
        """Return the end of the runner's log, "" where there is none."""
        try:
            with open(self.file("runner.log"), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - chars))
                return file.read(chars).decode("utf-8", "replace").strip()
        except OSError:
            return ""


def _flush(stream: TextIO) -> None:
    """Write out what is buffered; where the disk is full it stays there. Raises OSError."""
    try:
        stream.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise


def _try_lock(descriptor: int, kind: int) -> bool:
    """Return whether the lock could be had at once."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise
        return False
    return True


def _is_open_as(descriptor: int, path: str) -> bool:
    mine, other = os.fstat(descriptor), os.stat(path)
    return (mine.st_dev, mine.st_ino) == (other.st_dev, other.st_ino)
