"""Measured processes as their parent sees them: start, limits, end, and why one died."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, Optional

from .args import Args
from .busyloop import BusyLoop
from .cgroups import Cgroup, Cgroups, parse_limits
from .faults import Fault
from .parsing import Unreadable
from .pipes import Outbox
from .probes import Probes
from .wire import Decoder, Frame

STDERR_TAIL_BYTES = 16 << 10
TERM_GRACE_S = 2.0
_COLOURS = re.compile("\x1b\\[[0-9;]*m")  # ECMA-48 SGR: runtimes colour their logs
_SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What calls a loaded model over and over: nothing waits, so that no time can fly meanwhile
_CLOSED_LOOPS = ("measure", "count", "duet")
# how many threads maths libraries start when they are loaded; the runtime itself is told at `load`
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Pending:
    """The request a child is working on."""

    def __init__(self, request: Frame, op: str, deadline_s: float) -> None:
        self.request = request
        self.op = op
        self.deadline_s = deadline_s
        self.due_ns = time.monotonic_ns() + int(deadline_s * 1e9)


class ChildProcess:
    """One measured process with its pipes."""

    def __init__(
        self,
        name: str,
        process: "subprocess.Popen[bytes]",
        oom_kills: Optional[int],
        cgroup: Optional[Cgroup] = None,
        busy_loop: Optional[BusyLoop] = None,
        has_quota: bool = False,
    ) -> None:
        assert process.stdin is not None  # all three were asked for
        assert process.stdout is not None
        assert process.stderr is not None
        self.name = name
        self.process = process
        self.outbox = Outbox(process.stdin.fileno())
        self.wire_fd = process.stdout.fileno()
        self.stderr_fd = process.stderr.fileno()
        os.set_blocking(self.wire_fd, False)
        os.set_blocking(self.stderr_fd, False)
        self.decoder = Decoder()
        self._pending: Optional[Pending] = None
        self._busy_loop = busy_loop
        self._has_quota = has_quota
        self._loop_stands = False
        self.in_process = False  # a model is loaded, and runs in this process
        self.measured_pid = process.pid  # another where the adapter runs the model in a process of its own
        self.model_path = ""  # of the model that it was told to load
        self.cgroup = cgroup
        self.killed_by_agent = ""  # why, if it was the agent that ended it
        self._stderr = bytearray()
        self._oom_kills = oom_kills

    @property
    def pending(self) -> Optional[Pending]:
        """The request that it works on."""
        return self._pending

    @pending.setter
    def pending(self, pending: Optional[Pending]) -> None:
        self._pending = pending
        self._let_loop_stand(pending is not None and self._suffers(pending.op))

    def _suffers(self, op: str) -> bool:
        """Return whether the busy loop would lie to this op: see there."""
        return self._has_quota or (self.in_process and op in _CLOSED_LOOPS)

    def _let_loop_stand(self, stands: bool) -> None:
        if self._busy_loop is None or stands == self._loop_stands:
            return
        self._loop_stands = stands
        if stands:
            self._busy_loop.stop()
        else:
            self._busy_loop.go()

    def read_stderr(self) -> bool:
        """Take what is on its stderr now; return whether it is still open."""
        while True:
            try:
                data = os.read(self.stderr_fd, 1 << 16)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self._stderr += data
            del self._stderr[:-STDERR_TAIL_BYTES]

    def kill(self, why: str) -> None:
        """Kill it at once, for a reason that will be in the answer."""
        self.killed_by_agent = self.killed_by_agent or why
        self.process.kill()

    def end(self) -> int:
        """End it: its pipe closed, TERM, 2 s, KILL. Return its exit code (negative: the signal)."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(TERM_GRACE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def close(self) -> None:
        """Close the pipes of an ended process, and remove its cgroup."""
        self._let_loop_stand(False)
        if self.cgroup is not None:
            self.cgroup.remove()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # its reader is gone, as it should be

    def death(self, probes: Probes) -> Fault:
        """Return why an ended process ended, with the evidence there is."""
        try:
            code = self.process.wait(TERM_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill("it closed its wire and stayed")
            code = self.process.wait()
        self.read_stderr()
        tail = _COLOURS.sub("", self._stderr.decode("utf-8", "replace"))[-2000:]
        oom = code == -9 and not self.killed_by_agent and self._was_out_of_memory(probes)
        if self.killed_by_agent:
            how = "was ended by the agent: " + self.killed_by_agent
        elif oom:
            how = "was killed by the kernel: " + self._shortage()
        elif code < 0:
            how = "died of signal %d (%s)" % (-code, _signal_name(-code))
        else:
            how = "exited with %d" % code
        last = tail.strip().splitlines()[-1] if tail.strip() else "(stderr is empty)"
        op = self.pending.op if self.pending else ""
        return Fault(
            "child_died",
            "child `%s` %s%s: %s" % (self.name, how, " during `%s`" % op if op else "", last[:300]),
            child=self.name,
            op=op,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            stderr_tail=tail,
            oom=oom,
            killed_by_agent=bool(self.killed_by_agent),
            **read_cgroup(self.cgroup),
        )

    def _shortage(self) -> str:
        """Return what it was short of."""
        memory = read_cgroup(self.cgroup)
        if memory["cgroup_max_bytes"] is None:
            return "out of memory"
        peak = memory["cgroup_peak_bytes"]
        return "out of memory: its limit is %d bytes (memory.max), its peak %s" % (
            memory["cgroup_max_bytes"],
            "was %d" % peak if peak is not None else "is unknown",
        )

    def _was_out_of_memory(self, probes: Probes) -> bool:
        if self.cgroup is not None:
            kills = self.cgroup.oom_kills()
            if kills is not None:
                return kills > 0
        now = probes.oom_kills()
        return now is not None and self._oom_kills is not None and now > self._oom_kills


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "real-time"


def child_environment(threads: int, extra: Dict[str, Any]) -> Dict[str, str]:
    """Return a child's environment: little, the same on every device, then what the request adds."""
    env = {
        "PATH": _SAFE_PATH,
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
    }
    env.update({name: str(threads) for name in _THREAD_VARIABLES})
    for name, value in extra.items():
        if not isinstance(value, str) or "\0" in name + value or "=" in name or not name:
            raise Fault("bad_request", "spawn: `env_vars` holds %r: %r, expected texts" % (name, value))
        env[name] = value
    return env


def start_process(
    location: str, args: Args, probes: Probes, cgroups: Cgroups, busy_loop: BusyLoop
) -> ChildProcess:
    """Start a child from a `spawn` request's own args. It still waits for `start`."""
    name = args.name("child")
    threads = args.integer("threads", 1, 1, 1024)
    env = child_environment(threads, args.mapping("env_vars", {}))
    limits = parse_limits(args.mapping("cgroup", {}))
    argv = [sys.executable, "-I", "-S", location, "child"]
    oom_kills = probes.oom_kills()
    if limits is None:
        return ChildProcess(name, _popen(argv, env), oom_kills, None, busy_loop)
    cgroup = cgroups.create(limits)
    try:
        entry = cgroup.open_entry()
        try:
            # it enters before it becomes the child: memory is charged where it was first used
            process = _popen(argv, env, lambda: os.write(entry, b"0"))
        finally:
            os.close(entry)
    except subprocess.SubprocessError:  # subprocess's word for an exception in the lambda
        cgroup.remove()
        raise Fault(
            "unsupported",
            "a process of this user can't be moved into %s: that needs write access to cgroup.procs of the"
            " group above both that and the agent's own" % cgroup.path,
        ) from None
    except OSError as error:
        cgroup.remove()
        raise Fault("unsupported", "%s can't be used: %s" % (cgroup.path, error)) from None
    has_quota = limits.cpu_quota_us is not None
    return ChildProcess(name, process, oom_kills, cgroup, busy_loop, has_quota)


def _popen(
    argv: List[str], env: Dict[str, str], first: Optional[Callable[[], Any]] = None
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=env,
        cwd="/",
        preexec_fn=first,  # the agent has no threads
    )


def check_cpus(cpus: List[int]) -> List[int]:
    """Return `cpus` if the process may run on all of them. Raises `unsupported`."""
    allowed = os.sched_getaffinity(0)
    missing = sorted(set(cpus) - allowed)
    if missing:
        raise Fault("unsupported", "cpus %s are not there; the device has %s" % (missing, sorted(allowed)))
    return cpus


def read_memory(child: ChildProcess, probes: Probes) -> Dict[str, Any]:
    """Return the memory of the process that runs the model."""
    begin = time.monotonic_ns()
    pid = child.measured_pid
    try:
        if pid != child.process.pid and probes.parent_pid(pid) != child.process.pid:
            raise Unreadable("process %d is no longer the child's" % pid)
        memory = dict(probes.memory(pid, child.model_path), **read_cgroup(child.cgroup))
    except Unreadable as error:
        raise Fault(
            "unsupported", "the memory of child `%s` can't be read: %s" % (child.name, error)
        ) from None
    return dict(memory, pid=pid, monotonic_ns=begin, cost_ns=time.monotonic_ns() - begin)


def read_cgroup(cgroup: Optional[Cgroup]) -> Dict[str, Optional[int]]:
    """Return what a child's own cgroup has held at most and may hold; None without one."""
    return {
        "cgroup_peak_bytes": cgroup.peak_bytes() if cgroup else None,
        "cgroup_max_bytes": cgroup.max_bytes() if cgroup else None,
    }
