"""The series of a run as one Parquet table, exact to the bit.

One row per sample. `value` is a double for every tool that reads Parquet; whole numbers are kept in
`value_int` too, because a double is exact only up to 2**53 (a wall clock in ns is beyond it).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.errors import DataError, StoredRunError
from harness.model import Series

_REMEDY = "Restore the file or measure again."
# of one row group: a soak of 72 h at 1 s has ten million rows, which as one table take a gigabyte
_GROUP_ROWS = 1 << 20


def describe(series: Series) -> dict[str, Any]:
    """Return what run.json says of a series; with the table's rows it is the whole Series."""
    return {
        "name": series.name,
        "unit": series.unit,
        "clock": series.clock,
        "batch_size": series.batch_size,
        "arm": series.arm,
        "dtype": series.values.dtype.name,
        "count": int(series.values.shape[0]) if series.values.ndim else 0,
    }


def encode(all_series: Sequence[Series]) -> bytes:
    """Return all series as one Parquet file. Raises DataError for values that are no plain numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for series in all_series:
        _check(series)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, _schema(), compression="zstd") as writer:
        for group in _groups(all_series):
            writer.write_table(pa.concat_tables([_table(position, series) for position, series in group]))
    return sink.getvalue()


def _groups(all_series: Sequence[Series]) -> Iterator[list[tuple[int, Series]]]:
    """Yield the series with their positions, as many at once as a table of them is small in memory."""
    group: list[tuple[int, Series]] = []
    rows = 0
    for position, series in enumerate(all_series):
        if group and rows + series.values.size > _GROUP_ROWS:
            yield group
            group, rows = [], 0
        group.append((position, series))
        rows += series.values.size
    if group:
        yield group


def decode(data: bytes, descriptions: Any, *, where: str) -> tuple[Series, ...]:
    """Return the series of a Parquet file, in the order of `descriptions` (run.json's `series`).

    Raises StoredRunError where the table can't be read or disagrees with the descriptions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = [_described(i, item, where) for i, item in enumerate(descriptions)]
    try:
        # Arrow's own buffer and one thread: a pool of threads that read from a Python object can abort or
        # hang the interpreter at its exit (apache/arrow issues 34314, 50482), and the exit code is a verdict
        file = pq.ParquetFile(pa.BufferReader(data))
        names = file.schema_arrow.names
        missing = [n for n in _schema().names if n not in names and n != "block"]  # since version 2
        if missing:
            raise StoredRunError(f"lacks the column `{missing[0]}`", where=where, next_step=_REMEDY)
        parts = _read(file, [d.dtype for d in found], has_block="block" in names)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoredRunError(
            f"is not a whole Parquet file ({first})", where=where, next_step=_REMEDY
        ) from error
    return tuple(_one(one, part, where) for one, part in zip(found, parts, strict=True))


@dataclass(frozen=True)
class _Described:
    """What run.json says of a series."""

    name: str
    unit: str
    clock: str | None
    batch_size: int
    arm: str
    dtype: np.dtype[Any]
    count: int


def _described(position: int, item: Any, where: str) -> _Described:
    try:
        return _Described(
            name=str(item["name"]),
            unit=str(item["unit"]),
            clock=item["clock"],
            batch_size=int(item["batch_size"]),
            arm=str(item.get("arm", "")),
            dtype=np.dtype(item["dtype"]),
            count=int(item["count"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoredRunError(
            f"series {position} is described wrongly ({error})", where=where, next_step=_REMEDY
        ) from error


@dataclass
class _Rows:
    """What the table holds of one series, in pieces. A piece is None where a value of it is missing."""

    values: list[Any] = field(default_factory=list)
    process: list[Any] = field(default_factory=list)
    block: list[Any] = field(default_factory=list)


def _read(file: Any, dtypes: Sequence[np.dtype[Any]], *, has_block: bool) -> list[_Rows]:
    """Return the rows of each series, those of no series left out; one row group in memory at a time."""
    parts = [_Rows() for _ in dtypes]
    columns = ["series", "process", "value", "value_int", *(["block"] if has_block else [])]
    for number in range(file.num_row_groups):
        table = file.read_row_group(number, columns=columns, use_threads=False)
        which = table.column("series").to_numpy()
        ends = np.flatnonzero(np.append(np.diff(which) != 0, True)) + 1 if which.size else which
        for begin, end in zip([0, *ends[:-1]], ends, strict=False):
            position = int(which[begin])
            if not 0 <= position < len(parts):
                continue
            rows, dtype = table.slice(begin, end - begin), dtypes[position]
            # copies: a view of a few rows would keep its whole group
            parts[position].values.append(
                _whole(rows.column("value" if dtype.kind == "f" else "value_int"), dtype)
            )
            parts[position].process.append(_whole(rows.column("process"), np.int32))
            parts[position].block.append(_whole(rows.column("block"), np.int32) if has_block else None)
    return parts


def _whole(column: Any, dtype: Any) -> Any:
    """Return a column as an array of its own; None where a value of it is missing."""
    return None if column.null_count else column.to_numpy().astype(dtype)


def _one(one: _Described, rows: _Rows, where: str) -> Series:
    """Return the series that `rows` are of. Raises StoredRunError unless all are there."""
    size = sum(part.size for part in rows.process if part is not None)
    if size != one.count:
        raise StoredRunError(
            f"holds {size} samples of {one.name}, expected {one.count}", where=where, next_step=_REMEDY
        )
    if any(part is None for part in (*rows.values, *rows.process)):
        raise StoredRunError(f"lacks values of {one.name}", where=where, next_step=_REMEDY)
    has_block = bool(rows.block) and all(part is not None for part in rows.block)
    return Series(
        name=one.name,
        unit=one.unit,
        values=_joined(rows.values, one.dtype),
        process=_joined(rows.process, np.dtype(np.int32)),
        clock=one.clock,
        batch_size=one.batch_size,
        arm=one.arm,
        block=_joined(rows.block, np.dtype(np.int32)) if has_block else None,
    )


def _joined(parts: Sequence[Any], dtype: np.dtype[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def _check(series: Series) -> None:
    values, process = series.values, series.process
    if values.dtype.kind not in "fiub" or values.ndim != 1:
        raise DataError(
            f"values are {values.dtype} of shape {values.shape}, expected numbers of shape (n,)",
            where=f"series {series.name}",
            next_step="Store one number per sample.",
        )
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{values.max()} doesn't fit a signed 64-bit number", where=f"series {series.name}")
    if process.shape != values.shape:
        raise DataError(
            f"{values.size} values but process has shape {process.shape}",
            where=f"series {series.name}",
            next_step="Number the process of every sample.",
        )
    if series.block is not None and series.block.shape != values.shape:
        raise DataError(
            f"{values.size} values but block has shape {series.block.shape}",
            where=f"series {series.name}",
            next_step="Number the block of every sample, or of none.",
        )


def _table(position: int, series: Series) -> Any:
    import pyarrow as pa

    values, n = series.values, series.values.size
    text = pa.string()
    columns = [
        pa.repeat(pa.scalar(position, pa.int32()), n),
        pa.repeat(pa.scalar(series.name, text), n),
        pa.repeat(pa.scalar(series.unit, text), n),
        pa.array(series.process.astype(np.int32)),
        pa.repeat(pa.scalar(series.batch_size, pa.int32()), n),
        pa.repeat(pa.scalar(series.clock, text), n),
        pa.array(np.arange(n, dtype=np.int64)),
        pa.array(values.astype(np.float64)),
        pa.nulls(n, pa.int64()) if values.dtype.kind == "f" else pa.array(values.astype(np.int64)),
        pa.nulls(n, pa.int32()) if series.block is None else pa.array(series.block.astype(np.int32)),
    ]
    return pa.Table.from_arrays(columns, schema=_schema())


def _schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    return pa.schema(
        [
            ("series", pa.int32()),
            ("name", text),
            ("unit", text),
            ("process", pa.int32()),
            ("batch_size", pa.int32()),
            ("clock", text),
            ("index", pa.int64()),
            ("value", pa.float64()),
            ("value_int", pa.int64()),
            ("block", pa.int32()),
        ]
    )
