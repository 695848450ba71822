"""A ledger's segments as one table: windows in order of soak time, what is lost or double, all events."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import DataError
from harness.model import SoakEvent, SoakLife, SoakTable, SparseHistograms
from harness.soak.ledger import Ledger
from harness.soak.spool import Record, Segment, parse_segment

STREAM_UNITS: Mapping[str, str] = {
    "calls": "1",
    "late": "1",
    "max_late_ns": "ns",
    "busy_ns": "ns",
    "sum_ns": "ns",
    "min_ns": "ns",
    "max_ns": "ns",
    "rss_bytes": "bytes",
    "pss_bytes": "bytes",
    "private_dirty_bytes": "bytes",
    "fds": "1",
    "threads": "1",
    "restarts": "1",
}
DEVICE_UNITS: Mapping[str, str] = {
    "freq_hz": "Hz",
    "throttled_bits": "1",
    "mem_available_bytes": "bytes",
    "ram_bytes": "bytes",
    "disk_free_bytes": "bytes",
    "load1": "1",
    "realtime_minus_boottime_ns": "ns",
    "runner_cpu_ns": "ns",
    "runner_rss_bytes": "bytes",
}
NS_PER_S = 1e9

Floats = npt.NDArray[np.float64]


def read_table(folder: Path) -> SoakTable:
    """Return all that the ledger in `folder` holds.

    Damaged lines are left out: their seq is among `missing_seq`, and their events say where they are. A line
    that is there twice counts once. Raises DataError where there is no ledger, or a whole record lacks what
    docs/soak-format.md says it has.
    """
    ledger = Ledger.open(folder)
    # a life's record may be the one that is lost: the spec names the same channels
    builder = TableBuilder(channels=ledger.read_spec().get("channels") or ())
    with _no_collections():
        for part in ledger.read_segments():
            where = f"{folder}, segment {part.number}"
            builder.add(parse_segment(part.data), where=where, again=part.revision > 0)
    return builder.build(ledger.read_events())


@dataclass
class TableBuilder:
    """Takes segments in their order, `build` makes the table. Memory grows with the windows alone.

    `channels` are the spec's, which hold until a life's record names its own.
    """

    channels: Sequence[Mapping[str, Any]] = ()
    windows: int = 0
    _seen: set[int] = field(default_factory=set)
    _seq: list[int] = field(default_factory=list)
    _doubled: list[int] = field(default_factory=list)
    _times: list[npt.NDArray[np.int64]] = field(default_factory=list)  # each (n, 4): t0, t1, life, merged
    _columns: dict[str, list[tuple[int, Floats]]] = field(default_factory=dict)
    _units: dict[str, str] = field(default_factory=dict)
    _streams: dict[str, _Stream] = field(default_factory=dict)
    _names: tuple[str, ...] = ()  # of the values of `v`
    _events: list[SoakEvent] = field(default_factory=list)
    _lives: list[SoakLife] = field(default_factory=list)
    _ended: str | None = None

    def __post_init__(self) -> None:
        self._set_channels(self.channels)

    def _set_channels(self, channels: Sequence[Mapping[str, Any]]) -> None:
        self._names = _name_channels(channels)
        self._units |= {name: str(c["unit"]) for name, c in zip(self._names, channels, strict=True)}

    def add(self, segment: Segment, *, where: str = "", again: bool = False) -> None:
        """Take a segment. `again`: it was read anew from the device, so that lines known already are no news.

        Raises DataError where a record lacks what it must have.
        """
        windows: list[Record] = []
        for record, crc in zip(segment.records, segment.crcs, strict=True):
            seq = record["seq"]
            key = seq << 32 | crc
            if key in self._seen:
                if not again:
                    self._doubled.append(seq)
                continue
            self._seen.add(key)
            self._seq.append(seq)
            try:
                if record["k"] == "window":
                    self._check_window(record)
                    windows.append(record)
                    continue
                if record["k"] == "life":
                    self._add_windows(windows)  # the values of the life before, under its names
                    windows = []
                self._add_other(record)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _misfit(where, record, error) from error
        try:
            self._add_windows(windows)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _misfit(where, windows[0], error) from error

    def _check_window(self, record: Record) -> None:
        """Raise KeyError or ValueError where a window lacks something, while it is known which one it is."""
        _ = record["t0_ns"], record["t1_ns"], record["life"], record["n"]
        if not isinstance(record["streams"], dict) or not isinstance(record["dev"], dict):
            raise ValueError("`streams` and `dev` must be objects")
        if len(record["v"]) != len(self._names):
            raise ValueError(f"{len(record['v'])} values in `v`, the life names {len(self._names)} channels")

    def _add_other(self, record: Record) -> None:
        kind = record["k"]
        if kind == "life":
            self._set_channels(record["channels"])
            self._lives.append(
                SoakLife(
                    life=int(record["life"]),
                    start_s=record["t_ns"] / NS_PER_S,
                    gap_s=record["gap_ns"] / NS_PER_S,
                    gap_from=str(record["gap_from"]),
                    boot_id=str(record["boot_id"]),
                    not_observable={str(k): str(v) for k, v in record.get("not_observable", {}).items()},
                    cpufreq=dict(record.get("cpufreq") or {}),  # older agents don't tell it
                )
            )
        elif kind == "event":
            self._events.append(parse_event(record))
        elif kind == "end":
            self._ended = str(record["reason"])
        else:
            raise ValueError(f"unknown kind of record `{kind}`")

    def _add_windows(self, windows: Sequence[Record]) -> None:
        if not windows:
            return
        first = self.windows
        times = [(w["t0_ns"], w["t1_ns"], w["life"], w["n"]) for w in windows]
        self._times.append(np.array(times, dtype=np.int64))
        values = np.array([w["v"] for w in windows], dtype=np.float64).reshape(len(windows), len(self._names))
        for column, name in enumerate(self._names):
            self._put(name, first, values[:, column])
        device = [w["dev"] for w in windows]
        for key, unit in DEVICE_UNITS.items():
            self._units[f"device/{key}"] = unit
            self._put(f"device/{key}", first, _numbers(d.get(key) for d in device))
        for name in dict.fromkeys(name for w in windows for name in w["streams"]):
            self._add_stream(name, first, [w["streams"].get(name) or {} for w in windows])
        self.windows += len(windows)

    def _add_stream(self, name: str, first: int, rows: Sequence[Mapping[str, Any]]) -> None:
        for key, unit in STREAM_UNITS.items():
            self._units[f"{name}/{key}"] = unit
            self._put(f"{name}/{key}", first, _numbers(row.get(key) for row in rows))
        errors = [row.get("errors") or {} for row in rows]
        self._units[f"{name}/errors"] = "1"
        self._put(f"{name}/errors", first, _numbers(sum(e.values()) if e else 0 for e in errors))
        for kind in sorted({kind for e in errors for kind in e}):
            self._units[f"{name}/errors.{kind}"] = "1"
            self._put(f"{name}/errors.{kind}", first, _numbers(e.get(kind, 0) for e in errors))
        self._streams.setdefault(name, _Stream()).add(first, rows)

    def _put(self, name: str, first: int, values: Floats) -> None:
        self._columns.setdefault(name, []).append((first, values))

    def build(self, host_events: Iterable[Record] = ()) -> SoakTable:
        """Return the table. The builder is empty afterwards."""
        n = self.windows
        times = np.concatenate(self._times) if self._times else np.empty((0, 4), dtype=np.int64)
        order = None
        if np.any(np.diff(times[:, 0]) < 0):  # a segment that was read anew comes behind its first reading
            order = np.argsort(times[:, 0], kind="stable")
            times = times[order]
        channels: dict[str, Floats] = {}
        for name in sorted(self._columns):
            channels[name] = _join(self._columns.pop(name), n, order)
        events = [*self._events, *(parse_event(record, source="host") for record in host_events)]
        seq = np.unique(np.array(self._seq, dtype=np.int64))
        last = int(seq[-1]) if seq.size else 0
        return SoakTable(
            start_s=times[:, 0] / NS_PER_S,
            end_s=times[:, 1] / NS_PER_S,
            life=times[:, 2].astype(np.int32),
            merged=times[:, 3].astype(np.int32),
            channels=channels,
            units={name: self._units[name] for name in channels},
            latency={name: stream.histograms(n, order) for name, stream in self._streams.items()},
            variants={name: stream.variants(n, order) for name, stream in self._streams.items()},
            events=tuple(sorted(events, key=lambda event: event.t_s)),
            lives=tuple(self._lives),
            ended=self._ended,
            first_seq=int(seq[0]) if seq.size else 0,
            last_seq=last,
            missing_seq=tuple(np.setdiff1d(np.arange(1, last + 1), seq, assume_unique=True).tolist()),
            doubled_seq=tuple(self._doubled),
        )


@dataclass
class _Stream:
    """A stream's histograms and variants, in parts of some windows each."""

    parts: list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]] = field(
        default_factory=list
    )  # first window, entries of each window, index, count
    names: list[tuple[int, list[str]]] = field(default_factory=list)

    def add(self, first: int, rows: Sequence[Mapping[str, Any]]) -> None:
        histograms = [row.get("h") or () for row in rows]
        # numbers one by one: an array from a list of pairs took as long as all the rest of a table
        numbers = itertools.chain.from_iterable(itertools.chain.from_iterable(histograms))
        flat = np.fromiter(numbers, dtype=np.int64).reshape(-1, 2)
        sizes = np.array([len(h) for h in histograms], dtype=np.int64)
        self.parts.append((first, sizes, flat[:, 0].astype(np.int32), flat[:, 1].copy()))
        self.names.append((first, [str(row.get("variant") or "") for row in rows]))

    def histograms(self, n: int, order: npt.NDArray[np.intp] | None) -> SparseHistograms:
        sizes = np.zeros(n, dtype=np.int64)
        for first, part, _, _ in self.parts:
            sizes[first : first + len(part)] = part
        index = np.concatenate([part[2] for part in self.parts])
        count = np.concatenate([part[3] for part in self.parts])
        self.parts.clear()
        if order is not None:
            begins = np.cumsum(sizes) - sizes
            pick = [np.arange(begins[w], begins[w] + sizes[w]) for w in order]
            entries = np.concatenate(pick) if pick else np.empty(0, dtype=np.int64)
            index, count, sizes = index[entries], count[entries], sizes[order]
        offset = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(sizes, out=offset[1:])
        return SparseHistograms(offset, index, count)

    def variants(self, n: int, order: npt.NDArray[np.intp] | None) -> tuple[str, ...]:
        found = [""] * n
        for first, names in self.names:
            found[first : first + len(names)] = names
        return tuple(found) if order is None else tuple(found[w] for w in order)


def parse_event(record: Record, *, source: str = "device") -> SoakEvent:
    """Return a record of kind `event`. Raises KeyError or TypeError where it lacks something."""
    return SoakEvent(
        t_s=record["t_ns"] / NS_PER_S,
        kind=str(record["event"]),
        text=str(record.get("text") or ""),
        source=source,
        stream=str(record.get("stream") or ""),
        life=int(record.get("life") or 0),
        details=dict(record.get("details") or {}),
    )


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Leave the garbage collector off: it takes a third of the time, and records hold no cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _name_channels(channels: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the table's names for a spec's channels: kind and site, more of the id where two would be alike.

    An id is family/device/site/kind (harness/agent/sensors).
    """
    parts = [[p for p in str(c["id"]).split("/") if p != c["kind"]] or [str(c["id"])] for c in channels]
    names = [f"device/{c['kind']}.{p[-1]}" for c, p in zip(channels, parts, strict=True)]
    return tuple(
        f"device/{c['kind']}.{'.'.join(p)}" if names.count(name) > 1 else name
        for name, c, p in zip(names, channels, parts, strict=True)
    )


def _numbers(values: Iterable[Any]) -> Floats:
    """Return numbers as an array, null as NaN; of several CPUs' values the lowest."""
    found = list(values)
    try:
        return np.array(found, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([_number(value) for value in found], dtype=np.float64)


def _number(value: Any) -> float:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        numbers = [float(v) for v in value if isinstance(v, int | float)]
        return min(numbers) if numbers else float("nan")
    return float("nan") if value is None else float(value)


def _join(parts: Sequence[tuple[int, Floats]], n: int, order: npt.NDArray[np.intp] | None) -> Floats:
    whole = np.full(n, np.nan)
    for first, values in parts:
        whole[first : first + len(values)] = values
    return whole if order is None else whole[order]


def _misfit(where: str, record: Record, error: Exception) -> DataError:
    what = f"no `{error.args[0]}`" if isinstance(error, KeyError) else str(error)
    return DataError(
        f"record {record.get('seq')} ({record.get('k')}) isn't as docs/soak-format.md says: {what}.",
        where=where,
        next_step="Its CRC holds, so the runner wrote it so: was it of another version?",
    )
