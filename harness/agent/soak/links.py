"""The runner's children over their pipes, the clocks, and the one place where the runner waits."""

from __future__ import annotations

import os
import selectors
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ..args import Args
from ..busyloop import BusyLoop
from ..cgroups import Cgroups
from ..env import env_path
from ..faults import Fault, to_fault
from ..probes import Probes
from ..processes import ChildProcess, read_memory, start_process
from ..store import Store
from ..wire import Frame, WireFault
from .calls import STOP_SIGNAL
from .folder import SoakFolder
from .spec import Variant

_CHUNK_BYTES = 1 << 20


class Happening(NamedTuple):
    """What came of a child: an answer, or the fault that says how it ended."""

    link: Any
    frame: Optional[Frame]
    fault: Optional[Fault]


class Link:
    """One measured child as the runner's streams see it."""

    def __init__(self, child: ChildProcess, world: "World") -> None:
        self.child = child
        self._world = world
        self._requests = 0

    def send(self, op: str, args: Dict[str, Any], payload: bytes = b"") -> int:
        """Send a request; return its id. A child that is gone tells so by its happening."""
        self._requests += 1
        self.child.outbox.put(Frame(self._requests, "request", op, args, payload))
        self._world.flush(self)
        return self._requests

    def set_measured_pid(self, pid: int) -> None:
        """Have the memory of another process read: a command's."""
        self.child.measured_pid = pid

    def end_slices(self) -> None:
        """Have a child that has begun answer at once."""
        self.child.process.send_signal(STOP_SIGNAL)

    def kill(self, why: str) -> None:
        """Kill it; its happening follows."""
        self.child.kill(why)

    def memory(self) -> Dict[str, Any]:
        """Return what the probes read of its memory, threads and files; empty where it is just gone."""
        try:
            return read_memory(self.child, self._world.probes)
        except Fault:
            return {}

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        self.child.process.terminate()

    def close(self) -> None:
        """End it, forget it, remove its cgroup."""
        self._world.forget(self)
        self.child.end()
        self.child.close()


class World:
    """Real children and clocks. `wake_fd` ends a wait when it becomes readable (signals)."""

    def __init__(self, folder: SoakFolder, location: str, wake_fd: int) -> None:
        self.probes = Probes()
        self._folder = folder
        self._store = Store(folder.home)
        self.location = location
        self._cgroups = Cgroups(self.probes)
        # the host alone says whether an emulated board's idle time is skipped in a soak
        self._busy_loop = BusyLoop(Probes("/nonexistent"))
        self._selector = selectors.DefaultSelector()
        self._selector.register(wake_fd, selectors.EVENT_READ, None)
        self._wake_fd = wake_fd
        self._writing: Dict[int, Link] = {}

    def boottime_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def realtime_ns(self) -> int:
        return time.time_ns()

    def keep_log_small(self) -> None:
        """Begin this process's log anew where it has grown. Raises OSError."""
        self._folder.keep_log_small()

    def start(self, name: str, variant: Variant, cpus: List[int]) -> Link:
        """Start a child and send it `start`. Raises Fault."""
        given = {
            "child": name,
            "threads": variant.threads,
            "env_vars": variant.env_vars,
            "cgroup": variant.cgroup,
        }
        env = env_path(self._store, variant.env) if variant.env else ""
        try:
            args = Args("spawn", given)
            child = start_process(self.location, args, self.probes, self._cgroups, self._busy_loop)
        except OSError as error:
            raise to_fault(error) from None
        link = Link(child, self)
        self._selector.register(child.wire_fd, selectors.EVENT_READ, link)
        self._selector.register(child.stderr_fd, selectors.EVENT_READ, link)
        link.send("start", {"adapter": variant.adapter, "env": env, "cpus": cpus, "nice": 0})
        return link

    def wait(self, until_boottime_ns: int) -> List[Happening]:
        """Return what happens next; nothing when the time has come or a signal did."""
        timeout_s = max(0.0, (until_boottime_ns - self.boottime_ns()) / 1e9)
        found: List[Happening] = []
        for key, _ in self._selector.select(timeout_s):
            if key.fd == self._wake_fd:
                os.read(self._wake_fd, 512)
            elif self._selector.get_map().get(key.fd) is key:  # not closed by one before it
                found += self._take(key.data, key.fd)
        return found

    def _take(self, link: Link, descriptor: int) -> List[Happening]:
        child = link.child
        if descriptor == child.stderr_fd:
            if not child.read_stderr():
                self._selector.unregister(child.stderr_fd)
            return []
        if descriptor == child.outbox.descriptor:
            self.flush(link)
            return []
        try:
            data = os.read(child.wire_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return []
        if not data:
            return [self._bury(link)]
        try:
            return [Happening(link, frame, None) for frame in child.decoder.feed(data)]
        except WireFault as error:
            child.kill("it wrote what is no frame: %s" % error)
            return [self._bury(link)]

    def _bury(self, link: Link) -> Happening:
        fault = link.child.death(self.probes)
        cgroup = link.child.cgroup
        if fault.details["oom"]:  # a group dies as a whole, and the kernel counts each process in it
            fault.details["oom_kills"] = (cgroup.oom_kills() if cgroup is not None else None) or 1
        link.close()
        return Happening(link, None, fault)

    def flush(self, link: Link) -> None:
        """Write what the child's pipe takes; the rest follows when there is room."""
        outbox = link.child.outbox
        try:
            outbox.flush()
        except BrokenPipeError:
            self._stop_writing(link)  # it died; the end of its other pipe tells how
            return
        if outbox.pending and outbox.descriptor not in self._writing:
            self._writing[outbox.descriptor] = link
            self._selector.register(outbox.descriptor, selectors.EVENT_WRITE, link)
        elif not outbox.pending:
            self._stop_writing(link)

    def _stop_writing(self, link: Link) -> None:
        if self._writing.pop(link.child.outbox.descriptor, None):
            self._selector.unregister(link.child.outbox.descriptor)

    def forget(self, link: Link) -> None:
        """Listen no more to a child. Safe to call twice."""
        for descriptor in (link.child.wire_fd, link.child.stderr_fd):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        self._stop_writing(link)
