"""The series of a run as one Parquet table, exact to the bit.

One row per sample. `value` is a double for every tool that reads Parquet; whole numbers are kept in
`value_int` too, because a double is exact only up to 2**53 (a wall clock in ns is beyond it).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.errors import DataError, StoredRunError
from harness.model import Series

_REMEDY = "Restore the file or measure again."


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
    table = pa.concat_tables([_table(i, s) for i, s in enumerate(all_series)] or [_schema().empty_table()])
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode(data: bytes, descriptions: Any, *, where: str) -> tuple[Series, ...]:
    """Return the series of a Parquet file, in the order of `descriptions` (run.json's `series`).

    Raises StoredRunError where the table can't be read or disagrees with the descriptions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoredRunError(
            f"is not a whole Parquet file ({first})", where=where, next_step=_REMEDY
        ) from error
    missing = [n for n in _schema().names if n not in table.column_names and n != "block"]  # since version 2
    if missing:
        raise StoredRunError(f"lacks the column `{missing[0]}`", where=where, next_step=_REMEDY)
    which = table.column("series").to_numpy()
    return tuple(_one(table, which, i, item, where) for i, item in enumerate(descriptions))


def _one(table: Any, which: Any, position: int, item: Any, where: str) -> Series:
    try:
        name, count, dtype = str(item["name"]), int(item["count"]), np.dtype(item["dtype"])
        unit, clock, batch_size = str(item["unit"]), item["clock"], int(item["batch_size"])
        arm = str(item.get("arm", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise StoredRunError(
            f"series {position} is described wrongly ({error})", where=where, next_step=_REMEDY
        ) from error
    rows = np.flatnonzero(which == position)
    if rows.size != count:
        raise StoredRunError(
            f"holds {rows.size} samples of {name}, expected {count}", where=where, next_step=_REMEDY
        )
    part = table.take(rows)
    column = "value" if dtype.kind == "f" else "value_int"
    block = part.column("block") if "block" in part.column_names else None
    return Series(
        name=name,
        unit=unit,
        values=part.column(column).to_numpy().astype(dtype),
        process=part.column("process").to_numpy().astype(np.int32),
        clock=clock,
        batch_size=batch_size,
        arm=arm,
        block=None if block is None or block.null_count else block.to_numpy().astype(np.int32),
    )


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
