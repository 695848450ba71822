"""A soak's folder on the host: the device's segments as they are there, and the host's own events.

Bytes are appended and fsynced before state.json says that they are held. So whatever ends a collector, the
next one goes on from what state.json says, cuts off what it doesn't know of, and asks the device for that
again. Nothing is removed: where bytes have changed on either side, the segment is read again into a file of
its own (a revision), and the table takes each line once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, DataError, FencedError
from harness.soak.ledger_files import LedgerFiles, locked
from harness.soak.ledger_state import Flaw, Held, State, decode_state, encode_state
from harness.soak.spool import Record, Segment, count_whole_bytes, encode_record, parse_segment
from harness.store.atomic import checked_name, make_folder


@dataclass(frozen=True)
class Part:
    """One revision of a segment, as far as it is held."""

    number: int
    revision: int
    data: bytes


class Ledger:
    """One soak's folder. Any number may read; who writes needs the token of the last claim."""

    def __init__(self, folder: Path, files: LedgerFiles | None = None) -> None:
        self.folder = folder
        self._files = files or LedgerFiles()

    @classmethod
    def create(
        cls,
        root: Path,
        spec: Mapping[str, Any],
        device: Mapping[str, Any],
        *,
        files: LedgerFiles | None = None,
    ) -> Ledger:
        """Return the ledger `root`/<id> of a soak, made where there is none.

        `device` says where the soak is (device.json). Raises ConfigError where the folder holds another soak.
        """
        folder = root / checked_name(str(spec["id"]), what="a soak's id")
        ledger = cls(folder, files)
        make_folder(folder / "segments")
        with locked(folder / "lock"):
            if (folder / "spec.json").exists():
                if ledger.read_spec() != dict(spec):
                    raise ConfigError(
                        "holds another soak of the same id.",
                        where=str(folder),
                        next_step="Move that folder away, or collect into another --report-dir.",
                    )
            else:
                ledger._files.replace(folder / "device.json", _json(device))
                ledger._files.replace(folder / "spec.json", _json(spec))  # last: it makes the folder a ledger
        return ledger

    @classmethod
    def open(cls, folder: Path, *, files: LedgerFiles | None = None) -> Ledger:
        """Return the ledger in `folder`. Raises DataError where there is none."""
        if not (folder / "spec.json").is_file():
            raise DataError(
                "holds no soak: there is no spec.json.",
                where=str(folder),
                next_step="`harness soak attach` builds it anew from what is on the device.",
            )
        return cls(folder, files)

    @property
    def soak_id(self) -> str:
        return self.folder.name

    def read_spec(self) -> dict[str, Any]:
        return _read_json(self.folder / "spec.json")

    def read_device(self) -> dict[str, Any]:
        return _read_json(self.folder / "device.json")

    def read_state(self) -> State:
        """Return who collects and what is held; from the segments where state.json is gone or damaged."""
        try:
            return decode_state((self.folder / "state.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return self._rebuild_state()

    def read_segments(self) -> Iterator[Part]:
        """Yield what is held in the order of the segments, their older revisions first."""
        for number, held in sorted(self.read_state().segments.items()):
            for revision in range(held.revision + 1):
                path = self._segment_path(number, revision)
                data = path.read_bytes() if path.exists() else b""
                if revision == held.revision:
                    data = data[: held.size_bytes]
                yield Part(number, revision, data[: count_whole_bytes(data)])

    def lacks_segments(self) -> bool:
        """Return whether the file of a segment that was held isn't there, or nothing says that any was."""
        held = self.read_state().segments
        files = [self._segment_path(n, h.revision) for n, h in held.items() if h.size_bytes]
        return not files or not all(path.is_file() for path in files)

    def read_events(self) -> tuple[Record, ...]:
        """Return the host's own events: those added, and `segment_damaged` for each known flaw."""
        path = self.folder / "host.jsonl"
        added = parse_segment(path.read_bytes()).records if path.exists() else []
        state = self.read_state()
        flaws = [
            (self._segment_path(n, h.revision).name, f) for n, h in state.segments.items() for f in h.flaws
        ]
        flaws += [(name, flaw) for name, found in state.old_flaws.items() for flaw in found]
        return (*added, *(_flaw_event(name, flaw) for name, flaw in sorted(flaws, key=lambda f: f[1].t_ns)))

    def held(self, number: int) -> Held:
        """Return how far a segment is held; nothing of it where it is unknown."""
        return self.read_state().segments.get(number, Held())

    def last_line(self, number: int, held: Held) -> bytes:
        """Return the last whole line that is held of a segment: what the device must still have there."""
        if held.size_bytes == 0:
            return b""
        with self._segment_path(number, held.revision).open("rb") as file:
            file.seek(held.last_line)
            return file.read(held.size_bytes - held.last_line)

    # --- changes: under the lock, refused to whoever has been fenced out ---------------------------

    def adopt(self, token: int, holder: str) -> None:
        """Take note of a new claim. Raises FencedError when a later one is known already."""
        with locked(self.folder / "lock"):
            state = self._checked_state(token)
            self._write_state(replace(state, token=token, holder=holder))

    def append(self, token: int, number: int, held: Held, data: bytes, *, closed: bool = False) -> Segment:
        """Add whole lines `data` behind what is `held` of a segment; return the records among them.

        `closed`: the device adds nothing more behind them. What is damaged is kept and noted. Raises
        FencedError, DataError when another collector has written meanwhile, HostSetupError.
        """
        if count_whole_bytes(data) != len(data):
            raise ValueError("only whole lines belong into a ledger")
        with locked(self.folder / "lock"):
            state = self._checked_state(token)
            if state.segments.get(number, Held()) != held:
                raise DataError(f"segment {number} has changed meanwhile.", where=str(self.folder))
            path = self._segment_path(number, held.revision)
            size_bytes = path.stat().st_size if path.exists() else 0
            if size_bytes < held.size_bytes:
                raise DataError(f"has {size_bytes} bytes, expected {held.size_bytes}.", where=str(path))
            if size_bytes > held.size_bytes:  # a collector ended between appending and saying so
                self._files.truncate(path, held.size_bytes)
            if data:
                self._files.append(path, data)
                self._files.sync(path)
            segment = parse_segment(data)
            grown = _grow(held, data, segment, closed)
            if grown != held or number not in state.segments:
                self._write_state(replace(state, segments={**state.segments, number: grown}))
        return segment

    def begin_again(self, token: int, number: int, flaws: tuple[Flaw, ...] = ()) -> None:
        """Have a segment read from its start into a new file; `flaws` are those that made it necessary."""
        with locked(self.folder / "lock"):
            state = self._checked_state(token)
            held = state.segments.get(number, Held())
            name = self._segment_path(number, held.revision).name
            old = {**state.old_flaws, name: (*held.flaws, *flaws)}
            segments = {**state.segments, number: Held(revision=held.revision + 1)}
            self._write_state(replace(state, segments=segments, old_flaws=old))

    def accept_flaws(self, token: int, number: int, flaws: tuple[Flaw, ...]) -> None:
        """Keep a damaged segment as it is: the device has it no more."""
        with locked(self.folder / "lock"):
            state = self._checked_state(token)
            held = state.segments[number]
            path = self._segment_path(number, held.revision)
            size_bytes = min(held.size_bytes, path.stat().st_size if path.exists() else 0)
            kept = replace(held, size_bytes=size_bytes, closed=True, flaws=(*held.flaws, *flaws))
            self._write_state(replace(state, segments={**state.segments, number: kept}))

    def note_status(self, token: int, status: Mapping[str, Any], at_realtime_ns: int) -> None:
        """Keep what the device said last, for whoever asks while it can't be reached."""
        with locked(self.folder / "lock"):
            state = self._checked_state(token)
            seen = {**status, "at_realtime_ns": at_realtime_ns}
            self._write_state(replace(state, seen=seen))

    def add_event(self, event: str, t_ns: int, text: str, details: Mapping[str, Any] | None = None) -> Record:
        """Add one of the host's own events at soak time `t_ns`; return it."""
        path = self.folder / "host.jsonl"
        with locked(self.folder / "lock"):
            data = path.read_bytes() if path.exists() else b""
            whole = count_whole_bytes(data)
            if whole < len(data):
                self._files.truncate(path, whole)
            record: Record = {
                "k": "event",
                "seq": data.count(b"\n") + 1,
                "t_ns": t_ns,
                "event": event,
                "text": text,
                "details": dict(details or {}),
            }
            self._files.append(path, encode_record(record))
            self._files.sync(path)
        return record

    def find_damage(self) -> dict[int, tuple[Flaw, ...]]:
        """Return what of the host's own copy has changed since it was written, by segment."""
        found: dict[int, tuple[Flaw, ...]] = {}
        for number, held in self.read_state().segments.items():
            path = self._segment_path(number, held.revision)
            data = path.read_bytes()[: held.size_bytes] if path.exists() else b""
            known = {flaw.offset for flaw in held.flaws}
            segment = parse_segment(data)
            flaws = [flaw for flaw in _flaws(segment, 0, "host") if flaw.offset not in known]
            if segment.size_bytes < held.size_bytes:
                missing = held.size_bytes - segment.size_bytes
                flaws.append(Flaw(segment.size_bytes, missing, "the end is missing", "host"))
            if flaws:
                found[number] = tuple(flaws)
        return found

    def _segment_path(self, number: int, revision: int) -> Path:
        name = f"{number:08d}.seg" if revision == 0 else f"{number:08d}.r{revision}.seg"
        return self.folder / "segments" / name

    def _checked_state(self, token: int) -> State:
        state = self.read_state()
        if state.token > token:
            raise FencedError(
                f"{state.holder or 'another collector'} has taken this soak over (token {state.token}; ours "
                f"was {token}). The soak runs on.",
                where=self.soak_id,
                next_step=f"To take it back: harness soak attach {self.soak_id} --take-over",
            )
        return state

    def _write_state(self, state: State) -> None:
        self._files.replace(self.folder / "state.json", encode_state(state))

    def _rebuild_state(self) -> State:
        """Return what the segments' files say by themselves: their whole lines."""
        segments: dict[int, Held] = {}
        for path in sorted((self.folder / "segments").glob("*.seg")):
            number, _, rest = path.name.partition(".")
            revision = int(rest[1:-4]) if rest.startswith("r") else 0
            if revision >= segments.get(int(number), Held()).revision:
                data = path.read_bytes()[: count_whole_bytes(path.read_bytes())]
                segments[int(number)] = _grow(Held(revision), data, parse_segment(data), False)
        return State(segments=segments)


def _grow(held: Held, data: bytes, segment: Segment, closed: bool) -> Held:
    """Return `held` with `data` behind it."""
    last_line = held.size_bytes + data.rfind(b"\n", 0, len(data) - 1) + 1 if data else held.last_line
    return Held(
        revision=held.revision,
        size_bytes=held.size_bytes + len(data),
        last_line=last_line,
        closed=closed,
        flaws=(*held.flaws, *_flaws(segment, held.size_bytes, "device")),
    )


def _flaws(segment: Segment, base: int, on: str) -> list[Flaw]:
    """Return a segment's damage, its offsets counted from `base` bytes before it."""
    found = []
    for damage in segment.damage:
        before = segment.records[damage.after - 1] if damage.after else {}
        time = before.get("t1_ns", before.get("t_ns", 0))
        t_ns = time if isinstance(time, int) else 0
        found.append(
            Flaw(base + damage.offset, damage.size_bytes, damage.why, on, int(before.get("seq", 0)), t_ns)
        )
    return found


def _flaw_event(name: str, flaw: Flaw) -> Record:
    text = f"{name}, byte {flaw.offset}: {flaw.size_bytes} bytes on the {flaw.on} {flaw.why}"
    return {"k": "event", "event": "segment_damaged", "t_ns": flaw.t_ns, "text": text, "details": vars(flaw)}


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(document), indent=1).encode() + b"\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read: {error}.", where=str(path)) from error
    if not isinstance(document, dict):
        raise DataError("expected an object.", where=str(path))
    return document


def list_ledgers(root: Path) -> tuple[Ledger, ...]:
    """Return the soaks under `root` (reports/soaks), oldest first: an id begins with its date."""
    if not root.is_dir():
        return ()
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    return tuple(Ledger(root / name) for name in names if (root / name / "spec.json").is_file())
