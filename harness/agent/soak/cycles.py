"""When the calls of a stream are due: pure functions of soak time, so that they go on over slices and lives.

A Poisson process is drawn in blocks of time, each with a generator of its own: it has no memory, so blocks
that begin anew are the same process, and nobody has to draw 72 h of arrivals to find the next one.
"""

from __future__ import annotations

import bisect
import itertools
from typing import Any, Dict, Iterator, List, Protocol, Sequence

from ..args import Args
from ..faults import Fault

KINDS = ("closed", "every", "poisson", "trace")
MAX_PERIOD_NS = 1 << 60
_POISSON_BLOCK_CALLS = 64  # chosen: the draws that a block's first arrival may cost


class Schedule(Protocol):
    """Due times in soak ns. `is_open` is False for a closed loop: there the next call is due at once."""

    is_open: bool

    def due_after(self, after_ns: int) -> Iterator[int]:
        """Yield the due times later than `after_ns`, ascending; it may end."""
        ...

    def count(self, after_ns: int, last_ns: int) -> int:
        """Return how many calls are due later than `after_ns` and not later than `last_ns`."""
        ...


def _count_until(due: Iterator[int], last_ns: int) -> int:
    return sum(1 for _ in itertools.takewhile(lambda due_ns: due_ns <= last_ns, due))


class Closed:
    """The next call as soon as the one before has ended."""

    is_open = False

    def due_after(self, after_ns: int) -> Iterator[int]:
        return iter(())

    def count(self, after_ns: int, last_ns: int) -> int:
        return 0


class Every:
    """A call each `period_ns`, at its multiples."""

    is_open = True

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns

    def due_after(self, after_ns: int) -> Iterator[int]:
        due_ns = max(0, (after_ns // self._period_ns + 1) * self._period_ns)
        while True:
            yield due_ns
            due_ns += self._period_ns

    def count(self, after_ns: int, last_ns: int) -> int:
        first = max(-1, after_ns // self._period_ns)
        return max(0, last_ns // self._period_ns - first)


class Poisson:
    """Arrivals at a mean rate. Seed and time decide them, not how often one asked."""

    is_open = True

    def __init__(self, rate_per_s: float, seed: int) -> None:
        import random  # only this cycle needs it

        self._random = random
        self._rate_per_ns = rate_per_s / 1e9
        self._seed = seed
        self._block_ns = max(1, int(_POISSON_BLOCK_CALLS / self._rate_per_ns))

    def _block(self, number: int) -> List[int]:
        # seeded by text: hashed the same way in every Python since 3.2 (random.seed, version 2)
        draw = self._random.Random("%d:%d" % (self._seed, number))
        found: List[int] = []
        at = 0.0
        while True:
            at += draw.expovariate(self._rate_per_ns)
            if at >= self._block_ns:
                return found
            found.append(number * self._block_ns + int(at))

    def due_after(self, after_ns: int) -> Iterator[int]:
        number = max(0, after_ns // self._block_ns)
        while True:
            for due_ns in self._block(number):
                if due_ns > after_ns:
                    yield due_ns
            number += 1

    def count(self, after_ns: int, last_ns: int) -> int:
        return _count_until(self.due_after(after_ns), last_ns)


class Trace:
    """Recorded due times, again after each `repeat_ns` (0: once)."""

    is_open = True

    def __init__(self, offsets_ns: Sequence[int], repeat_ns: int) -> None:
        self._offsets_ns = offsets_ns
        self._repeat_ns = repeat_ns

    def due_after(self, after_ns: int) -> Iterator[int]:
        turn = max(0, after_ns // self._repeat_ns) if self._repeat_ns else 0
        first = bisect.bisect_right(self._offsets_ns, after_ns - turn * self._repeat_ns)
        while True:
            base_ns = turn * self._repeat_ns
            for i in range(first, len(self._offsets_ns)):
                yield base_ns + self._offsets_ns[i]
            if not self._repeat_ns:
                return
            turn, first = turn + 1, 0

    def count(self, after_ns: int, last_ns: int) -> int:
        return _count_until(self.due_after(after_ns), last_ns)


def parse_cycle(cycle: Dict[str, Any], where: str) -> Schedule:
    """Return the schedule of a spec's CYCLE (docs/soak-format.md). Raises `bad_request`."""
    args = Args(where, cycle)
    kind = args.text("kind")
    schedule: Schedule
    if kind == "closed":
        schedule = Closed()
    elif kind == "every":
        schedule = Every(args.integer("period_ns", low=1, high=MAX_PERIOD_NS))
    elif kind == "poisson":
        schedule = Poisson(args.number("rate_per_s", low=1e-9, high=1e6), args.integer("seed"))
    elif kind == "trace":
        offsets = args.integers("offsets_ns")
        repeat_ns = args.integer("repeat_ns", 0, 0, MAX_PERIOD_NS)
        schedule = _trace(offsets, repeat_ns, where)
    else:
        raise Fault("bad_request", "%s: `kind` is %r; valid: %s" % (where, kind, ", ".join(KINDS)))
    args.done()
    return schedule


def _trace(offsets: List[int], repeat_ns: int, where: str) -> Trace:
    if not offsets or any(b < a for a, b in zip(offsets, offsets[1:])):
        raise Fault("bad_request", "%s: `offsets_ns` must hold times that ascend from 0 or more" % where)
    if repeat_ns and repeat_ns <= offsets[-1]:
        raise Fault(
            "bad_request",
            "%s: `repeat_ns` is %d, expected more than the last of `offsets_ns`, %d"
            % (where, repeat_ns, offsets[-1]),
        )
    return Trace(offsets, repeat_ns)
