"""What a meter's own software wrote: columns of a CSV file as channels, on the meter's clock.

RFC 4180, with a header line; lines that begin with `#` before it are skipped. The file is read when
sampling stops, all of it: only the meter knows when it began. Times in seconds since 1970 keep a quarter of
a microsecond.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigError, DataError, Unsupported, nearest
from harness.instruments.base import Context, InstrumentKind, already_started, find_channel, not_started
from harness.instruments.health import compute_health
from harness.instruments.options import KIND_NAMES, make_channel, parse_common, parse_uncertainty
from harness.model import Capture, Channel, ChannelKind, InstrumentSpec, Mode, Reading
from harness.toml_schema import Section

ISO = "iso8601"
TIME_UNITS_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "µs": 1e3, "ns": 1.0}
_ROWS_SHOWN = 3
_MAX_LINE_BYTES = 1 << 16
_PACKED = (".gz", ".bz2", ".zst", ".lz4")  # which pyarrow unpacks by name
MAX_BYTES = 8 << 30

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


def _parse(section: Section) -> Mapping[str, Any]:
    options = {
        "path": section.path("path", required=True),
        "time_column": section.text("time_column", required=True) or "",
        "time_unit": section.text("time_unit", choices=(*TIME_UNITS_NS, ISO)) or "s",
        "delimiter": section.text("delimiter") or ",",
        **parse_common(section, rate_hz=None, boundary="rail"),
    }
    if len(options["delimiter"]) != 1:
        section.problem("delimiter", f"expected one character, got {options['delimiter']!r}")
    channels = []
    for name, table in section.tables("channels"):
        kind = table.text("kind", required=True, choices=KIND_NAMES)
        entry: dict[str, Any] = {"id": name, "kind": kind, "site": table.text("site") or name}
        entry["column"] = table.text("column", required=True)
        entry["scale"] = table.quantity("scale", "1")
        entry.update(parse_uncertainty(table))
        table.finish()
        channels.append(entry)
    if not channels and isinstance(section.data.get("channels", {}), dict):
        section.problem("channels", "is missing; expected a table for each channel, with `kind` and `column`")
    return {**options, "channels": tuple(channels)}


def read_columns(
    path: Path,
    time_column: str,
    time_unit: str,
    columns: Sequence[str],
    *,
    delimiter: str = ",",
    where: str = "",
) -> tuple[Times, dict[str, Values], tuple[str, ...]]:
    """Return the times in ns (n,), each column (n,) with NaN where a cell is empty, and what was wrong with
    rows.

    A row with too few or too many cells is left out and told, as is a last line without its end: in a file
    that is still being written its last number may be cut. Raises ConfigError for a column that isn't there,
    DataError for a cell that is no number or a file without rows.
    """
    where = where or str(path)
    bad: list[str] = []
    table, cut = _read_table(path, time_column, time_unit, columns, delimiter, where, bad)
    if table.num_rows == 0:
        raise DataError(f"{path.name} holds no sample.", where=where)
    times = _to_ns(table.column(time_column), time_unit, path, where)
    values = {name: table.column(name).to_numpy().astype(np.float64, copy=False) for name in columns}
    errors = [f"{path.name}: {len(bad)} rows left out: {'; '.join(bad[:_ROWS_SHOWN])}"] if bad else []
    if cut:
        errors.append(f"{path.name}: its last line has no end and is left out: {cut!r}")
    return times, values, tuple(errors)


def _read_table(
    path: Path,
    time_column: str,
    time_unit: str,
    columns: Sequence[str],
    delimiter: str,
    where: str,
    bad: list[str],
) -> tuple[Any, str]:
    """Return the columns as a table, and a last line that has no end; rows left out go into `bad`."""
    import pyarrow as pa
    from pyarrow import csv

    header_row = _find_header(path, where)
    whole, cut = _whole_lines(path)

    def note(row: Any) -> str:
        bad.append(f"{row.actual_columns} cells, expected {row.expected_columns}: {row.text[:60]!r}")
        return "skip"

    wanted = list(dict.fromkeys((time_column, *columns)))
    types = {name: pa.float64() for name in wanted}
    if time_unit == ISO:
        types[time_column] = pa.string()
    try:
        table = csv.read_csv(
            whole,
            read_options=csv.ReadOptions(skip_rows=header_row),
            parse_options=csv.ParseOptions(delimiter=delimiter, invalid_row_handler=note),
            convert_options=csv.ConvertOptions(
                include_columns=wanted, column_types=types, null_values=["", "NaN", "nan", "NA"]
            ),
        )
    except (KeyError, pa.ArrowKeyError) as error:
        raise _no_column(path, header_row, delimiter, wanted, where, error) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name} can't be read: {error}.", where=where) from error
    return table, cut


def _whole_lines(path: Path) -> tuple[Any, str]:
    """Return what reads the file up to its last line break, and what stands after that."""
    import pyarrow as pa

    if path.suffix in _PACKED:
        return path, ""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _MAX_LINE_BYTES))
        tail = file.read()
        rest = tail[tail.rfind(b"\n") + 1 :]
        if not rest or b"\n" not in tail:
            return path, ""
        # read, not mapped: a file that its writer cuts would take this process with it (SIGBUS)
        file.seek(0)
        whole = file.read(max(0, size - _MAX_LINE_BYTES) + len(tail) - len(rest))
    return pa.BufferReader(whole), rest[:60].decode("utf-8", "replace")


def _find_header(path: Path, where: str) -> int:
    """Return how many lines come before the header. Raises ConfigError where the file can't be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path.name} is larger than {MAX_BYTES >> 30} GiB.", where=where)
        with path.open("rb") as file:
            skipped = 0
            while file.readline(1 << 16).startswith(b"#"):
                skipped += 1
    except OSError as error:
        raise ConfigError(
            f"{path} can't be read: {error.strerror}.",
            where=where,
            next_step="Let the meter's software write it there, or correct `path`.",
        ) from error
    return skipped


def _no_column(
    path: Path, header_row: int, delimiter: str, wanted: Sequence[str], where: str, error: Exception
) -> ConfigError:
    with path.open(encoding="utf-8", errors="replace") as file:
        for _ in range(header_row):
            file.readline()
        there = [name.strip().strip('"') for name in file.readline().rstrip("\r\n").split(delimiter)]
    missing = [name for name in wanted if name not in there]
    if not missing:
        return ConfigError(f"{path.name}: {error}.", where=where)
    hint = nearest(missing[0], there)
    return ConfigError(f"{path.name} has no column `{missing[0]}`{hint}.", where=where)


def _to_ns(column: Any, time_unit: str, path: Path, where: str) -> Times:
    if column.null_count:
        raise DataError(f"{path.name}: {column.null_count} rows have no time.", where=where)
    if time_unit != ISO:
        ns: Times = np.rint(column.to_numpy() * TIME_UNITS_NS[time_unit]).astype(np.int64)
        return ns
    try:
        return np.array([_iso_ns(text) for text in column.to_pylist()], np.int64)
    except ValueError as error:
        raise DataError(f"{path.name}: {error}; expected ISO 8601 times.", where=where) from error


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _iso_ns(text: str) -> int:
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:  # a meter without a zone: its times serve as differences alone
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1) * 1000


class CsvFile:
    """A file as an instrument: its samples are there once its meter has written them."""

    def __init__(self, spec: InstrumentSpec, context: Context) -> None:
        options = spec.options
        self.name = spec.name
        self._where = spec.where or spec.name
        self._path = Path(options["path"])
        self._options = options
        self._started: tuple[tuple[Channel, ...], float] | None = None
        self._columns: dict[str, tuple[str, float]] = {}
        channels = []
        for entry in options["channels"]:
            kind = ChannelKind(entry["kind"])
            boundary = options["boundary"] if kind in (ChannelKind.POWER_W, ChannelKind.CURRENT_A) else ""
            merged = {**options, **entry, "boundary": boundary}
            source = f"{self._path.name}: {entry['column']}"
            made = make_channel(
                merged, entry["id"], entry["site"], kind, source, mode=Mode.CONTINUOUS, clock="meter"
            )
            channels.append(made)
            self._columns[entry["id"]] = entry["column"], entry["scale"] or 1.0
        self._channels = tuple(channels)

    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        """Remember what is wanted. The file has the rate that its meter had: it must be at least
        `rate_hz`."""
        if self._started is not None:
            raise already_started(self.name)
        if not rate_hz > 0:
            raise ConfigError(f"expected a rate above 0 Hz, got {rate_hz:g}.", where=self.name)
        chosen = tuple(find_channel(self.name, self._channels, id_) for id_ in channel_ids)
        self._started = chosen, rate_hz

    def stop(self) -> tuple[Capture, ...]:
        if self._started is None:
            raise not_started(self.name)
        (chosen, rate_hz), self._started = self._started, None
        return self.ingest(chosen, rate_hz)

    def ingest(self, channels: Sequence[Channel], rate_hz: float | None = None) -> tuple[Capture, ...]:
        """Return all that the file holds of `channels`. `rate_hz` None: that of the file.

        Raises Unsupported where the file's own rate is lower than `rate_hz`, ConfigError and DataError as
        `read_columns` does.
        """
        names = [self._columns[channel.id][0] for channel in channels]
        t_ns, values, errors = read_columns(
            self._path,
            self._options["time_column"],
            self._options["time_unit"],
            names,
            delimiter=self._options["delimiter"],
            where=self._where,
        )
        own_hz = self._options["rate_hz"] or _median_rate_hz(t_ns)
        if rate_hz is not None and own_hz is not None and own_hz < rate_hz * 0.99:
            raise Unsupported(
                f"{self._path.name} was taken at {own_hz:.4g} Hz, {rate_hz:g} Hz were asked for.",
                where=self._where,
                next_step="Set the meter to a higher rate, or ask for less.",
            )
        captures = []
        for channel, name in zip(channels, names, strict=True):
            scaled = values[name] * self._columns[channel.id][1]
            health = compute_health(
                channel, t_ns, scaled, rate_hz=own_hz, stale_s=self._options["stale_after_s"], errors=errors
            )
            captures.append(Capture(channel, t_ns, scaled, health))
        return tuple(captures)

    def read(self, channel_id: str) -> Reading:
        """Return the file's last sample of a channel."""
        channel = find_channel(self.name, self._channels, channel_id)
        (capture,) = self.ingest([channel])
        value = float(capture.values[-1])
        if not math.isfinite(value):
            raise DataError(
                f"{self._path.name}: its last row has no number for `{channel_id}`.", where=self._where
            )
        return Reading(int(capture.t_ns[-1]), value)

    def close(self) -> None:
        self._started = None


def _median_rate_hz(t_ns: Times) -> float | None:
    """Return the rate that most neighbours keep; None where it can't be told."""
    if t_ns.size < 2:
        return None
    step_ns = float(np.median(np.diff(t_ns)))
    return 1e9 / step_ns if step_ns > 0 else None


KIND = InstrumentKind(parse=_parse, open=CsvFile)
