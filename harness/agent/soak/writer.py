"""What the runner has to say, in order, into the spool; while that is full, more and more windows in one."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from .disk import note
from .spool import Spool
from .windows import merge_windows

MAX_HELD_EVENTS = 1000  # while the disk is full (chosen): some 300 KiB of memory
# Windows that are waited for at most before the disk is tried again (chosen): after hours of a full disk what
# is held must not take as many hours again to be written, for a power cut would lose it
MAX_MORE = 64

Stamp = Callable[[], Dict[str, Any]]  # `t_ns` and `life` of now


class Writer:
    """Records on their way into a spool. Nothing here raises for a full or failing disk."""

    def __init__(self, spool: Spool, stamp: Stamp) -> None:
        self._spool = spool
        self._stamp = stamp
        self._held: List[Dict[str, Any]] = []  # records but windows, not written yet
        self._window: Optional[Dict[str, Any]] = None  # windows that wait, as one
        self._together = 1  # windows to merge before the next try
        self._lost_events = 0
        self._why = ""  # the disk fails so

    @property
    def seq(self) -> int:
        """The last record that is on the disk."""
        return self._spool.seq

    def event(
        self, event: str, text: str, stream: str = "", details: Optional[Dict[str, Any]] = None
    ) -> None:
        """Hold an event until `flush` or the next window."""
        record: Dict[str, Any] = dict(self._stamp(), k="event", event=event, text=text[:2000])
        if stream:
            record["stream"] = stream
        self.record(dict(record, details=details or {}))

    def record(self, record: Dict[str, Any]) -> None:
        """Hold a record that is no window until `flush` or the next window."""
        if len(self._held) >= MAX_HELD_EVENTS:
            self._lost_events += 1
            return
        self._held.append(record)

    def window(self, window: Dict[str, Any]) -> None:
        """Write a window with what is held before it, or merge it with those that wait."""
        self._window = window if self._window is None else merge_windows(self._window, window)
        if self._window["n"] >= self._together:
            self._try()

    def flush(self) -> bool:
        """Write the events that are held, so that they are soon known; return whether none is left."""
        if self._held and self._window is None:
            self._try()
        return not self._held

    def finish(self) -> bool:
        """Write all there is, into the reserve if need be; return whether it is on the disk."""
        return self._write(self._everything(), urgent=True)

    def _everything(self) -> List[Dict[str, Any]]:
        return [*self._held, *([self._window] if self._window is not None else [])]

    def _try(self) -> None:
        records = self._everything()
        if self._together > 1:
            records += self._back_again()
        if self._write(records):
            self._together = 1
            return
        if self._together == 1:
            self._tell_full()
        self._together += min(self._together, MAX_MORE)

    def _back_again(self) -> List[Dict[str, Any]]:
        """Return what is told with the first write after the disk was full."""
        found = []
        if self._window is not None and self._window["n"] > 1:
            n = self._window["n"]
            found.append(self._told("thinned", "%d windows are merged into one" % n, {"n": n}))
        details = {"lost_events": self._lost_events}
        return [*found, self._told("disk_back", "the spool has room again", details)]

    def _tell_full(self) -> None:
        text = self._why or "the spool has no room: windows are merged until there is"
        record = self._told("disk_full", text, {"spool_bytes": self._spool.spool_bytes})
        held, window, self._held, self._window = self._held, self._window, [], None
        if not self._write([record], urgent=True):
            held.append(record)
        self._held, self._window = held, window

    def _told(self, event: str, text: str, details: Dict[str, Any]) -> Dict[str, Any]:
        return dict(self._stamp(), k="event", event=event, text=text, details=details)

    def _write(self, records: List[Dict[str, Any]], urgent: bool = False) -> bool:
        """Write records; once they are on the disk nothing is held any more."""
        self._why = ""
        try:
            written = self._spool.write(records, urgent)
        except OSError as error:  # the medium fails: treated as a full one, and told
            self._why = "the spool can't be written: %s" % error
            note(self._why)
            return False
        if written:
            self._held, self._window, self._lost_events = [], None, 0
        return written
