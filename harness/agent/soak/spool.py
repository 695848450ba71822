"""The spool: records appended to segments on the device's own disk, durable when `write` returns.

A write is a batch of lines. Its first byte is put down last, so a reader never takes part of a batch for
whole (records.py), and a batch that failed is taken back without anyone having seen it. Nothing that was
synced is ever changed or, until the collector has acknowledged it, removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import Any, Callable, Dict, List, Optional, Sequence

from .disk import FULL, Disk
from .records import UNFINISHED, decode_line, encode_record, find_unfinished

SEGMENT_BYTES = 1 << 20
RESERVE = "reserve"
_LOOKED_AT = 64  # records at the end, of which one tells the time, the life and the last number (chosen)
_SEGMENT = re.compile(r"(\d{8})\.seg\Z")


def segment_name(number: int) -> str:
    """Return a segment's file name."""
    return "%08d.seg" % number


def segment_sizes(disk: Disk, folder: str) -> Dict[int, int]:
    """Return the sizes in bytes of the segments in a folder by number, ascending."""
    found = {_SEGMENT.match(name): size for name, size in disk.sizes(folder).items()}
    return dict(sorted((int(match.group(1)), size) for match, size in found.items() if match))


class End:
    """Where a spool stands: its last whole record, and what that says."""

    def __init__(self) -> None:
        self.segment = 0  # that holds it; 0: the spool has no record
        self.size_bytes = 0  # of that segment up to the record's end
        self.last: Optional[Dict[str, Any]] = None
        self.seq = 0
        self.life = 0
        self.t_ns = 0  # the furthest that a record of that segment reached
        self.ended: Optional[str] = None  # the reason of an `end` record

    def take(self, record: Dict[str, Any]) -> None:
        """Follow the spool by one record."""
        self.last = record
        self.seq = max(self.seq, int(record.get("seq", 0)))
        self.life = max(self.life, int(record.get("life", 0)))
        self.t_ns = max(self.t_ns, int(record.get("t1_ns", record.get("t_ns", 0))))
        if record.get("k") == "end":
            self.ended = str(record.get("reason", ""))
        elif record.get("k") == "life":
            self.ended = None


def find_end(disk: Disk, folder: str, numbers: Sequence[int]) -> End:
    """Return the end of a spool by the last of its segments that has a whole record.

    Only its last records are decoded: a megabyte of JSON takes a slow board a second.
    """
    end = End()
    for number in sorted(numbers, reverse=True):
        data = disk.read(os.path.join(folder, segment_name(number)))
        data = data[: find_unfinished(data)]
        offset = len(data)
        found: List[Dict[str, Any]] = []
        for line in reversed(data.splitlines(keepends=True)):
            record = decode_line(line) if line.endswith(b"\n") else None
            if record is not None:
                end.size_bytes = end.size_bytes or offset
                found.append(record)
            if len(found) >= _LOOKED_AT:
                break
            offset -= len(line)
        for record in reversed(found):
            end.take(record)
        if found:
            end.segment = number
            break
    return end


class Spool:
    """One soak's spool, open for writing. Only the living runner may open it; close it.

    `end` is where the last life left it, `dropped_bytes` what of a torn or damaged end was cut off at
    opening.
    """

    def __init__(
        self,
        folder: str,
        max_bytes: int,
        reserve_bytes: int,
        acknowledged: Callable[[], int] = lambda: 0,
        known_seq: int = 0,
        disk: Optional[Disk] = None,
    ) -> None:
        """Open the spool in `folder`, which is made, repairing its end. Raises OSError.

        `acknowledged` returns the last segment that may go; `known_seq` is the last that the runner knows to
        have synced, so that a number isn't given twice where the disk has lost records.
        """
        self._disk = disk or Disk()
        self._folder = folder
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._acknowledged = acknowledged
        os.makedirs(folder, exist_ok=True)
        self._disk.sync_folder(os.path.dirname(folder))
        self._sizes = segment_sizes(self._disk, folder)
        self._descriptor: Optional[int] = None
        self.dropped_bytes = 0
        self.end = find_end(self._disk, folder, list(self._sizes))
        self.seq = max(self.end.seq, known_seq)
        self._repair()
        self._has_reserve = False
        self._keep_reserve()

    @property
    def spool_bytes(self) -> int:
        """What the segments take on the disk; the reserve comes on top."""
        return sum(self._sizes.values())

    @property
    def segment(self) -> int:
        """The number of the segment that grows; 0 before the first write."""
        return max(self._sizes, default=0)

    def write(self, records: Sequence[Dict[str, Any]], urgent: bool = False) -> bool:
        """Append records in order, each with its `seq`; return whether they are on the disk, all or none.

        False: the disk is full, or the spool has reached its cap. What is `urgent` may take the reserve.
        Raises ValueError for a record that isn't JSON, OSError when the disk fails otherwise, twice.
        """
        numbered = [dict(record, seq=self.seq + i) for i, record in enumerate(records, start=1)]
        data = b"".join(encode_record(record) for record in numbered)
        if not data:
            return True
        if not self._fits(len(data), urgent) or not self._append_where_room(data, urgent):
            return False
        self.seq += len(numbered)
        if not urgent:
            self._keep_reserve()
        return True

    def close(self) -> None:
        """Close the segment. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)

    def _path(self, number: int) -> str:
        return os.path.join(self._folder, segment_name(number))

    def _repair(self) -> None:
        """Cut off what follows the last whole record, and go on in a new segment then.

        A new one, because a collector may stand behind the place where the old one ends now.
        """
        after = [number for number in self._sizes if number > self.end.segment]
        ends_at = {number: 0 for number in after}
        if self.end.segment:
            ends_at[self.end.segment] = self.end.size_bytes
        for number, size in ends_at.items():
            if self._sizes[number] > size:
                self.dropped_bytes += self._sizes[number] - size
                self._cut(number, size)
        if self._sizes and not self.dropped_bytes:
            self._descriptor = self._disk.open(self._path(self.segment), os.O_RDWR)

    def _cut(self, number: int, size: int) -> None:
        descriptor = self._disk.open(self._path(number), os.O_RDWR)
        try:
            self._disk.truncate(descriptor, size)
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._sizes[number] = size

    def _fits(self, size: int, urgent: bool) -> bool:
        """Return whether the cap leaves room, removing acknowledged segments for it."""
        allowed = self._max_bytes + (self._reserve_bytes if urgent else 0)
        if self.spool_bytes + size > allowed:
            self._remove_acknowledged(self.spool_bytes + size - allowed)
        return self.spool_bytes + size <= allowed

    def _remove_acknowledged(self, wanted_bytes: int) -> bool:
        """Remove acknowledged segments, oldest first, until so much is free; return whether any went."""
        acknowledged = self._acknowledged()
        freed = 0
        for number in sorted(self._sizes)[:-1]:  # never the one that grows
            if number > acknowledged or freed >= wanted_bytes:
                break
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(self._path(number))
            freed += self._sizes.pop(number)
        if freed:
            self._disk.sync_folder(self._folder)
        return bool(freed)

    def _append_where_room(self, data: bytes, urgent: bool) -> bool:
        """Append, freeing room step by step; return False if the disk stays full."""
        failed_before = False
        while True:
            try:
                self._append(data)
                return True
            except OSError as error:
                if error.errno in FULL:
                    more = self._remove_acknowledged(len(data)) or (urgent and self._release_reserve())
                    if not more:
                        return False
                elif failed_before:
                    raise
                else:
                    failed_before = True  # a bad block: once more, in another segment
                    self.close()

    def _append(self, data: bytes) -> None:
        number = self.segment
        if self._descriptor is not None and self._disk.size(self._descriptor) != self._sizes[number]:
            self.close()  # another has cut or removed it: what we wrote behind a hole would be lost
        if self._descriptor is None or 0 < self._sizes[number] > SEGMENT_BYTES - len(data):
            self._start_segment()
            number = self.segment
        assert self._descriptor is not None
        offset = self._sizes[number]
        try:
            self._put(self._descriptor, UNFINISHED + data[1:], offset)
            self._put(self._descriptor, data[:1], offset)
            self._disk.sync(self._descriptor)
        except OSError:
            self._take_back(offset)
            raise
        self._sizes[number] = offset + len(data)

    def _put(self, descriptor: int, data: bytes, offset: int) -> None:
        done = 0
        while done < len(data):
            done += self._disk.pwrite(descriptor, data[done:], offset + done)

    def _take_back(self, size: int) -> None:
        """Cut off a write that failed; a segment that can't be cut is left as it is, for a new one."""
        assert self._descriptor is not None
        try:
            self._disk.truncate(self._descriptor, size)
        except OSError:
            self.close()

    def _start_segment(self) -> None:
        """Begin the next segment, its name on the disk; on failure nothing of it stays."""
        self.close()
        number = self.segment + 1
        descriptor = self._disk.open(self._path(number), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            self._disk.sync_folder(self._folder)
        except OSError:
            self._disk.close(descriptor)
            self._disk.unlink(self._path(number))
            raise
        self._descriptor = descriptor
        self._sizes[number] = 0

    def _keep_reserve(self) -> None:
        """Have the reserve where there is room for it."""
        if self._has_reserve or not self._reserve_bytes:
            return
        path = os.path.join(self._folder, RESERVE)
        try:
            descriptor = self._disk.open(path, os.O_RDWR | os.O_CREAT)
            try:
                self._disk.allocate(descriptor, self._reserve_bytes)
            finally:
                self._disk.close(descriptor)
            self._has_reserve = True
        except OSError as error:
            if error.errno not in (*FULL, errno.EIO, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            with contextlib.suppress(OSError):  # half of one would only take the room
                self._disk.unlink(path)

    def _release_reserve(self) -> bool:
        """Free the reserve; return whether there was one."""
        had, self._has_reserve = self._has_reserve, False
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(os.path.join(self._folder, RESERVE))
        return had
