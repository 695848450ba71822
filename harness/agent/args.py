"""Checked access to a request's args. Every misfit is a `bad_request` that names op, key and what came."""

from __future__ import annotations

import re
from typing import Any, Dict, List

from .faults import Fault

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MISSING = object()


class Args:
    """The args of one request. Read each key once, then call `done`."""

    def __init__(self, op: str, values: Dict[str, Any]) -> None:
        self._op = op
        self._values = values
        self._known: List[str] = []

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        value = self._values.get(name)
        if value is not None:
            return value
        if default is _MISSING:
            raise self._bad(name, "is missing")
        return default

    def _bad(self, name: str, text: str) -> Fault:
        return Fault("bad_request", "%s: `%s` %s" % (self._op, name, text))

    def text(self, name: str, default: Any = _MISSING) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise self._bad(name, "is %r, expected a text" % (value,))
        return value

    def name(self, name: str) -> str:
        """Return a text that is safe as one file name: no separator, no leading dot, at most 128 bytes."""
        value = self.text(name)
        bad = not value or value.startswith(".") or len(value.encode("utf-8")) > 128
        if bad or any(char in "/\\" or ord(char) < 32 or ord(char) == 127 for char in value):
            raise self._bad(name, "is %r, expected a plain file name of at most 128 bytes" % value)
        return value

    def sha256(self, name: str, default: Any = _MISSING) -> str:
        value = self.text(name, default)
        if value != default and not _SHA256.match(value):
            raise self._bad(name, "is %r, expected 64 lower-case hex digits" % value)
        return value

    def integer(self, name: str, default: Any = _MISSING, low: int = 0, high: int = 1 << 53) -> int:
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._bad(name, "is %r, expected a whole number from %d to %d" % (value, low, high))
        return value

    def number(self, name: str, default: Any = _MISSING, low: float = 0.0, high: float = 1e9) -> float:
        value = self._take(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
            raise self._bad(name, "is %r, expected a number from %g to %g" % (value, low, high))
        return float(value)

    def boolean(self, name: str, default: Any = _MISSING) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self._bad(name, "is %r, expected true or false" % (value,))
        return value

    def mapping(self, name: str, default: Any = _MISSING) -> Dict[str, Any]:
        value = self._take(name, default)
        if not isinstance(value, dict):
            raise self._bad(name, "is %r, expected an object" % (value,))
        return value

    def items(self, name: str, default: Any = _MISSING) -> List[Any]:
        value = self._take(name, default)
        if not isinstance(value, list):
            raise self._bad(name, "is %r, expected a list" % (value,))
        return value

    def integers(self, name: str, default: Any = _MISSING) -> List[int]:
        value = self.items(name, default)
        if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value):
            raise self._bad(name, "is %r, expected whole numbers of at least 0" % (value,))
        return value

    def done(self) -> None:
        """Raise a `bad_request` for keys that nobody read."""
        unknown = sorted(set(self._values) - set(self._known))
        if unknown:
            raise self._bad(unknown[0], "is unknown; valid: %s" % (", ".join(sorted(self._known)) or "none"))
