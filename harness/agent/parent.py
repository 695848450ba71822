"""The agent's event loop: the host on one side, any number of measured children on the other.

It never waits for one of them: reading and writing are non-blocking, every request to a child has a
deadline. When the host's stream ends, everything ends.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import signal
import sys
import time
from typing import Any, Callable, Dict, Optional

from . import env as environments
from .args import Args
from .duet import Duet, Turn, read_plan
from .faults import Fault, to_fault
from .ops import OPS, Device
from .pipes import Outbox
from .processes import ChildProcess, Pending, check_cpus, read_memory, start_process
from .sampler import NAME as SAMPLER
from .sampler import start_sampler
from .wire import Decoder, Frame, WireFault

EXIT_WIRE = 3
_CHUNK_BYTES = 1 << 20
_MAX_CHILDREN = 64
_CHILD_OPS = ("load", "set_inputs", "first", "measure", "paced", "count", "infer", "exit")


class Finished(Exception):
    """The loop ends; the exit code is the argument."""


class Parent:
    """Routes frames. `run` returns the exit code."""

    def __init__(self, device: Device, stdin_fd: int, stdout_fd: int) -> None:
        self._device = device
        self._stdin_fd = stdin_fd
        self._outbox = Outbox(stdout_fd)
        self._decoder = Decoder()
        self._children: Dict[str, ChildProcess] = {}
        self._selector = selectors.DefaultSelector()
        self._writing: Dict[int, Outbox] = {}  # outboxes that wait for room
        self._unheard: Dict[str, Fault] = {}  # how children died that nothing was asked of just then
        self._local: Dict[str, Callable[[Frame], None]] = {
            "spawn": self._spawn,
            "child": self._forward,
            "duet": self._duet,
            "sample": self._sample,
            "reap": self._reap,
            "sampler_start": self._sampler_start,
            "sampler_stop": self._sampler_stop,
            "bye": self._bye,
        }

    def run(self) -> int:
        """Serve until the host says bye or its stream ends."""
        os.set_blocking(self._stdin_fd, False)
        self._selector.register(self._stdin_fd, selectors.EVENT_READ, self._read_host)
        try:
            while True:
                self._turn()
        except Finished as finished:
            return int(finished.args[0])
        except WireFault as fault:
            sys.stderr.write("agent: bad frame from the host: %s\n" % fault)
            return EXIT_WIRE
        except BrokenPipeError:
            return 0  # the host is gone, as at the end of its stream
        finally:
            self._end_all()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            if self._selector.get_map().get(key.fd) is key:  # not closed by a call before it
                key.data()
        self._expire()

    def _wait_s(self) -> Optional[float]:
        due = [child.pending.due_ns for child in self._children.values() if child.pending]
        return max(0.0, (min(due) - time.monotonic_ns()) / 1e9) if due else None

    # the host's side

    def _read_host(self) -> None:
        try:
            data = os.read(self._stdin_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._decoder.finish()
            raise Finished(0)
        for frame in self._decoder.feed(data):
            if frame.type != "request":
                raise WireFault("a %s frame from the host, expected request" % frame.type)
            self._serve(frame)

    def _serve(self, frame: Frame) -> None:
        try:
            if frame.op in self._local:
                self._local[frame.op](frame)
                return
            op = OPS.get(frame.op)
            if op is None:
                known = ", ".join(sorted([*OPS, *self._local]))
                raise Fault("bad_request", "unknown op `%s`; valid: %s" % (frame.op, known))
            answer = op(self._device, Args(frame.op, frame.args))
            args, payload = answer if isinstance(answer, tuple) else (answer, b"")
            self._answer(frame, args, payload)
        except (Fault, OSError, ValueError) as error:
            self._fail(frame, to_fault(error))

    def _answer(self, request: Frame, args: Dict[str, Any], payload: bytes = b"") -> None:
        self._send(self._outbox, Frame(request.id, "result", request.op, args, payload))

    def _fail(self, request: Frame, fault: Fault) -> None:
        self._send(self._outbox, Frame(request.id, "error", request.op, fault.to_args()))

    def _send(self, outbox: Outbox, frame: Frame) -> None:
        try:
            outbox.put(frame)
        except (WireFault, ValueError) as error:
            if outbox is not self._outbox or frame.type == "error":
                raise
            self._fail(frame, Fault("internal", "the answer can't travel: %s" % error))
            return
        self._flush(outbox)

    def _flush(self, outbox: Outbox) -> None:
        try:
            outbox.flush()
        except BrokenPipeError:
            if outbox is self._outbox:
                raise
            self._stop_writing(outbox)  # a child that died; the end of its other pipe tells how
            return
        waiting = outbox.descriptor in self._writing
        if outbox.pending and not waiting:
            self._writing[outbox.descriptor] = outbox
            self._selector.register(outbox.descriptor, selectors.EVENT_WRITE, lambda: self._flush(outbox))
        elif waiting and not outbox.pending:
            self._stop_writing(outbox)

    def _stop_writing(self, outbox: Outbox) -> None:
        if self._writing.pop(outbox.descriptor, None):
            self._selector.unregister(outbox.descriptor)

    # the children's side

    def _spawn(self, frame: Frame) -> None:
        args = Args("spawn", frame.args)
        name = args.name("child")
        if name in self._children:
            raise Fault("bad_request", "spawn: a child `%s` lives already" % name)
        if len(self._children) >= _MAX_CHILDREN:
            raise Fault("bad_request", "spawn: %d children live already" % _MAX_CHILDREN)
        sha256 = args.text("env", "")
        folder = environments.env_path(self._device.store, args.sha256("env")) if sha256 else ""
        cpus = check_cpus(args.integers("cpus", []))
        start = {
            "adapter": args.name("adapter"),
            "env": folder,
            "cpus": cpus,
            "nice": args.integer("nice", 0, -20, 19),
        }
        deadline_s = args.number("deadline_s", 120.0, 0.001)
        device = self._device
        child = start_process(device.location, args, device.probes, device.cgroups, device.busy_loop)
        self._adopt(child)
        try:
            args.done()
        except Fault:
            self._remove(child)
            raise
        self._hand_over(child, frame, "start", start, deadline_s)

    def _adopt(self, child: ChildProcess) -> None:
        self._unheard.pop(child.name, None)
        self._children[child.name] = child
        self._selector.register(child.wire_fd, selectors.EVENT_READ, lambda: self._read_child(child))
        self._selector.register(child.stderr_fd, selectors.EVENT_READ, lambda: self._read_stderr(child))

    def _sampler_start(self, frame: Frame) -> None:
        args = dict(frame.args)
        deadline_s = Args("sampler_start", {"deadline_s": args.pop("deadline_s", 30.0)}).number("deadline_s")
        cpus = args.get("cpus")
        if isinstance(cpus, list):
            check_cpus(cpus)
        if SAMPLER in self._children:
            raise Fault("bad_request", "sampler_start: a sampler runs already; stop it first")
        child = start_sampler(self._device.location, self._device.channels.root)
        self._adopt(child)
        args["i2c"] = self._device.channels.i2c
        self._hand_over(child, frame._replace(args={}), "sampler_start", args, deadline_s)

    def _sampler_stop(self, frame: Frame) -> None:
        args = Args("sampler_stop", frame.args)
        deadline_s = args.number("deadline_s", 30.0)
        args.done()
        child = self._children.get(SAMPLER)
        if child is None:
            death = self._unheard.get(SAMPLER)
            why = death.message if death is not None else "none was started"
            raise Fault("no_such_child", "sampler_stop: no sampler runs: %s" % why)
        self._hand_over(child, frame, "sampler_stop", {}, deadline_s)

    def _forward(self, frame: Frame) -> None:
        args = Args("child", frame.args)
        child = self._child(args)
        op, inner = args.text("op"), args.mapping("args", {})
        deadline_s = args.number("deadline_s", low=0.001)
        args.done()
        if op not in _CHILD_OPS:
            raise Fault("bad_request", "child: unknown op `%s`; valid: %s" % (op, ", ".join(_CHILD_OPS)))
        if op == "load":
            child.model_path = str(inner.get("model_path", ""))
        self._hand_over(child, frame, op, inner, deadline_s)

    def _child(self, args: Args) -> ChildProcess:
        return self._living(args.name("child"))

    def _living(self, name: str) -> ChildProcess:
        child = self._children.get(name)
        if child is None:
            if name in self._unheard:
                raise self._unheard.pop(name)
            living = ", ".join(sorted(self._children)) or "none"
            raise Fault("no_such_child", "no child `%s` lives; there are: %s" % (name, living))
        return child

    def _hand_over(
        self, child: ChildProcess, frame: Frame, op: str, args: Dict[str, Any], deadline_s: float
    ) -> None:
        _require_idle(child)
        child.pending = Pending(frame._replace(payload=b""), op, deadline_s)
        self._send(child.outbox, Frame(frame.id, "request", op, args, frame.payload))

    def _read_child(self, child: ChildProcess) -> None:
        try:
            data = os.read(child.wire_fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._bury(child)
            return
        try:
            for frame in child.decoder.feed(data):
                self._from_child(child, frame)
                if self._children.get(child.name) is not child:
                    return
        except WireFault as fault:
            child.kill("it wrote what is no frame: %s" % fault)
            self._bury(child)

    def _from_child(self, child: ChildProcess, frame: Frame) -> None:
        pending = child.pending
        if pending is None or frame.id != pending.request.id or frame.type == "request":
            raise WireFault("a %s frame for request %d that is not open" % (frame.type, frame.id))
        if isinstance(pending, Turn):
            pending.duet.answered(child.name, frame)
            self._conclude(pending)
            return
        args = dict(frame.args, child=child.name)
        if frame.type == "result":
            if pending.op == "start":
                args["pid"] = child.process.pid
            if pending.op == "load":
                child.in_process = args.get("in_process") is True
                if isinstance(args.get("measured_pid"), int):
                    child.measured_pid = args["measured_pid"]
            if "arrays" in args:
                args["sha256"] = hashlib.sha256(frame.payload).hexdigest()
        answer = Frame(frame.id, frame.type, pending.request.op, args, frame.payload)
        if frame.type != "event":
            child.pending = None
        self._send(self._outbox, answer)
        failed = pending.op in ("start", "sampler_start") and frame.type == "error"
        if failed or pending.op == "sampler_stop":
            self._remove(child)

    def _duet(self, frame: Frame) -> None:
        plan = read_plan(Args("duet", frame.args))
        children = [self._living(name) for name in plan.children]
        for child in children:
            _require_idle(child)

        def send(name: str, op: str, args: Dict[str, Any]) -> None:
            self._send(self._children[name].outbox, Frame(frame.id, "request", op, args))

        duet = Duet(plan, send)
        turn = Turn(frame._replace(payload=b""), plan, duet)
        for child in children:
            child.pending = turn
        duet.start()

    def _conclude(self, turn: Turn) -> None:
        """Answer the host if a duet is over, and let its children go."""
        duet = turn.duet
        if not duet.done:
            return
        for name in turn.children:
            if name in self._children and self._children[name].pending is turn:
                self._children[name].pending = None
        if duet.fault is not None:
            self._fail(turn.request, duet.fault)
            return
        try:
            args, payload = duet.result()
        except WireFault as error:
            self._fail(turn.request, Fault("internal", "duet: a child's samples are damaged: %s" % error))
            return
        self._answer(turn.request, dict(args, sha256=hashlib.sha256(payload).hexdigest()), payload)

    def _read_stderr(self, child: ChildProcess) -> None:
        if not child.read_stderr():
            self._selector.unregister(child.stderr_fd)

    def _bury(self, child: ChildProcess) -> None:
        """Answer for a child that is gone, and forget it."""
        fault = child.death(self._device.probes)
        pending = child.pending
        self._remove(child)
        if pending is None:
            self._unheard[child.name] = fault
        self._answer_for(child, pending, fault)

    def _answer_for(self, child: ChildProcess, pending: Optional[Pending], fault: Fault) -> None:
        """Answer what a child that is gone was working on."""
        if isinstance(pending, Turn):
            pending.duet.lost(child.name, fault)
            self._conclude(pending)
        elif pending:
            self._fail(pending.request, fault)

    def _remove(self, child: ChildProcess) -> int:
        """End and forget a living child; return its exit code (negative: the signal)."""
        assert self._children.pop(child.name) is child
        for descriptor in (child.wire_fd, child.stderr_fd):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        self._stop_writing(child.outbox)
        code = child.end()
        child.close()
        return code

    def _expire(self) -> None:
        now = time.monotonic_ns()
        for child in list(self._children.values()):
            pending = child.pending
            if pending is None or pending.due_ns > now or self._children.get(child.name) is not child:
                continue
            if isinstance(pending, Turn):
                child = self._children[pending.duet.working or child.name]
                pending.extend()
            text = "child `%s`: `%s` took longer than %g s; the child was ended" % (
                child.name,
                pending.op,
                pending.deadline_s,
            )
            child.kill("deadline")
            self._remove(child)
            self._answer_for(child, pending, Fault("deadline", text, child=child.name, op=pending.op))

    def _sample(self, frame: Frame) -> None:
        args = Args("sample", frame.args)
        child = self._child(args)
        args.done()
        self._answer(frame, dict(read_memory(child, self._device.probes), child=child.name))

    def _reap(self, frame: Frame) -> None:
        args = Args("reap", frame.args)
        child = self._child(args)
        args.done()
        pending = child.pending
        code = self._remove(child)
        self._answer_for(child, pending, Fault("no_such_child", "child `%s` was reaped" % child.name))
        self._answer(frame, {"exit_code": code, "child": child.name})

    def _bye(self, frame: Frame) -> None:
        Args("bye", frame.args).done()
        self._end_all()
        self._answer(frame, {})
        os.set_blocking(self._outbox.descriptor, True)
        self._outbox.flush()
        raise Finished(0)

    def _end_all(self) -> None:
        for child in list(self._children.values()):
            child.process.terminate()  # all at once, so that the grace is waited for once
        for child in list(self._children.values()):
            self._remove(child)
        self._device.close()


def _require_idle(child: ChildProcess) -> None:
    if child.pending:
        raise Fault("bad_request", "child `%s` is busy with `%s`" % (child.name, child.pending.op))


def _terminated(number: int, _frame: Any) -> None:
    raise Finished(128 + number)


def run_parent(home: str, location: str) -> int:
    """Serve on this process's stdin and stdout; return the exit code."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)  # whatever prints by accident goes to stderr, never between frames
    os.close(null)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _terminated)
    try:
        device = Device(home, location)
    except OSError as error:
        sys.stderr.write("agent: can't use the home folder %s: %s\n" % (home, error))
        return 5
    return Parent(device, wire_in, wire_out).run()
