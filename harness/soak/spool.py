"""Lines of a soak's segments (docs/soak-format.md): bytes to records, and what of them is damaged. No I/O."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
_HEAD = re.compile(rb"[0-9a-f]{8} ")


@dataclass(frozen=True)
class Damage:
    """A stretch of a segment that is no record: where it begins, how long it is, and what is wrong with it.

    `after` counts the good records before it.
    """

    offset: int
    size_bytes: int
    why: str
    after: int = 0


@dataclass(frozen=True)
class Segment:
    """A segment as far as it was read. `records[i]` came from a line whose CRC is `crcs[i]`.

    `size_bytes` is where the last whole line ends; what follows is a line that isn't finished.
    """

    records: list[Record] = field(default_factory=list)
    crcs: list[int] = field(default_factory=list)
    damage: tuple[Damage, ...] = ()
    size_bytes: int = 0


def encode_record(record: Mapping[str, Any]) -> bytes:
    """Return `record` as one line of a segment."""
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def count_whole_bytes(data: bytes) -> int:
    """Return how many bytes of `data` are whole lines."""
    return data.rfind(b"\n") + 1


def parse_segment(data: bytes) -> Segment:
    """Return the records of `data` in their order, and what is damaged. Never raises: damage is told."""
    records: list[Record] = []
    crcs: list[int] = []
    damage: list[Damage] = []
    for offset, line in iterate_lines(data):
        found = parse_line(line)
        if isinstance(found, str):
            damage.append(Damage(offset, len(line) + 1, found, len(records)))
        else:
            crc, record = found
            records.append(record)
            crcs.append(crc)
    return Segment(records, crcs, tuple(damage), count_whole_bytes(data))


def iterate_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each whole line of `data` begins, and the line without its end."""
    begin = 0
    while (end := data.find(b"\n", begin)) >= 0:
        yield begin, data[begin:end]
        begin = end + 1


def parse_line(line: bytes) -> tuple[int, Record] | str:
    """Return a line's CRC and record, or what is wrong with it."""
    if _HEAD.match(line) is None:
        return f"begins with {line[:9]!r}, expected 8 hex digits and a space"
    text = line[9:]
    crc = zlib.crc32(text)
    if line[:8] != b"%08x" % crc:
        return f"its CRC is {crc:08x}, the line says {line[:8].decode()}"
    try:
        record = json.loads(text)
    except ValueError as error:  # the writer's fault: the CRC holds
        return f"is no JSON: {error}"
    except RecursionError:
        return "is JSON nested too deeply"
    if not isinstance(record, dict) or not _is_seq(record.get("seq")) or not isinstance(record.get("k"), str):
        return f"is no record: expected an object with `seq` and `k`, got {text[:60]!r}"
    return crc, record


def _is_seq(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
