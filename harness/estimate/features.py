"""One inference as numbers: what an emulated board counted while it ran, and the cycles its code needs on a
core."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

from harness.errors import DataError
from harness.estimate import cores
from harness.estimate.a64 import decode
from harness.estimate.counts import Window
from harness.estimate.schedule import block_cycles

# groups of the instruction mix; what is in none of them is "other"
MIX = {
    "vector_float": (
        "multiply_add",
        "float_multiply",
        "float_add",
        "float_divide",
        "square_root",
        "convert",
        "compare",
    ),
    "vector_integer": (
        "vector_integer",
        "vector_multiply",
        "vector_multiply_long",
        "vector_shift",
        "vector_across",
        "dot",
    ),
    "vector_move": ("vector_move", "to_general", "from_general"),
    "load": ("load", "load_interleaved", "load_lane", "prefetch"),
    "store": ("store", "store_interleaved", "store_lane"),
    "branch": ("branch",),
    "integer": ("integer", "shift", "multiply", "divide"),
}
_GROUP = {kind: group for group, kinds in MIX.items() for kind in kinds}


@dataclass(frozen=True)
class Features:
    """Sums over one inference, of code outside the kernel. Lines are those of 64 bytes that a level
    missed."""

    instructions: int
    cycles: int  # scheduled, with all data in the first level of cache
    vector_float: int
    vector_integer: int
    vector_move: int
    load: int
    store: int
    branch: int
    integer: int
    other: int
    loaded_bytes: int
    stored_bytes: int
    missed_by_loads: tuple[int, ...]  # per level
    missed_by_stores: tuple[int, ...]
    streamed: tuple[int, ...]  # of both
    pages_missed: int
    pages_walked: int
    kernel_instructions: int


LISTS = ("missed_by_loads", "missed_by_stores", "streamed")
FIELDS = tuple(field.name for field in fields(Features))
# what a reader of broken data has in their place until its problems are raised
NOTHING = Features(**{name: () if name in LISTS else 0 for name in FIELDS})  # type: ignore[arg-type]


def compute_features(window: Window, core_name: str) -> Features:
    """Return the features of a window for one of `cores.CORES`.

    Raises ConfigError for an unknown core, DataError for a window in which nothing ran.
    """
    core = cores.core_named(core_name)
    mix: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    levels = len(window[0].missed_by_loads) if window else 0
    lists = {name: [0] * levels for name in LISTS}
    cycles = 0.0
    for counts in window:
        length = counts.passes * len(counts.block.words)
        if counts.block.in_kernel:
            sums["kernel_instructions"] += length
            continue
        sums["instructions"] += length
        cycles += counts.passes * block_cycles(counts.block.words, core.name)
        for kind, times in Counter(decode(word).kind for word in counts.block.words).items():
            mix[_GROUP.get(kind, "other")] += times * counts.passes
        for name in ("loaded_bytes", "stored_bytes", "pages_missed", "pages_walked"):
            sums[name] += getattr(counts, name)
        for name, totals in lists.items():
            for level, value in enumerate(getattr(counts, name)):
                totals[level] += value
    if not sums["instructions"]:
        raise DataError("no instruction was counted between the marks", where="counts")
    numbers: dict[str, Any] = {"cycles": round(cycles), **{name: mix[name] for name in (*MIX, "other")}}
    numbers |= {name: tuple(totals) for name, totals in lists.items()}
    return Features(**{name: numbers.get(name, sums[name]) for name in FIELDS})
