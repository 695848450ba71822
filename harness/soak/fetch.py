"""One look at a soak over an open connection: what is new goes into the ledger, nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.errors import DataError
from harness.remote.soak import SoakClient, SoakStatus
from harness.soak.ledger import Ledger
from harness.soak.ledger_state import Flaw
from harness.soak.spool import Record

# a segment ends at 1 MiB: one request brings it whole, also with a long last line
MAX_READ_BYTES = 2 << 20

OnRecords = Callable[[Sequence[Record]], None]


@dataclass(frozen=True)
class Fetched:
    """What one look brought. `closed` is the last segment up to which all is held and nothing is added."""

    records: int
    size_bytes: int
    closed: int


def collect_once(
    soaks: SoakClient,
    ledger: Ledger,
    token: int,
    status: SoakStatus | None = None,
    on_records: OnRecords | None = None,
) -> Fetched:
    """Bring all that the device has of a soak and the ledger doesn't; acknowledge what is whole.

    `status` is the device's word from just before. `on_records` gets what is new, a segment at a time. Raises
    FencedError, TransientError or HostSetupError; what was brought before stays.
    """
    status = status or soaks.status(ledger.soak_id)
    records = size_bytes = 0
    for number in _wanted(ledger, status):
        for found, size in _fetch_segment(soaks, ledger, token, number):
            records += len(found)
            size_bytes += size
            if on_records is not None and found:
                on_records(found)
    closed = _closed_up_to(ledger, status)
    acked = status.collector.get("acked_segment")
    if closed and not (isinstance(acked, int) and acked >= closed):
        soaks.ack(ledger.soak_id, token, closed)
    return Fetched(records, size_bytes, closed)


def repair(soaks: SoakClient, ledger: Ledger, token: int, status: SoakStatus) -> int:
    """Have what has changed on the host's disk read again where the device still has it; return of how many
    segments. What it has no more is told as damaged."""
    damaged = ledger.find_damage()
    for number, flaws in damaged.items():
        if number in status.segments:
            ledger.begin_again(token, number, flaws)
        else:
            ledger.accept_flaws(token, number, flaws)
    return len(damaged)


def _wanted(ledger: Ledger, status: SoakStatus) -> list[int]:
    held = ledger.read_state().segments
    return [n for n in sorted(status.segments) if not (n in held and held[n].closed)]


def _closed_up_to(ledger: Ledger, status: SoakStatus) -> int:
    held = ledger.read_state().segments
    closed = 0
    for number in sorted(status.segments):
        if number not in held or not held[number].closed:
            break
        closed = number
    return closed


def _fetch_segment(
    soaks: SoakClient, ledger: Ledger, token: int, number: int
) -> list[tuple[list[Record], int]]:
    """Bring what is new of one segment; return its records and bytes, piece by piece.

    Each request begins at the last line that is held: the device must still have it there. Where it hasn't
    (its disk changed, its runner cut off a damaged end), the segment is read again from its start.
    """
    found: list[tuple[list[Record], int]] = []
    while True:
        held = ledger.held(number)
        known = ledger.last_line(number, held)
        piece = soaks.read(ledger.soak_id, token, number, held.last_line if known else 0, MAX_READ_BYTES)
        if not piece.data.startswith(known):
            ledger.begin_again(token, number, (_changed(held.last_line, len(known)),))
            continue
        new = piece.data[len(known) :]
        if not new.endswith(b"\n") and new:
            raise DataError(f"segment {number} came with half a line.", where=ledger.soak_id)
        whole = held.size_bytes + len(new) >= piece.size_bytes
        closed = whole and number < piece.last
        segment = ledger.append(token, number, held, new, closed=closed)
        found.append((segment.records, len(new)))
        if whole or not new:
            return found


def _changed(offset: int, size_bytes: int) -> Flaw:
    return Flaw(offset, size_bytes, "that were collected are there no more; read again from its start")
