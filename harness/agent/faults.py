"""A failure that the agent answers with: a kind of the protocol, a message, details."""

from __future__ import annotations

import errno
from typing import Any, Dict

KINDS = (
    "bad_request",
    "model_rejected",
    "runtime_unavailable",
    "no_such_child",
    "child_died",
    "deadline",
    "no_space",
    "not_found",
    "checksum",
    "unsupported",
    "busy",
    "fenced",
    "internal",
)
_MESSAGE_CHARS = 2000


class Fault(Exception):
    """Becomes an `error` frame. `details` are JSON values."""

    def __init__(self, kind: str, message: str, **details: Any) -> None:
        assert kind in KINDS, kind
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.details = details

    def to_args(self) -> Dict[str, Any]:
        """Return the args of the `error` frame; an endless message is cut."""
        return {"kind": self.kind, "message": self.message[:_MESSAGE_CHARS], "details": self.details}


def to_fault(error: BaseException) -> Fault:
    """Return `error` as a Fault: a full disk is `no_space`, what is unknown `internal` with its place."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Fault("no_space", "no room left on the device: %s" % error)
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = "%s:%s" % (frames[-1].filename, frames[-1].lineno) if frames else "?"
    return Fault("internal", "%s: %s" % (type(error).__name__, error), place=place)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text that says something, or its type's name."""
    for line in str(error).splitlines():
        if line.strip():
            return line.strip()[:1000]
    return type(error).__name__
