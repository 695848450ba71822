"""How many cycles a core needs for a block of code when all data are in its first-level cache.

The block is repeated, as a loop's body is: each instruction enters in order, at most `width` a cycle and
`window` in flight, waits for what it reads, and takes the first free cycle of a pipeline that can do it.
What is left out: mispredicted branches, fetching, and how blocks that follow each other overlap.
"""

from __future__ import annotations

import functools
from collections import defaultdict

from harness.estimate.a64 import Instruction, decode
from harness.estimate.cores import Core, core_named

_LONG = 160  # instructions: enough for a loop to show its steady pace
_FEW, _MANY = 3, 40  # repetitions


def work_of(instruction: Instruction, core: Core) -> tuple[tuple[tuple[str, int], ...], int]:
    """Return (µops by pipeline, latency in cycles) of one instruction on `core`."""
    kind = instruction.kind
    work = core.work[kind]
    if kind.startswith("store"):
        stores = max(1, -(-instruction.moved_bytes // core.store_bytes))
        return tuple((p, stores if p == "S" else n) for p, n in work.pipelines), work.latency
    if kind.startswith("load"):
        is_vector = any(32 <= r < 64 for r in instruction.writes)
        return tuple((p, n * instruction.registers) for p, n in work.pipelines), work.latency + is_vector
    times = 2 if instruction.wide and kind in core.halves else 1
    long = work.latency * times if kind in ("float_divide", "square_root") else work.latency
    return tuple((p, n * times) for p, n in work.pipelines), long


class _Pipelines:
    """Which cycles of which unit are taken."""

    def __init__(self, core: Core) -> None:
        self._units = core.pipelines
        self._taken: dict[str, set[int]] = defaultdict(set)

    def take(self, pipeline: str, uops: int, earliest: int) -> int:
        """Take the first free cycles from `earliest` on; return the last one taken."""
        last = earliest
        for _ in range(uops):
            cycle, taken = min(
                (self._first_free(unit, earliest) for unit in self._units[pipeline]), key=lambda c: c[0]
            )
            taken.add(cycle)
            last = max(last, cycle)
        return last

    def _first_free(self, unit: str, cycle: int) -> tuple[int, set[int]]:
        taken = self._taken[unit]
        while cycle in taken:
            cycle += 1
        return cycle, taken


class _Machine:
    """A core while it runs a block over and over."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pipelines = _Pipelines(core)
        self._ready: dict[int, int] = {}  # register → cycle from which its value can be read
        self._summed: dict[int, int] = {}  # the same, as the addend of a multiply-add
        self._entered, self._this_cycle = 0, 0
        self._retired: list[int] = []

    @property
    def now(self) -> int:
        return self._retired[-1]

    def run(self, instruction: Instruction, uops: tuple[tuple[str, int], ...], latency: int) -> None:
        start = self._operands(instruction, self._enter() + 1)
        begun = start
        for pipeline, count in uops:
            begun = max(begun, self._pipelines.take(pipeline, count, start))
        self._publish(instruction, begun, latency)
        end = begun + (1 if instruction.kind.startswith("store") else latency)
        self._retired.append(max(end, self._retired[-1] if self._retired else 0))

    def _enter(self) -> int:
        """Return the cycle in which the next instruction enters."""
        oldest = len(self._retired) - self._core.window
        if oldest >= 0 and self._retired[oldest] > self._entered:
            self._entered, self._this_cycle = self._retired[oldest], 0
        if self._this_cycle >= self._core.width:
            self._entered, self._this_cycle = self._entered + 1, 0
        self._this_cycle += 1
        return self._entered

    def _operands(self, instruction: Instruction, earliest: int) -> int:
        accumulates = instruction.kind in ("multiply_add", "vector_multiply_long", "vector_multiply", "dot")
        for register in instruction.reads:
            forwarded = accumulates and register in instruction.writes
            earliest = max(earliest, (self._summed if forwarded else self._ready).get(register, 0))
        return earliest

    def _publish(self, instruction: Instruction, begun: int, latency: int) -> None:
        is_memory = instruction.kind.startswith(("load", "store"))
        is_float_sum = instruction.kind == "multiply_add"
        is_integer_sum = instruction.kind in ("vector_multiply_long", "vector_multiply", "dot")
        for register in instruction.writes:
            # an address that a load or a store moves on is there in the next cycle
            after = 1 if is_memory and register in instruction.reads else latency
            self._ready[register] = begun + after
            sums = self._core.accumulate_latency if is_float_sum else 1 if is_integer_sum else after
            self._summed[register] = begun + sums


@functools.lru_cache(maxsize=1 << 17)
def block_cycles(words: tuple[int, ...], core_name: str) -> float:
    """Return the cycles of one pass through a block, of a core of `CORES`, in the steady state of its
    repetition.

    Raises ConfigError for an unknown core.
    """
    core = core_named(core_name)
    if not words:
        return 0.0
    code = [(instruction, *work_of(instruction, core)) for instruction in map(decode, words)]
    repetitions = max(_FEW, min(_MANY, _LONG // len(words) + 1))
    machine = _Machine(core)
    marks = []
    for _ in range(2):
        for _ in range(repetitions):
            for instruction, uops, latency in code:
                machine.run(instruction, uops, latency)
        marks.append(machine.now)
    return (marks[1] - marks[0]) / repetitions
