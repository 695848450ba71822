"""Two loaded children take turns in blocks, driven from the agent's parent: the order of events, no I/O.

Neither child knows of the other: each waits on its pipe until its turn comes. Nothing is sent to the host
before the end, and the parent sleeps while a block runs.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .args import Args
from .faults import Fault
from .processes import Pending
from .wire import Frame, Tensor, WireFault, pack_tensors, unpack_tensors

Send = Callable[[str, str, Dict[str, Any]], None]  # (child, op, args)
MIN_PAIRS = 2
MAX_PAIRS = 1000000
ABORT_GRACE_S = 5.0  # for the other child to leave the duet (chosen)
_ARMS = (0, 1)


class DuetPlan(NamedTuple):
    """What was asked for. Durations are in device ns."""

    children: Tuple[str, str]
    pairs: int
    seed: int
    block_ns: int
    block_calls: int
    drop: int
    settle_ns: int
    warmup_max: int
    max_duration_ns: int
    deadline_s: float


def read_plan(args: Args) -> DuetPlan:
    """Return the checked args of the op `duet`. Raises `bad_request`."""
    children = args.items("children")
    if len(children) != 2 or not all(isinstance(name, str) for name in children):
        raise Fault("bad_request", "duet: `children` is %r, expected two names" % (children,))
    if children[0] == children[1]:
        raise Fault(
            "bad_request",
            "duet: `%s` can't take turns with itself; spawn a second child for the same model" % children[0],
        )
    plan = DuetPlan(
        (children[0], children[1]),
        args.integer("pairs", low=MIN_PAIRS, high=MAX_PAIRS),
        args.integer("seed"),
        args.integer("block_ns", 20000000, 1, 60 * 10**9),
        args.integer("block_calls", 4, 1, 1000000),
        args.integer("drop", 1, 0, 1000),
        args.integer("settle_ns", 0, 0, 10**9),
        args.integer("warmup_max", 100, 1, 4000000),
        args.integer("max_duration_ns", 600 * 10**9, 1),
        args.number("deadline_s", low=0.001),
    )
    args.done()
    return plan


class Duet:
    """The state of one duet. Tell it what happens (`answered`, `lost`); it sends what comes next.

    Once `done`, either `fault` is set or `result` returns the answer.
    """

    def __init__(self, plan: DuetPlan, send: Send, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        import random  # only a duet needs it

        self._plan = plan
        self._send = send
        self._now_ns = now_ns
        self._random = random.Random(plan.seed)
        self._order = bytearray()  # per pair: which arm goes first
        self._pairs = plan.pairs  # until there is room for fewer
        self._turns = 0
        self._begin_ns = 0
        self._elapsed_ns = 0
        self._ended_by = "pairs"
        self._taking_part = [False, False]  # whose garbage collection is off
        self._parts: List[Frame] = []
        self._working: Optional[int] = None  # the arm that is expected to answer
        self._op = ""
        self.fault: Optional[Fault] = None
        self.done = False

    @property
    def working(self) -> Optional[str]:
        """Return the child whose answer is awaited."""
        return None if self._working is None else self._plan.children[self._working]

    def start(self) -> None:
        """Ask the first arm to make itself ready; the other follows, so that neither disturbs the other."""
        self._ask_to_start(0)

    def _ask_to_start(self, arm: int) -> None:
        plan = self._plan
        self._ask(
            arm,
            "duet_start",
            {
                "pairs": plan.pairs,
                "block_ns": plan.block_ns,
                "block_calls": plan.block_calls,
                "drop": plan.drop,
                "settle_ns": plan.settle_ns,
                "warmup_max": plan.warmup_max,
                "max_duration_ns": plan.max_duration_ns,
            },
        )

    def _ask(self, arm: int, op: str, args: Dict[str, Any]) -> None:
        self._working, self._op = arm, op
        self._send(self._plan.children[arm], op, args)

    def answered(self, child: str, frame: Frame) -> None:
        """Go on after a child's answer. Raises WireFault for one that nobody waits for."""
        arm = self._plan.children.index(child)
        if arm != self._working or frame.type == "event":
            raise WireFault("a %s frame of `%s` out of its turn" % (frame.type, child))
        op, self._working = self._op, None
        self._taking_part[arm] = frame.type == "result" and op != "duet_end"
        if frame.type != "result":
            self._give_up(_named(child, frame.args))
        elif self.fault is not None:
            self._release()
        elif op == "duet_start":
            self._pairs = min(self._pairs, _room(frame))
            if arm == 0:
                self._ask_to_start(1)
            else:
                self._begin_ns = self._now_ns()
                self._next_turn()
        elif op == "duet_block":
            self._turns += 1
            self._next_turn()
        else:
            self._parts.append(frame)
            if arm == 0:
                self._ask(1, "duet_end", {"pairs": self._turns // 2})
            else:
                self.done = True

    def _next_turn(self) -> None:
        pair, second = divmod(self._turns, 2)
        if not second:
            self._elapsed_ns = self._now_ns() - self._begin_ns
            late = self._elapsed_ns >= self._plan.max_duration_ns and pair >= MIN_PAIRS
            if late or pair >= self._pairs:
                full = self._pairs < self._plan.pairs
                self._ended_by = "max_duration" if late else "capacity" if full else "pairs"
                self._ask(0, "duet_end", {"pairs": pair})
                return
            self._order.append(self._random.getrandbits(1))
        first = self._order[pair]
        self._ask(1 - first if second else first, "duet_block", {"pair": pair})

    def lost(self, child: str, fault: Fault) -> None:
        """End it because a child is gone, `fault` being why; the other one is released first."""
        arm = self._plan.children.index(child)
        self._taking_part[arm] = False
        if self._working == arm:
            self._working = None
        self._give_up(fault)

    def _give_up(self, fault: Fault) -> None:
        if self.fault is None:  # the first one says why
            self.fault = fault
        if self._working is None:
            self._release()

    def _release(self) -> None:
        """Have the arms leave that still take part, then be done."""
        for arm in _ARMS:
            if self._taking_part[arm]:
                self._ask(arm, "duet_end", {"pairs": 0})
                return
        self.done = True

    def result(self) -> Tuple[Dict[str, Any], bytes]:
        """Return args and payload of the answer: the arms' arrays with `_0` and `_1` after their names.

        Raises WireFault where a child's arrays are damaged.
        """
        tensors: List[Tensor] = []
        reports = []
        for arm, part in enumerate(self._parts):
            for tensor in unpack_tensors(part.args.get("arrays"), part.payload):
                tensors.append(tensor._replace(name="%s_%d" % (tensor.name, arm)))
            report = {name: value for name, value in part.args.items() if name != "arrays"}
            reports.append(dict(report, child=self._plan.children[arm]))
        tensors.append(Tensor("order", "uint8", (len(self._order),), bytes(self._order)))
        entries, payload = pack_tensors(tensors)
        return {
            "arrays": entries,
            "arms": reports,
            "pairs_requested": self._plan.pairs,
            "pairs_got": len(self._order),
            "ended_by": self._ended_by,
            "seed": self._plan.seed,
            "elapsed_ns": self._elapsed_ns,
        }, payload


class Turn(Pending):
    """What keeps both children of a duet busy: one object, in both."""

    def __init__(self, request: Frame, plan: DuetPlan, duet: Duet) -> None:
        super().__init__(request, "duet", plan.deadline_s)
        self.duet = duet
        self.children = plan.children

    def extend(self) -> None:
        """Give the child that is left time to leave."""
        self.due_ns = time.monotonic_ns() + int(ABORT_GRACE_S * 1e9)


def _room(frame: Frame) -> int:
    room = frame.args.get("room_pairs")
    if not isinstance(room, int) or room < MIN_PAIRS:
        raise WireFault("`duet_start` answered with room for %r pairs" % (room,))
    return room


def _named(child: str, args: Dict[str, Any]) -> Fault:
    """Return a child's fault with its name in the text: there are two."""
    text = "child `%s`: %s" % (child, args.get("message"))
    return Fault(str(args.get("kind")), text, **dict(args.get("details") or {}, child=child))
