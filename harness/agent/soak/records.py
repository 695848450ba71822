"""Records of a spool as lines: `<crc32 of the JSON, 8 hex digits> <JSON>` and a newline. No I/O here."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, Dict, Optional

# the first byte of a write that isn't whole yet; no line begins with it, as a CRC is hexadecimal
UNFINISHED = b"\0"
_MARK = re.compile(rb"^\0(?=[0-9a-f])", re.MULTILINE)  # a run of zeros is a damaged block instead


def encode_record(record: Dict[str, Any]) -> bytes:
    """Return a record's line, with its newline. Raises ValueError for NaN, infinity or what isn't JSON."""
    try:
        text = json.dumps(record, separators=(",", ":"), allow_nan=False)
    except TypeError as error:
        raise ValueError("a record holds what isn't JSON: %s" % error) from None
    data = text.encode("ascii")  # json escapes the rest
    return b"%08x %s\n" % (zlib.crc32(data), data)


def decode_line(line: bytes) -> Optional[Dict[str, Any]]:
    """Return the record of a line, with or without its newline; None if the line is damaged."""
    data = line[9:].rstrip(b"\n")
    if line[8:9] != b" " or line[:8] != b"%08x" % zlib.crc32(data):
        return None
    try:
        record = json.loads(data.decode("utf-8"))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def find_unfinished(data: bytes) -> int:
    """Return where in `data`, from a line on, an unfinished write begins; its length if none does."""
    found = _MARK.search(data)
    return found.start() if found else len(data)


def whole_lines(data: bytes) -> bytes:
    """Return `data` up to the end of its last line that is whole and stays.

    What follows a write that isn't finished may still be taken back, so it is left out.
    """
    end = data.rfind(b"\n") + 1
    return data[: min(end, find_unfinished(data))]
