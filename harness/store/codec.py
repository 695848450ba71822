"""Frozen records to plain JSON values and back, strictly.

The records' own type hints are the schema: a missing key without a default, an unknown key or a value of
another type is a StoredRunError that names file and key.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np

from harness.errors import DataError, StoredRunError, nearest

T = TypeVar("T")
_NOT_FINITE = ("nan", "inf", "-inf")
_REMEDY = "Restore the file or measure again."
_NEWER = "It may come from a newer harness: update, or measure again."


def to_plain(value: Any, *, where: str = "record") -> Any:
    """Return `value` as JSON's own types. Raises DataError for a type that has no plain form.

    A float that is not finite has no JSON form: it becomes the text `nan`, `inf` or `-inf`.
    """
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return to_plain(value.value, where=where)
    if isinstance(value, np.generic):
        return to_plain(value.item(), where=where)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return _container_to_plain(value, where)


def _container_to_plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(getattr(value, f.name), where=f"{where}.{f.name}")
            for f in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, where=f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist(), where=where)
    if isinstance(value, set | frozenset):
        return sorted(to_plain(item, where=where) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [to_plain(item, where=f"{where}[{i}]") for i, item in enumerate(value)]
    raise DataError(
        f"a {type(value).__name__} can't be stored",
        where=where,
        next_step="Store numbers, text, lists, mappings or None.",
    )


def dump_json(value: Any) -> bytes:
    """Return `value` (plain) as indented UTF-8 JSON with a final newline."""
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )


def load_json(data: bytes, *, where: str) -> dict[str, Any]:
    """Return the JSON object in `data`. Raises StoredRunError with line and column of the first fault."""
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise StoredRunError(
            f"is not UTF-8 text (byte {error.start})", where=where, next_step=_REMEDY
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise StoredRunError(f"is not JSON ({place})", where=where, next_step=_REMEDY) from error
    except RecursionError as error:
        raise StoredRunError("is nested too deeply", where=where, next_step=_REMEDY) from error
    if not isinstance(value, dict):
        raise StoredRunError(
            f"holds a JSON {type(value).__name__}, expected an object",
            where=where,
            next_step=_REMEDY,
        )
    return value


def from_plain(record: type[T], plain: Any, *, where: str) -> T:
    """Return the dataclass `record` that `plain` describes. Raises StoredRunError that names the key."""
    if not isinstance(plain, dict):
        raise _mismatch(where, record.__name__, plain)
    hints = typing.get_type_hints(record)
    unknown = sorted(set(plain) - set(hints))
    if unknown:
        raise StoredRunError(
            f"unknown key `{unknown[0]}`{nearest(unknown[0], hints)}", where=where, next_step=_NEWER
        )
    values: dict[str, Any] = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        if field.name in plain:
            values[field.name] = _decode(hints[field.name], plain[field.name], f"{where}: {field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise StoredRunError(f"key `{field.name}` is missing", where=where, next_step=_REMEDY)
    return record(**values)


def _decode(hint: Any, plain: Any, where: str) -> Any:
    if hint is Any:
        return plain
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if plain is None:
            return None
        (inner,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _decode(inner, plain, where)
    if origin is tuple:
        if not isinstance(plain, list):
            raise _mismatch(where, "a list", plain)
        inner = typing.get_args(hint)[0]
        return tuple(_decode(inner, item, f"{where}[{i}]") for i, item in enumerate(plain))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(plain, dict):
            raise _mismatch(where, "an object", plain)
        return dict(plain)
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast(type[Any], hint), plain, where=where)
    return _decode_scalar(hint, plain, where)


def _decode_scalar(hint: Any, plain: Any, where: str) -> Any:
    if issubclass(hint, Enum):
        try:
            return hint(plain)
        except ValueError:
            allowed = ", ".join(str(item.value) for item in hint)
            raise StoredRunError(f"{plain!r} is none of {allowed}", where=where, next_step=_NEWER) from None
    if hint is float and (plain in _NOT_FINITE or (isinstance(plain, int) and not isinstance(plain, bool))):
        return float(plain)
    if not isinstance(plain, hint) or (hint is not bool and isinstance(plain, bool)):
        raise _mismatch(where, hint.__name__, plain)
    return plain


def _mismatch(where: str, expected: str, plain: Any) -> StoredRunError:
    return StoredRunError(
        f"expected {expected}, found {type(plain).__name__}",
        where=where,
        next_step=_REMEDY,
    )
