"""Settings of the device that are undone whatever ends the agent.

Each is written down before it is made. A guard, a tiny process in a session of its own, waits for the end of
a pipe from the agent and then undoes what is written down; where it can't (power cut, the guard killed as
well), the next agent does. What has been changed by another meanwhile is left as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from .parsing import Unreadable, read_text
from .probes import Probes
from .store import write_whole

FOLDER = "settings"
_LOCK = "lock"
_SUFFIX = ".json"
_GUARD_GRACE_S = 5.0  # it writes some small files


class Entry(NamedTuple):
    """One file of the kernel's: what it held, what the agent made of it."""

    path: str
    was: str
    set: str


class Settings:
    """What this agent has set on its device."""

    def __init__(self, home: str, location: str, probes: Probes) -> None:
        self._folder = os.path.join(home, FOLDER)
        self._location = location
        self._probes = probes
        self._boot_id = _boot_id(probes)
        self._started = _start_ticks(probes)
        self._record = os.path.join(self._folder, "%d-%d%s" % (os.getpid(), self._started, _SUFFIX))
        self._entries: Dict[str, Entry] = {}
        self._guard: Optional["subprocess.Popen[bytes]"] = None

    def write(self, values: Dict[str, str]) -> None:
        """Set files (path: text) until the agent ends. All or none: raises OSError or Unreadable."""
        os.makedirs(self._folder, exist_ok=True)
        with locked(self._folder):
            before = dict(self._entries)
            for path, value in values.items():
                now = read_text(path)
                if now != value or path in before:
                    self._entries[path] = Entry(path, before[path].was if path in before else now, value)
            if self._entries == before:
                return
            try:
                self._keep()
                self._start_guard()
                for path, value in values.items():
                    if read_text(path) != value:
                        write_setting(path, value)
            except (OSError, Unreadable):
                self._take_back(before)
                raise

    def _take_back(self, before: Dict[str, Entry]) -> None:
        """Undo a `write` that failed half-way."""
        for path, entry in self._entries.items():
            earlier = before[path].set if path in before else entry.was
            undo(Entry(path, earlier, entry.set))
        self._entries = before
        if before:
            self._keep()
        else:
            _forget(self._record)

    def _keep(self) -> None:
        record = {
            "pid": os.getpid(),
            "start_ticks": self._started,
            "boot_id": self._boot_id,
            "entries": [entry._asdict() for entry in self._entries.values()],
        }
        write_whole(self._record, json.dumps(record).encode("utf-8"))

    def _start_guard(self) -> None:
        if self._guard is not None and self._guard.poll() is None:
            return
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", self._location, "guard", self._record],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what it can't undo stays written down
            start_new_session=True,  # not in the group that ends with the agent
            preexec_fn=_ignore_signals,
            cwd="/",
        )

    def close(self) -> None:
        """Undo everything. Safe to call twice."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None  # it was asked for
        guard.stdin.close()
        try:
            guard.wait(_GUARD_GRACE_S)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
        self._entries = {}
        tell(restore(self._record))  # nothing left to do, unless the guard was killed

    def restore_leftovers(self) -> None:
        """Undo what agents left that are gone with their guards: after a power cut, or both killed."""
        if not os.path.isdir(self._folder):
            return
        for name in sorted(os.listdir(self._folder)):
            path = os.path.join(self._folder, name)
            if name.endswith(_SUFFIX) and not self._is_alive(path):
                tell(restore(path))

    def _is_alive(self, path: str) -> bool:
        """Return whether the agent of a record still runs."""
        try:
            record = _read_record(path)
        except (OSError, ValueError):
            return False
        if record.get("boot_id") != self._boot_id:
            return False
        return self._probes.lives(int(record.get("pid", 0)), int(record.get("start_ticks", -1)))


def restore(record_path: str) -> List[str]:
    """Undo what a record says and remove it; return what couldn't be undone, which stays in the record."""
    try:
        with locked(os.path.dirname(record_path)):
            return _restore(record_path)
    except OSError as error:
        return ["%s: %s" % (record_path, error)]


def _restore(record_path: str) -> List[str]:
    try:
        record = _read_record(record_path)
        entries = [Entry(**{key: str(item[key]) for key in Entry._fields}) for item in record["entries"]]
    except FileNotFoundError:
        return []  # undone already
    except (ValueError, KeyError, TypeError) as error:
        _forget(record_path)  # written whole or not at all: the disk has changed it since
        return ["%s: not a record of settings (%s); it was removed" % (record_path, error)]
    failed = [(entry, why) for entry, why in ((e, undo(e)) for e in reversed(entries)) if why]
    if not failed:
        _forget(record_path)
        return []
    rest = dict(record, entries=[entry._asdict() for entry, _ in failed])
    write_whole(record_path, json.dumps(rest).encode("utf-8"))
    return ["%s can't be set back to `%s`: %s" % (entry.path, entry.was, why) for entry, why in failed]


def undo(entry: Entry) -> str:
    """Write back what a file held, if it still holds what the agent wrote; return why that failed, or ""."""
    try:
        if read_text(entry.path) == entry.set:
            write_setting(entry.path, entry.was)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    except Unreadable as error:
        return str(error) if os.path.exists(entry.path) else ""  # a CPU that was taken off line
    return ""


def write_setting(path: str, text: str) -> None:
    """Write a file of sysfs. Raises OSError that names it."""
    with open(path, "wb", buffering=0) as file:
        try:
            file.write(text.encode("utf-8"))
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None


def run_guard(record_path: str) -> int:
    """Wait for the end of stdin, then undo what the record says; return the exit code."""
    while os.read(0, 64):
        pass
    return 1 if restore(record_path) else 0


def _ignore_signals() -> None:
    """Leave the guard's end to its pipe: whoever ends the agent with these ends that as well."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the settings of a home: one agent or guard at a time."""
    descriptor = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def tell(failures: List[str]) -> None:
    """Say what couldn't be undone."""
    for failure in failures:
        sys.stderr.write("agent: %s\n" % failure)


def _read_record(path: str) -> Dict[str, Any]:
    with open(path, "rb") as file:
        record = json.loads(file.read().decode("utf-8"))
    if not isinstance(record, dict):
        raise ValueError("it holds no object")
    return record


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _boot_id(probes: Probes) -> str:
    try:
        return read_text(probes.root + "/proc/sys/kernel/random/boot_id")
    except Unreadable:
        return ""  # then a record tells its agent by pid and start alone


def _start_ticks(probes: Probes) -> int:
    try:
        return probes.start_ticks(os.getpid())
    except Unreadable:
        return 0
