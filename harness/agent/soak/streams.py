"""One stream: its children one after the other, their slices, what a death means, which variant serves.

Two slices are in the child's hands at any time, the one it works on and the next, so that it never waits for
the runner between them; none reaches beyond the window after the present one.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set

from ..faults import Fault
from ..wire import Frame
from .cycles import parse_cycle
from .restarts import FINAL, MAX_BACK_OFF_NS, Load, Restarts
from .spec import Stream as StreamSpec
from .spec import Variant
from .tally import Tally
from .workers import S, Worker

MAX_TOLD_KINDS = 64  # of errors that get an event of their own (chosen)
MISSED = "missed"  # calls that were due while no child served
_LEVELS = ("rss_bytes", "pss_bytes", "private_dirty_bytes", "fds", "threads")

StartLink = Callable[[str, Variant, List[int]], Any]  # name of the child, variant, cpus
Tell = Callable[[str, str, str, Dict[str, Any]], None]  # event, text, stream, details


class Rules(NamedTuple):
    """What all streams of a soak share. `epoch_ns`: CLOCK_BOOTTIME at soak time 0."""

    window_ns: int
    slice_ns: int
    duration_ns: int
    epoch_ns: int
    restart: bool
    max_restarts_per_h: int
    cpus: List[int]


class Stream:
    """A stream of a soak. Times are soak time."""

    def __init__(self, spec: StreamSpec, rules: Rules, start: StartLink, tell: Tell) -> None:
        """Make it; nothing is started yet. `start` returns a link. Raises `bad_request`."""
        self.name = spec.name
        self.gave_up = False
        self._rules = rules
        self._variants = spec.variants
        self._cycle = spec.cycle
        self._schedule = parse_cycle(spec.cycle, "stream `%s`: cycle" % self.name)
        self._start_link = start
        self._tell = tell
        self._worker: Optional[Worker] = None
        self._at = 0  # the variant that serves
        self._coming: Optional[Worker] = None  # of the next variant, until it is loaded
        self._going_to = 0
        self._load = Load(spec.switch, len(spec.variants))
        self._restarts = Restarts(rules.restart, rules.max_restarts_per_h)
        self._restart_ns: Optional[int] = 0
        self._died_ns: Optional[int] = None
        self._cursor_ns: Optional[int] = None  # calls due by then are made, or missed; None: none served yet
        self._ahead_ns = 0  # up to where slices were sent
        self._tallies: Dict[int, Tally] = {}  # by the window that the slice ends in
        self._told_kinds: Set[str] = set()
        self._longest_ns = 0
        self._restarted = 0  # in this window
        self._ooms = 0  # processes, told in this window
        self._stopping = False

    # what the runner calls

    def turn(self, now_ns: int) -> None:
        """Do what is due: start a child, send slices, end one that hangs."""
        if self._restart_ns is not None and now_ns >= self._restart_ns and not self._stopping:
            self._restart_ns = None
            self._worker = self._start(self._variants[self._at], now_ns)
        for worker in (self._worker, self._coming):
            if worker is not None:
                worker.end_if_late(now_ns)
        self._change_over(now_ns)
        self._feed(now_ns)

    def next_ns(self) -> Optional[int]:
        """Return when `turn` is needed next, whatever else happens; None: it isn't."""
        due = [worker.due_ns for worker in (self._worker, self._coming) if worker is not None]
        times = [ns for ns in (*due, self._restart_ns) if ns is not None]
        return min(times) if times else None

    def owns(self, link: Any) -> bool:
        """Return whether a link is one of this stream's."""
        return any(w is not None and w.link is link for w in (self._worker, self._coming))

    def answered(self, link: Any, frame: Frame, now_ns: int) -> None:
        """Go on after a child's answer."""
        worker = self._worker_of(link)
        if frame.type != "result":
            fault = Fault("internal", str(frame.args.get("message")), **dict(frame.args.get("details") or {}))
            self._drop(worker)
            self._lost(fault, str(frame.args.get("kind")), now_ns, served=worker.serves)
            return
        if worker.serves:
            self._slice_done(worker, frame, now_ns)
            return
        worker.next_step(frame, now_ns)
        if worker.serves:
            self._begins(worker, frame.args["after_ns"], now_ns)
        elif worker.stage == "ready" and worker is self._worker:
            self._begin(worker, now_ns)
        self._change_over(now_ns)

    def died(self, link: Any, fault: Fault, now_ns: int) -> None:
        """Go on after a child's end."""
        worker = self._worker_of(link)
        self._drop(worker, gone=True)
        self._lost(fault, fault.kind, now_ns, served=worker.serves)

    def settled(self, end_ns: int) -> bool:
        """Return whether no slice is outstanding that ends by `end_ns`."""
        worker = self._worker
        return worker is None or not worker.slices or worker.slices[0].until_ns > end_ns

    def take_window(self, start_ns: int, end_ns: int) -> Dict[str, Any]:
        """Return the record of the window that ends at `end_ns`, and decide on the variant."""
        worker = self._worker if self._worker is not None and self._worker.serves else None
        if worker is None and (self._worker is None or not self._worker.begins):
            self._miss(end_ns - 1)
        window = (end_ns - 1) // self._rules.window_ns
        tally = Tally()
        for number in [n for n in self._tallies if n <= window or self._stopping]:
            tally.merge(self._tallies.pop(number).to_args())
        memory = worker.link.memory() if worker is not None else {}
        record = dict(
            tally.to_args(),
            variant=self._variants[self._at].name,
            restarts=self._restarted,
            **{key: memory.get(key) for key in _LEVELS},
        )
        self._restarted = 0
        if worker is not None and self._coming is None:
            wanted = self._load.consider(self._at, tally.busy_ns / max(1, end_ns - start_ns), end_ns)
            if wanted is not None and not self._stopping:
                self._going_to = wanted
                self._coming = self._start(self._variants[wanted], end_ns)
        return record

    def take_ooms(self) -> int:
        """Return how many processes were killed by what was told as `oom` since the call before."""
        ooms, self._ooms = self._ooms, 0
        return ooms

    def stop(self) -> None:
        """Send no more slices, and have the child answer those it has."""
        self._stopping = True
        self._restart_ns = None
        for worker in (self._worker, self._coming):
            if worker is not None and worker.serves:
                worker.link.end_slices()
            elif worker is not None:
                self._drop(worker)

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
        try:
            link = self._start_link("%s.%s" % (self.name, variant.name), variant, self._rules.cpus)
        except Fault as fault:
            self._lost(fault, fault.kind, now_ns, served=False)
            return None
        return Worker(link, variant, now_ns)

    def _begin(self, worker: Worker, now_ns: int) -> None:
        """Have a loaded child take the calls: all of them where variants change, else those from now on."""
        after_ns = self._cursor_ns if self._died_ns is None else None
        worker.begin(self._cycle, self._rules.epoch_ns, after_ns, now_ns)

    def _begins(self, worker: Worker, after_ns: int, now_ns: int) -> None:
        """Go on with a child that makes the calls due later than `after_ns`."""
        if self._cursor_ns is None:
            self._cursor_ns = after_ns  # nothing was due before the first child was loaded
        self._miss(after_ns)
        self._ahead_ns = now_ns
        if self._died_ns is not None:
            text = "serves again, %.1f s after its child was lost" % ((now_ns - self._died_ns) / S)
            self._tell("child_restarted", text, self.name, {"variant": worker.variant.name})
            self._restarted += 1
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
            worker.send_slice(until_ns, self._longest_ns)
            self._ahead_ns = until_ns

    def _slice_done(self, worker: Worker, frame: Frame, now_ns: int) -> None:
        if not worker.slices or worker.slices[0].id != frame.id:
            worker.link.kill("it answered a slice that it wasn't asked for")
            return
        done = worker.slices.popleft()
        self._longest_ns = max(self._longest_ns, frame.args["max_ns"] or 0)
        worker.expect(self._longest_ns)
        self._tally((done.until_ns - 1) // self._rules.window_ns).merge(frame.args)
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

    def _lost(self, fault: Fault, kind: str, now_ns: int, served: bool) -> None:
        """Tell what a child's end was, and decide what follows."""
        if self._stopping:
            return
        details = fault.details
        if details.get("oom"):
            self._ooms += details.get("oom_kills", 1)
            told = {k: details.get(k) for k in ("child", "cgroup_peak_bytes", "cgroup_max_bytes")}
            self._tell("oom", fault.message, self.name, told)
        elif served or kind not in FINAL:
            told = {k: details.get(k) for k in ("signal", "exit_code")}
            told["stderr_tail"] = str(details.get("stderr_tail") or "")[-1000:]
            self._tell("crash", fault.message, self.name, dict(told, kind=kind))
        if self._worker is not None:  # only the next variant was lost
            self._load.hold_until(now_ns + MAX_BACK_OFF_NS)
            return
        if self._died_ns is None:
            self._died_ns = now_ns
        if self._coming is not None:
            return  # the next variant takes over as soon as it is loaded
        self._restart_ns = self._restarts.plan(kind, now_ns)
        if self._restart_ns is None:
            self.gave_up = True
            why = "%s: %s" % (self._restarts.why_not, fault.message)
            self._tell("gave_up", why, self.name, {"restarts": self._restarts.count, "kind": kind})

    # variants

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
        self._load.hold_until((now_ns // self._rules.window_ns + 2) * self._rules.window_ns)
        name, busy_ratio = coming.variant.name, self._load.busy_ratio
        text = "changes to `%s`: calls took %.0f%% of a window" % (name, 100 * busy_ratio)
        self._tell("variant", text, self.name, {"to": name, "busy_ratio": round(busy_ratio, 4)})
        self._begin(coming, now_ns)
