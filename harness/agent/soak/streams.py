"""One stream: its child from start to end, its slices, what its death means, and which variant serves.

Two slices are in the child's hands at any time, the one it works on and the next, so that it never waits for
the runner between them; none reaches beyond the window after the present one.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Set, Tuple

from ..faults import Fault
from ..samples import count_items
from ..wire import ITEM_BYTES, Frame, Tensor, pack_tensors
from .cycles import parse_cycle
from .spec import Stream as StreamSpec
from .spec import Variant
from .tally import Tally

S = 10**9
# Chosen: a board's slowest import or load; a hung call is told from a slow one by far more than it ever took
SETUP_NS = 900 * S
HANG_NS, HANG_CALLS = 120 * S, 10
BACK_OFF_NS, MAX_BACK_OFF_NS = 1 * S, 60 * S
STEADY_NS = 600 * S  # so long without a death ends the back-off (chosen)
HOUR_NS = 3600 * S
MAX_TOLD_KINDS = 64
MISSED = "missed"  # calls that were due while no child served
# these don't go away by trying again
_FINAL = ("bad_request", "not_found", "unsupported", "runtime_unavailable")

StartLink = Callable[[str, Variant, List[int]], Any]  # name of the child, variant, cpus
# (event, text, stream, details)
Tell = Callable[[str, str, str, Dict[str, Any]], None]


class Rules(NamedTuple):
    """What all streams of a soak share. `epoch_ns`: CLOCK_BOOTTIME at soak time 0."""

    window_ns: int
    slice_ns: int
    duration_ns: int
    epoch_ns: int
    restart: bool
    max_restarts_per_h: int
    cpus: List[int]


class Slice(NamedTuple):
    id: int
    until_ns: int


class Worker:
    """One child on its way through `start`, `load`, `set_inputs`, `soak_begin`, then making calls."""

    def __init__(self, link: Any, variant: Variant, due_ns: int) -> None:
        self.link = link
        self.variant = variant
        self.stage = "start"  # the request that is open; "ready": loaded; "soak": slices
        self.due_ns: Optional[int] = due_ns  # of the answer to it
        self.slices: Deque[Slice] = deque()
        self.killed = False

    @property
    def serves(self) -> bool:
        return self.stage == "soak"


class Stream:
    """A stream of a soak. Times are soak time."""

    def __init__(self, spec: StreamSpec, rules: Rules, start: StartLink, tell: Tell) -> None:
        """Make it; nothing is started yet. `start` returns a link. Raises `bad_request`."""
        self.name = spec.name
        self._rules = rules
        self._variants = spec.variants
        self._switch = spec.switch
        self._cycle = spec.cycle
        self._schedule = parse_cycle(self._cycle, "stream `%s`: cycle" % self.name)
        self._start_link = start
        self._tell = tell
        self._at = 0  # the variant that serves
        self._worker: Optional[Worker] = None
        self._coming: Optional[Worker] = None  # of the next variant, until it is loaded
        self._going_to = 0
        self._calm_windows = 0
        self._switch_from_ns = 0  # no switch before
        self._switch_ratio = 0.0  # the load that asked for it
        self._cursor_ns: Optional[int] = None  # calls due by then are made, or missed
        self._ahead_ns = 0  # up to where slices were sent
        self._tallies: Dict[int, Tally] = {}  # by the window that the slice ends in
        self._told_kinds: Set[str] = set()
        self._restart_ns: Optional[int] = 0
        self._starts: Deque[int] = deque()  # restarts of the last hour
        self._died_ns: Optional[int] = None
        self._back_off_ns = BACK_OFF_NS
        self._restarts = 0  # in this window
        self._longest_ns = 0
        self.gave_up = False
        self._ooms = 0  # told in this window
        self._stopping = False

    # what the runner calls

    def turn(self, now_ns: int) -> None:
        """Do what is due: start a child, send slices, end one that hangs."""
        if self._restart_ns is not None and now_ns >= self._restart_ns and not self._stopping:
            self._restart_ns = None
            self._worker = self._start(self._variants[self._at], now_ns)
        for worker in (self._worker, self._coming):
            if worker is not None and worker.due_ns is not None and now_ns >= worker.due_ns:
                self._kill_late(worker, now_ns)
        self._change_over(now_ns)
        self._feed(now_ns)

    def next_ns(self) -> Optional[int]:
        """Return when `turn` is needed next, whatever else happens; None: it isn't."""
        due = [worker.due_ns for worker in (self._worker, self._coming) if worker is not None]
        times = [ns for ns in (*due, self._restart_ns) if ns is not None]
        return min(times) if times and not (self._stopping and not due) else None

    def owns(self, link: Any) -> bool:
        """Return whether a link is one of this stream's."""
        return any(w is not None and w.link is link for w in (self._worker, self._coming))

    def answered(self, link: Any, frame: Frame, now_ns: int) -> None:
        """Go on after a child's answer."""
        worker = self._worker_of(link)
        if frame.type != "result":
            fault = Fault("internal", str(frame.args.get("message")), **dict(frame.args.get("details") or {}))
            self._drop(worker)
            self._lost(worker, fault, str(frame.args.get("kind")), now_ns)
        elif worker.stage == "soak":
            self._slice_done(worker, frame, now_ns)
        else:
            self._next_step(worker, frame, now_ns)

    def died(self, link: Any, fault: Fault, now_ns: int) -> None:
        """Go on after a child's end."""
        worker = self._worker_of(link)
        self._drop(worker, gone=True)
        self._lost(worker, fault, "child_died", now_ns)

    def settled(self, end_ns: int) -> bool:
        """Return whether no slice is outstanding that ends by `end_ns`."""
        worker = self._worker
        return worker is None or not worker.slices or worker.slices[0].until_ns > end_ns

    def take_window(self, start_ns: int, end_ns: int) -> Dict[str, Any]:
        """Return the record of the window that ends at `end_ns`, and decide on the variant."""
        if self._worker is None or not self._worker.serves:
            self._miss(end_ns - 1)
        window = (end_ns - 1) // self._rules.window_ns
        tally = Tally()
        for number in [n for n in self._tallies if n <= window or self._stopping]:
            tally.merge(self._tallies.pop(number).to_args())
        serving = self._worker is not None and self._worker.serves
        memory = self._worker.link.memory() if self._worker is not None and serving else {}
        kept = ("rss_bytes", "pss_bytes", "private_dirty_bytes", "fds", "threads")
        record = dict(
            tally.to_args(),
            variant=self._variants[self._at].name,
            restarts=self._restarts,
            **{key: memory.get(key) for key in kept},
        )
        self._restarts = 0
        self._consider(tally.busy_ns / max(1, end_ns - start_ns), end_ns)
        return record

    def take_ooms(self) -> int:
        """Return how many kills for want of memory were told since the call before."""
        ooms, self._ooms = self._ooms, 0
        return ooms

    def stop(self) -> None:
        """Send no more slices, and have the child answer those it has."""
        self._stopping = True
        self._restart_ns = None
        if self._coming is not None:
            self._drop(self._coming)
        if self._worker is None:
            return
        if self._worker.serves:
            self._worker.link.end_slices()
        else:
            self._drop(self._worker)

    @property
    def stopped(self) -> bool:
        return self._worker is None or not self._worker.slices

    def terminate(self) -> None:
        """Ask its children to end, so that `close` waits for none of them alone."""
        for worker in (self._worker, self._coming):
            if worker is not None:
                worker.link.terminate()

    def close(self) -> None:
        """End its children."""
        for worker in (self._worker, self._coming):
            if worker is not None:
                self._drop(worker)

    # a child's way up

    def _start(self, variant: Variant, now_ns: int) -> Optional[Worker]:
        name = "%s.%s" % (self.name, variant.name)
        try:
            link = self._start_link(name, variant, self._rules.cpus)
        except Fault as fault:
            self._lost(None, fault, fault.kind, now_ns)
            return None
        return Worker(link, variant, now_ns + SETUP_NS)

    def _next_step(self, worker: Worker, frame: Frame, now_ns: int) -> None:
        variant = worker.variant
        if worker.stage == "load" and isinstance(frame.args.get("measured_pid"), int):
            worker.link.set_measured_pid(frame.args["measured_pid"])
        if worker.stage == "start":
            args = {"model_path": variant.model_path, "options": variant.options, "threads": variant.threads}
            self._ask(worker, "load", args, now_ns)
        elif worker.stage == "load":
            if variant.npz_path:
                self._ask(worker, "set_inputs", {"npz_path": variant.npz_path}, now_ns)
            else:
                args, payload = zeros(frame.args["signature"]["inputs"])
                self._ask(worker, "set_inputs", args, now_ns, payload)
        elif worker.stage == "set_inputs":
            worker.stage, worker.due_ns = "ready", None
            if worker is self._worker:
                self._begin(worker, now_ns)
        elif worker.stage == "soak_begin":
            worker.stage = "soak"
            if self._cursor_ns is None:
                self._cursor_ns = frame.args["after_ns"]  # nothing was due before the first child was loaded
            self._miss(frame.args["after_ns"])
            self._serves(worker, now_ns)

    def _ask(self, worker: Worker, op: str, args: Dict[str, Any], now_ns: int, payload: bytes = b"") -> None:
        worker.stage, worker.due_ns = op, now_ns + SETUP_NS
        worker.link.send(op, args, payload)

    def _begin(self, worker: Worker, now_ns: int) -> None:
        """Have a loaded child take the stream's calls from where they stand."""
        cycle = dict(self._cycle)
        args: Dict[str, Any] = {"epoch_ns": self._rules.epoch_ns}
        if self._cursor_ns is not None and self._died_ns is None:
            args["after_ns"] = self._cursor_ns  # a change of variants: none is left out
        payload = b""
        if cycle.get("kind") == "trace":
            offsets = cycle.pop("offsets_ns")
            data = struct.pack("<%dq" % len(offsets), *offsets)
            tensor = Tensor("offsets_ns", "int64", (len(offsets),), data)
            args["arrays"], payload = pack_tensors([tensor])
        self._ask(worker, "soak_begin", dict(args, cycle=cycle), now_ns, payload)

    def _serves(self, worker: Worker, now_ns: int) -> None:
        worker.due_ns = None
        self._ahead_ns = now_ns
        if self._died_ns is not None:
            text = "serves again, %.1f s after its child was lost" % ((now_ns - self._died_ns) / S)
            self._tell("child_restarted", text, self.name, {"variant": worker.variant.name})
            self._restarts += 1
            self._died_ns = None
        self._feed(now_ns)

    # slices

    def _feed(self, now_ns: int) -> None:
        """Send the slices that the child may have: two, up to the end of the window after this one."""
        worker, rules = self._worker, self._rules
        if worker is None or not worker.serves or self._stopping or worker.killed:
            return
        if self._coming is not None and self._coming.stage == "ready":
            return  # it is about to be replaced
        horizon_ns = min((now_ns // rules.window_ns + 2) * rules.window_ns, rules.duration_ns)
        while len(worker.slices) < 2:
            from_ns = max(self._ahead_ns, now_ns)
            window_end_ns = (from_ns // rules.window_ns + 1) * rules.window_ns
            until_ns = min(from_ns + rules.slice_ns, window_end_ns, rules.duration_ns)
            if until_ns > horizon_ns or until_ns <= from_ns:
                return
            worker.slices.append(Slice(worker.link.send("soak", {"until_ns": until_ns}), until_ns))
            self._ahead_ns = until_ns
            self._expect(worker)

    def _expect(self, worker: Worker) -> None:
        """Set when the oldest slice's answer is overdue."""
        patience_ns = HANG_NS + HANG_CALLS * self._longest_ns
        worker.due_ns = worker.slices[0].until_ns + patience_ns if worker.slices else None

    def _slice_done(self, worker: Worker, frame: Frame, now_ns: int) -> None:
        if not worker.slices or worker.slices[0].id != frame.id:
            worker.link.kill("it answered a slice that it wasn't asked for")
            return
        done = worker.slices.popleft()
        self._expect(worker)
        self._tally((done.until_ns - 1) // self._rules.window_ns).merge(frame.args)
        self._longest_ns = max(self._longest_ns, frame.args["max_ns"] or 0)
        self._cursor_ns = max(self._cursor_ns or 0, frame.args["served_ns"])
        for kind in frame.args["errors"]:
            if kind not in self._told_kinds and len(self._told_kinds) < MAX_TOLD_KINDS:
                self._told_kinds.add(kind)
                text = "a call failed: %s" % (frame.args.get("error_text") or kind)
                self._tell("call_failed", text, self.name, {"kind": kind})
        self._change_over(now_ns)
        self._feed(now_ns)

    def _tally(self, window: int) -> Tally:
        return self._tallies.setdefault(window, Tally())

    def _miss(self, until_ns: int) -> None:
        """Count the calls that were due while nobody served, once the stream has served."""
        if self._cursor_ns is None or until_ns <= self._cursor_ns:
            return
        missed = self._schedule.count(self._cursor_ns, until_ns)
        self._cursor_ns = until_ns
        if missed:
            self._tally(until_ns // self._rules.window_ns).failed(MISSED, missed)

    # a child's end

    def _worker_of(self, link: Any) -> Worker:
        for worker in (self._worker, self._coming):
            if worker is not None and worker.link is link:
                return worker
        raise AssertionError("a link of another stream")  # `owns` was asked before

    def _drop(self, worker: Worker, gone: bool = False) -> None:
        if worker is self._worker:
            self._worker = None
        if worker is self._coming:
            self._coming = None
        if not gone:
            worker.link.close()

    def _kill_late(self, worker: Worker, now_ns: int) -> None:
        if worker.killed:
            return
        worker.killed, worker.due_ns = True, None
        what = "a slice" if worker.serves else "`%s`" % worker.stage
        late_s = (now_ns - worker.slices[0].until_ns) / S if worker.slices else SETUP_NS / S
        worker.link.kill("no answer to %s for %.0f s" % (what, late_s))

    def _lost(self, worker: Optional[Worker], fault: Fault, kind: str, now_ns: int) -> None:
        """Tell what a child's end was, and decide what follows."""
        if self._stopping:
            return
        details = dict(fault.details)
        if details.get("oom"):
            self._ooms += 1
            kept = {k: details.get(k) for k in ("child", "cgroup_peak_bytes", "cgroup_max_bytes")}
            self._tell("oom", fault.message, self.name, kept)
        elif kind == "child_died" or worker is None or worker.serves or kind not in _FINAL:
            kept = {k: details.get(k) for k in ("signal", "exit_code", "stderr_tail")}
            kept["stderr_tail"] = str(kept["stderr_tail"] or "")[-1000:]
            self._tell("crash", fault.message, self.name, dict(kept, kind=kind))
        if self._worker is not None:
            self._switch_from_ns = now_ns + MAX_BACK_OFF_NS  # only the next variant was lost
            return
        self._plan_restart(fault, kind in _FINAL, now_ns)

    def _plan_restart(self, fault: Fault, is_final: bool, now_ns: int) -> None:
        if self._starts and now_ns - self._starts[-1] > STEADY_NS:
            self._back_off_ns = BACK_OFF_NS
        while self._starts and now_ns - self._starts[0] >= HOUR_NS:
            self._starts.popleft()
        if self._died_ns is None:
            self._died_ns = now_ns
        if is_final:
            why = "another start would end in the same way: %s" % fault.message
        elif not self._rules.restart:
            why = "it isn't started again, as the soak asks: %s" % fault.message
        elif len(self._starts) >= self._rules.max_restarts_per_h:
            why = "all %d restarts of an hour are used up: %s" % (len(self._starts), fault.message)
        else:
            self._starts.append(now_ns)
            self._restart_ns = now_ns + self._back_off_ns
            self._back_off_ns = min(2 * self._back_off_ns, MAX_BACK_OFF_NS)
            return
        self.gave_up = True
        self._tell("gave_up", why, self.name, {"restarts": len(self._starts)})

    # variants

    def _consider(self, busy_ratio: float, now_ns: int) -> None:
        """Begin to change the variant where the load of a window asks for it."""
        switch, worker = self._switch, self._worker
        if not switch or worker is None or not worker.serves or self._coming is not None:
            return
        self._calm_windows = self._calm_windows + 1 if busy_ratio < switch.below else 0
        if now_ns < self._switch_from_ns:
            return
        if busy_ratio > switch.above and self._at + 1 < len(self._variants):
            self._going_to = self._at + 1
        elif self._calm_windows >= switch.hold_windows and self._at > 0:
            self._going_to = self._at - 1
        else:
            return
        self._calm_windows = 0
        self._switch_ratio = busy_ratio
        self._coming = self._start(self._variants[self._going_to], now_ns)

    def _change_over(self, now_ns: int) -> None:
        """Hand the stream over to a variant that is loaded, once the one before has answered."""
        coming, worker = self._coming, self._worker
        if coming is None or coming.stage != "ready" or (worker is not None and worker.slices):
            return
        if worker is not None:
            self._drop(worker)
        self._worker, self._coming, self._at = coming, None, self._going_to
        self._restart_ns = None
        # the window in which it changes says nothing of the new one
        self._switch_from_ns = (now_ns // self._rules.window_ns + 2) * self._rules.window_ns
        name = coming.variant.name
        text = "changes to `%s`: calls took %.0f%% of the window" % (name, 100 * self._switch_ratio)
        details = {"to": name, "busy_ratio": round(self._switch_ratio, 4)}
        self._tell("variant", text, self.name, details)
        self._begin(coming, now_ns)


def zeros(inputs: List[Dict[str, Any]]) -> Tuple[Dict[str, Any], bytes]:
    """Return args and payload of a `set_inputs` with one sample of zeros, open sizes being 1."""
    tensors = []
    for spec in inputs:
        shape = tuple(size or 1 for size in spec["shape"]) or (1,)
        data = bytes(count_items(shape) * ITEM_BYTES[spec["dtype"]])
        tensors.append(Tensor(spec["name"], spec["dtype"], shape, data))
    entries, payload = pack_tensors(tensors)
    return {"arrays": entries}, payload
