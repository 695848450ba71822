"""A look at a soak that disturbs nobody: its windows as far as they are at hand, without a claim."""

from __future__ import annotations

from harness.errors import AgentError
from harness.model import SoakTable
from harness.remote.soak import SoakClient, SoakStatus
from harness.soak.fetch import MAX_READ_BYTES
from harness.soak.ledger import Ledger
from harness.soak.spool import parse_segment
from harness.soak.table import TableBuilder

NO_CLAIM = 0
MAX_SEGMENTS = 8  # that are fetched for a look: at 1 s windows some 2 h each


def peek_table(soaks: SoakClient, status: SoakStatus, ledger: Ledger | None) -> tuple[SoakTable, bool]:
    """Return what can be seen of a soak's windows, and whether that is all of them.

    What the ledger holds is taken from there; of the rest the first segment and the last ones are read.
    """
    builder = TableBuilder()
    held: dict[int, int] = {}
    events = ledger.read_events() if ledger else ()
    for part in ledger.read_segments() if ledger else ():
        builder.add(parse_segment(part.data), where=f"segment {part.number}", again=part.revision > 0)
        held[part.number] = len(part.data)
    missing = [number for number, size in sorted(status.segments.items()) if held.get(number, 0) < size]
    chosen = missing if len(missing) <= MAX_SEGMENTS else [missing[0], *missing[1 - MAX_SEGMENTS :]]
    whole = chosen == missing
    for number in chosen:
        try:
            piece = soaks.read(status.id, NO_CLAIM, number, held.get(number, 0), MAX_READ_BYTES)
        except AgentError:  # the segment was removed just now, for want of room
            whole = False
            break
        builder.add(parse_segment(piece.data), where=f"segment {number}")
    table = builder.build(events)
    return table, whole and table.first_seq <= 1
