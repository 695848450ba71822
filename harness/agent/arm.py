"""One arm of a duet, in the measured child: it warms up, sizes its block, and calls when its turn comes."""

from __future__ import annotations

import contextlib
from array import array
from typing import Any, Dict, NamedTuple, Tuple

from . import timing
from .args import Args
from .instructions import open_counter
from .model import Answer, Model, packed, settle
from .wire import Tensor

_MIN_PAIRS = 2
# Room for so many times the blocks that warm-up's median lets expect, where calls get faster (chosen)
_ROOM_FACTOR = 2


class ArmPlan(NamedTuple):
    """What `duet_start` asked for. Durations are in device ns."""

    pairs: int
    block_ns: int
    block_calls: int
    drop: int
    settle_ns: int
    warmup_max: int
    max_duration_ns: int


def read_plan(args: Args) -> ArmPlan:
    """Return the checked plan of an arm; nothing else may be in `args`."""
    plan = ArmPlan(*(args.integer(name) for name in ArmPlan._fields))
    args.done()
    return plan


def size_block(plan: ArmPlan, median_ns: int) -> Tuple[int, int]:
    """Return the timed calls of a block, and for how many blocks there is room.

    A block lasts `block_ns`, or `block_calls` calls if that is longer. Room is for `pairs` of them, or for
    what can come up to `max_duration_ns`.
    """
    each_ns = max(1, median_ns)
    calls = min(max(plan.block_calls, -(-plan.block_ns // each_ns)), timing.MAX_ITERATIONS // _MIN_PAIRS)
    likely = _ROOM_FACTOR * plan.max_duration_ns // (calls * each_ns) + _MIN_PAIRS
    return calls, max(_MIN_PAIRS, min(plan.pairs, likely, timing.MAX_ITERATIONS // calls))


class Arm:
    """Made by `duet_start`; garbage collection is off until it is closed."""

    def __init__(self, model: Model, plan: ArmPlan) -> None:
        self._model = model
        self._plan = plan
        self._calls = model.calls("duet")
        self._counter = open_counter(model.threads)
        self._held = contextlib.ExitStack()
        self._held.callback(self._counter.close)
        try:
            self._held.enter_context(timing.quiet_heap())
            self._make_ready()
        except BaseException:
            self.close()
            raise

    def _make_ready(self) -> None:
        plan, calls = self._plan, self._calls
        settle()
        stop_ns = timing._now_ns() + plan.max_duration_ns
        self._warmup: timing.Warmup = self._model.refusable(
            lambda: timing.warm_up(calls.next_call, calls.invoke, plan.warmup_max, stop_ns)
        )
        self._block_calls, self.room = size_block(plan, self._warmup.last_median_ns)
        self._latency = timing.zeros(self.room * self._block_calls)
        self._start = timing.zeros(self.room * self._block_calls)
        self._dropped = timing.zeros(max(1, plan.drop))
        self._instructions = timing.zeros(self.room)
        self._turns_ns = 0
        self._window = timing.Window()

    def turn(self, pair: int) -> None:
        """Make one block of calls. Both arms begin pair k with the same samples."""
        calls, plan = self._calls, self._plan
        first, last = pair * self._block_calls, (pair + 1) * self._block_calls
        begin = timing._now_ns()
        while timing._now_ns() < begin + plan.settle_ns:
            pass
        calls.seek(pair)
        call = self._model.refusable
        if plan.drop:
            call(lambda: self._timed(self._dropped, self._dropped, 0, plan.drop))
        before = self._counter.read()
        call(lambda: self._timed(self._latency, self._start, first, last))
        count = self._counter.between(before, self._counter.read())
        if count is not None:
            self._instructions[pair] = count
        self._turns_ns += timing._now_ns() - begin

    def _timed(self, latency: "array[int]", start: "array[int]", first: int, last: int) -> None:
        calls = self._calls
        timing.timed_calls(calls.next_call, calls.invoke, latency, start, first, last, timing.NEVER_NS)

    def started(self) -> Dict[str, Any]:
        """Return the answer to `duet_start`."""
        return {"room_pairs": self.room}

    def finish(self, pairs: int) -> Answer:
        """Return the samples of the first `pairs` blocks, and the report."""
        report = self._window.close()
        report.update(self._warmup.report())
        report.update(
            warmup_median_ns=self._warmup.last_median_ns,
            calls=self._block_calls,
            turns_ns=self._turns_ns,
            not_counted=self._counter.reason or None,
        )
        count = pairs * self._block_calls
        block = array("i", [pair for pair in range(pairs) for _ in range(self._block_calls)])
        tensors = [
            _tensor("latency_ns", "int64", self._latency[:count]),
            _tensor("start_ns", "int64", self._start[:count]),
            _tensor("block", "int32", block),
        ]
        if not self._counter.reason:
            tensors.append(_tensor("instructions", "int64", self._instructions[:pairs]))
        return packed(tensors, report)

    def close(self) -> None:
        """Let garbage collection go on and give the counter back. Safe to call twice."""
        self._held.close()


def _tensor(name: str, dtype: str, values: "array[int]") -> Tensor:
    return Tensor(name, dtype, (len(values),), memoryview(values).cast("B"))
