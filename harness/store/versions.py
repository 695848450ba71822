"""The store's schema version, and how documents of older versions become current ones.

Each format has an entry in docs/store-format.md, dated, and a fixture under tests/unit/store/fixtures/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.errors import StoredRunError

SCHEMA_VERSION = 2

Document = dict[str, Any]
# From version n to n + 1, for run.json and session.json. The reader applies them in turn.
# 1 → 2: comparisons, arms and blocks came; what was there stayed as it was.
RUN_UPGRADES: Mapping[int, Callable[[Document], Document]] = {1: lambda document: document}
SESSION_UPGRADES: Mapping[int, Callable[[Document], Document]] = {1: lambda document: document}


def upgraded(
    document: Document, upgrades: Mapping[int, Callable[[Document], Document]], *, where: str
) -> Document:
    """Return `document` in the current version. Raises StoredRunError for one that can't be read."""
    version = document.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise StoredRunError(
            f"schema_version is {version!r}, expected a whole number from 1 to {SCHEMA_VERSION}",
            where=where,
            next_step="Restore the file or measure again.",
        )
    if version > SCHEMA_VERSION:
        raise StoredRunError(
            f"schema_version is {version}; this harness reads 1 to {SCHEMA_VERSION}",
            where=where,
            next_step="Update the harness to the version that wrote it.",
        )
    while version < SCHEMA_VERSION:
        document = upgrades[version](document)
        version += 1
        document["schema_version"] = version
    return document
