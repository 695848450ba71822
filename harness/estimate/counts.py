"""What the counting plugin wrote (harness/emulation/plugins/count.c), one window after the other.

A line begins with its sort: `H format levels` first; `W number` opens a window; `B id address words` tells
a block's code once, before it first counts; `C id passes …` gives its counts in this window; `E` closes the
window. A window without its `E` was cut off and is an error, as is anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.errors import DataError

FORMAT = 1
LEVELS = 3  # of caches that a line of counts has room for
_COUNTS = 2 + 2 + 2 + 2 * LEVELS + LEVELS + 2
KERNEL = 1 << 48  # addresses from here on are the kernel's (arm64: Documentation/arch/arm64/memory.rst)


@dataclass(frozen=True, slots=True)
class Block:
    """Straight code at one address. Blocks may overlap; each pass counts in one of them."""

    address: int
    words: tuple[int, ...]

    @property
    def in_kernel(self) -> bool:
        return self.address >= KERNEL


@dataclass(frozen=True, slots=True)
class Counts:
    """One block in one window. A missed line is one of 64 bytes; a streamed one was next to an earlier
    miss."""

    block: Block
    passes: int
    loaded_bytes: int
    stored_bytes: int
    loads: int  # accesses, of up to 8 bytes each
    stores: int
    missed_by_loads: tuple[int, ...]  # per level of cache
    missed_by_stores: tuple[int, ...]
    streamed: tuple[int, ...]
    pages_missed: int  # in the first level of the TLB
    pages_walked: int  # in the last


Window = tuple[Counts, ...]


def parse_counts(lines: Iterable[str]) -> Iterator[Window]:
    """Yield each window's counts. Raises DataError, with the line's number, for what the plugin doesn't
    write.
    """
    blocks: dict[int, Block] = {}
    levels: int | None = None
    window: list[Counts] | None = None
    for number, line in enumerate(lines, 1):
        sort, _, rest = line.rstrip("\n").partition(" ")
        try:
            if sort == "H":
                levels = _parse_header(rest)
            elif levels is None:
                raise ValueError("no header before it")
            elif sort == "B":
                name, block = _parse_block(rest)
                blocks[name] = block
            elif sort == "W" and window is None:
                window = []
            elif sort == "C" and window is not None:
                window.append(_parse_count(rest, blocks, levels))
            elif sort == "E" and window is not None:
                yield tuple(window)
                window = None
            else:
                raise ValueError("out of place")
        except (ValueError, KeyError) as error:
            raise DataError(f"line {number}: {line[:80].rstrip()!r}: {error}", where="counts") from error
    if window is not None:
        raise DataError("the last window has no end: the board stopped before it was written", where="counts")


def _parse_header(text: str) -> int:
    version, levels = (int(part) for part in text.split())
    if version != FORMAT:
        raise ValueError(f"format {version}, expected {FORMAT}; build the plugin again")
    if not 1 <= levels <= LEVELS:
        raise ValueError(f"{levels} levels of cache, expected 1 to {LEVELS}")
    return levels


def _parse_block(text: str) -> tuple[int, Block]:
    name, address, code = text.split()
    if not code or len(code) % 8:
        raise ValueError(f"{len(code)} hexadecimal digits of code, expected 8 an instruction")
    words = tuple(int(code[i : i + 8], 16) for i in range(0, len(code), 8))
    return int(name), Block(int(address, 16), words)


def _parse_count(text: str, blocks: dict[int, Block], levels: int) -> Counts:
    values = [int(part) for part in text.split()]
    if len(values) != _COUNTS:
        raise ValueError(f"{len(values)} numbers, expected {_COUNTS}")
    missed, streamed, pages = values[6 : 6 + 2 * LEVELS], values[-2 - LEVELS : -2], values[-2:]
    return Counts(
        block=blocks[values[0]],
        passes=values[1],
        loaded_bytes=values[2],
        stored_bytes=values[3],
        loads=values[4],
        stores=values[5],
        missed_by_loads=tuple(missed[0 : 2 * levels : 2]),
        missed_by_stores=tuple(missed[1 : 2 * levels : 2]),
        streamed=tuple(streamed[:levels]),
        pages_missed=pages[0],
        pages_walked=pages[1],
    )
