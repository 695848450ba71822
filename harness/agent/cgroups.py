"""A cgroup v2 of its own for a measured process: its limits, its peak, and whether the kernel killed it.

Groups are made in /sys/fs/cgroup/harness where that is delegated to the agent's user, else in the agent's own
group where nobody else lives in it. Source throughout: kernel, admin-guide/cgroup-v2.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from .args import Args
from .faults import Fault
from .parsing import Unreadable, parse_integer, read_text
from .probes import Probes

MOUNT = "/sys/fs/cgroup"
SHARED = MOUNT + "/harness"
DEFAULT_PERIOD_US = 2000  # with 100 ms a quota of 50% left a 10 ms inference's median alone (measured)
_LEAF = "hil-agent"
_GROUP = re.compile(r"hil-(\d+)-(\d+)-\d+\Z")  # the agent's pid, when it started (clock ticks), a number
_REMOVE_TRIES, _REMOVE_PAUSE_S = 50, 0.01  # killed processes leave within some ms
_MEMORY_OFF = (
    "the kernel's `%s` controller is off; Raspberry Pi OS: add `cgroup_enable=memory` to"
    " /boot/firmware/cmdline.txt and restart"
)
_HOW = (
    "Delegate one: as root make %s with the controllers in its cgroup.subtree_control and log the user of"
    " the agent in below it, or start the agent by `systemd-run --user --scope -p Delegate=yes`"
    " (docs/agent-protocol.md, Limits of a child)." % SHARED
)


class Limits(NamedTuple):
    """What a child may use. `cpu_quota_us` of every `cpu_period_us`, over all CPUs."""

    memory_max_bytes: Optional[int]
    cpu_quota_us: Optional[int]
    cpu_period_us: int

    def controllers(self) -> List[str]:
        asked = (("memory", self.memory_max_bytes), ("cpu", self.cpu_quota_us))
        return [name for name, value in asked if value is not None]


def parse_limits(values: Dict[str, Any]) -> Optional[Limits]:
    """Return the limits of a `spawn` request's `cgroup`, None for an empty object."""
    if not values:
        return None
    args = Args("spawn: cgroup", values)

    def given(name: str, low: int) -> Optional[int]:
        value = args.integer(name, low, low)
        return None if values.get(name) is None else value

    # the kernel takes quotas and periods of 1 ms and more, periods up to 1 s (scheduler/sched-bwc)
    limits = Limits(
        given("memory_max_bytes", 1),
        given("cpu_quota_us", 1000),
        args.integer("cpu_period_us", DEFAULT_PERIOD_US, 1000, 1000000),
    )
    args.done()
    if not limits.controllers():
        raise Fault("bad_request", "spawn: cgroup: give `memory_max_bytes`, `cpu_quota_us` or both")
    return limits


class Cgroup:
    """One group. Nothing in here raises for a file that this kernel doesn't have: then it is None."""

    def __init__(self, path: str, rmdir: Callable[[str], None] = os.rmdir) -> None:
        self.path = path
        self._rmdir = rmdir

    def set_limits(self, limits: Limits) -> None:
        """Write the limits. Raises OSError."""
        if limits.memory_max_bytes is not None:
            self._write("memory.max", str(limits.memory_max_bytes))
            self._write_where_known("memory.swap.max", "0")  # else it would be slow, not out of memory
            self._write_where_known("memory.oom.group", "1")  # since Linux 4.19
        if limits.cpu_quota_us is not None:
            self._write("cpu.max", "%d %d" % (limits.cpu_quota_us, limits.cpu_period_us))

    def open_entry(self) -> int:
        """Return a descriptor that a process writes "0" to in order to enter. Raises OSError."""
        return os.open(os.path.join(self.path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)

    def peak_bytes(self) -> Optional[int]:
        """Return the most memory it has held, pages of files that it read first included (Linux 5.19)."""
        return self._integer("memory.peak")

    def max_bytes(self) -> Optional[int]:
        """Return its memory limit as the kernel holds it; None: no limit."""
        return self._integer("memory.max")

    def oom_kills(self) -> Optional[int]:
        """Return how many of its processes the kernel killed for want of memory."""
        found = re.search(r"^oom_kill (\d+)$", self._text("memory.events") or "", re.MULTILINE)
        return int(found.group(1)) if found else None

    def remove(self) -> None:
        """End what is left in it and remove it. What stays is told on stderr; the next agent removes it."""
        self._write_where_known("cgroup.kill", "1")  # since Linux 5.14
        for _ in range(_REMOVE_TRIES):
            try:
                self._rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    sys.stderr.write("agent: can't remove cgroup %s: %s\n" % (self.path, error.strerror))
                    return
            time.sleep(_REMOVE_PAUSE_S)
        sys.stderr.write("agent: cgroup %s still holds processes; it is left there\n" % self.path)

    def _text(self, file: str) -> Optional[str]:
        try:
            return read_text(os.path.join(self.path, file))
        except Unreadable:
            return None

    def _integer(self, file: str) -> Optional[int]:
        text = self._text(file)
        return int(text) if text is not None and text.isdigit() else None

    def _write(self, file: str, text: str) -> None:
        write_file(os.path.join(self.path, file), text)

    def _write_where_known(self, file: str, text: str) -> None:
        try:
            self._write(file, text)
        except FileNotFoundError:
            return  # an older kernel, or one without swap


class Cgroups:
    """Makes groups, and removes those of agents that were killed."""

    def __init__(
        self,
        probes: Probes,
        mkdir: Callable[[str], None] = os.mkdir,
        rmdir: Callable[[str], None] = os.rmdir,
    ) -> None:
        self._probes = probes
        self._mkdir = mkdir
        self._rmdir = rmdir
        self._count = 0
        self._own: Optional[str] = None  # the agent's own group, once it has been made ready

    def _path(self, path: str) -> str:
        return self._probes.root + path

    def create(self, limits: Limits) -> Cgroup:
        """Return a new group with `limits`. Raises `unsupported`, with what is missing and what to do."""
        parent = self._find_parent(limits.controllers())
        self._count += 1
        pid = os.getpid()
        try:
            name = "hil-%d-%d-%d" % (pid, self._probes.start_ticks(pid), self._count)
        except Unreadable as error:
            raise Fault("unsupported", "no cgroup without /proc: %s" % error) from None
        group = Cgroup(os.path.join(parent, name), self._rmdir)
        try:
            self._mkdir(group.path)
        except OSError as error:
            raise Fault("unsupported", "no cgroup can be made: %s: %s" % (parent, error.strerror)) from None
        try:
            group.set_limits(limits)
        except OSError as error:
            group.remove()
            raise Fault(
                "unsupported", "the limits can't be set: %s: %s" % (error.filename, error.strerror)
            ) from None
        return group

    def remove_leftovers(self) -> None:
        """Remove the groups of agents that are gone."""
        shared = self._path(SHARED)
        try:
            names = os.listdir(shared)
        except OSError:
            return  # there is no such folder, so nothing is left in it
        for name in names:
            found = _GROUP.match(name)
            if found and not self._probes.lives(int(found.group(1)), int(found.group(2))):
                Cgroup(os.path.join(shared, name), self._rmdir).remove()

    def _find_parent(self, controllers: List[str]) -> str:
        try:
            known = read_text(self._path(MOUNT + "/cgroup.controllers")).split()
        except Unreadable as error:
            raise Fault(
                "unsupported",
                "cgroup v2 is not mounted (%s); boot with `systemd.unified_cgroup_hierarchy=1`" % error,
            ) from None
        for name in controllers:
            if name not in known:
                raise Fault("unsupported", "no limits: " + _MEMORY_OFF % name)
        failures = []
        for find in (self._find_shared, self._find_own):
            try:
                return find(controllers)
            except Unreadable as error:
                failures.append(str(error))
        raise Fault("unsupported", "no cgroup that this user may use: %s. %s" % ("; ".join(failures), _HOW))

    def _find_shared(self, controllers: List[str]) -> str:
        path = self._path(SHARED)
        if not os.path.isdir(path):
            if os.geteuid() != 0:
                raise Unreadable("%s: not there" % SHARED)
            enable(self._path(MOUNT), controllers)
            self._make(path)
        if not os.access(path, os.W_OK | os.X_OK):
            raise Unreadable("%s: not writable for user %d" % (SHARED, os.geteuid()))
        enable(path, controllers)
        return path

    def _find_own(self, controllers: List[str]) -> str:
        """Return the agent's own group, its processes moved to a leaf: only leaves may hold processes."""
        if self._own is None:
            text = read_text(self._path("/proc/self/cgroup"))
            found = re.search(r"^0::(/.*)$", text, re.MULTILINE)
            if not found:
                raise Unreadable("/proc/self/cgroup: no line of cgroup v2")
            path = self._path(MOUNT) + found.group(1).rstrip("/")
            if not os.access(path, os.W_OK | os.X_OK):
                raise Unreadable("%s: not writable for user %d" % (MOUNT + found.group(1), os.geteuid()))
            pids = [parse_integer(line, path) for line in read_text(path + "/cgroup.procs").split()]
            strangers = [pid for pid in pids if pid != os.getpid() and not self._is_mine(pid)]
            if strangers:
                raise Unreadable(
                    "%s: others live in it (process %d)" % (MOUNT + found.group(1), strangers[0])
                )
            leaf = os.path.join(path, _LEAF)
            self._make(leaf)
            for pid in pids:
                _try_write(leaf + "/cgroup.procs", str(pid))
            self._own = path
        enable(self._own, controllers)
        return self._own

    def _is_mine(self, pid: int) -> bool:
        try:
            return self._probes.parent_pid(pid) == os.getpid()
        except Unreadable:
            return True  # it has just ended

    def _make(self, path: str) -> None:
        try:
            self._mkdir(path)
        except FileExistsError:
            return
        except OSError as error:
            raise Unreadable("%s: %s" % (path, error.strerror)) from None


def enable(path: str, controllers: List[str]) -> None:
    """Have the groups below `path` use `controllers`. Raises Unreadable."""
    file = path + "/cgroup.subtree_control"
    enabled = read_text(file).split()
    for name in controllers:
        if name not in enabled:
            _try_write(file, "+" + name)


def _try_write(path: str, text: str) -> None:
    try:
        write_file(path, text)
    except OSError as error:
        raise Unreadable("%s: can't write %r: %s" % (path, text, error.strerror)) from None


def write_file(path: str, text: str) -> None:
    """Write a file of the kernel's with one write. Raises OSError that names the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)
