"""Runs and sessions on disk: written whole or not at all, read back with every doubt stated.

`Store` writes and finds sessions, `read_session` and `read_run` read one folder, `update_latest` moves
`reports/latest`. What the numbers mean is the gate's job; how they look is the report's.
docs/store-format.md describes the files.
"""

from harness.store.atomic import write_bytes, write_text
from harness.store.reader import StoredSession, read_run, read_session
from harness.store.writer import SessionWriter, Store, update_latest

__all__ = [
    "SessionWriter",
    "Store",
    "StoredSession",
    "read_run",
    "read_session",
    "update_latest",
    "write_bytes",
    "write_text",
]
