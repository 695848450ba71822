"""What state.json of a ledger says: who collects, and how far each segment is held."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATE_VERSION = 1


@dataclass(frozen=True)
class Flaw:
    """A stretch of a held segment that is no record. `on`: whose copy, "device" or "host".

    `after_seq` and `t_ns` are of the last good record before it, 0 where there is none.
    """

    offset: int
    size_bytes: int
    why: str
    on: str = "device"
    after_seq: int = 0
    t_ns: int = 0


@dataclass(frozen=True)
class Held:
    """How far one segment is on the host. The first `size_bytes` of the file of this `revision` are good.

    A revision is one reading of a segment from its start; a later one is begun where the device's bytes or
    the host's have changed. `last_line` is where the last whole line begins. `closed`: the device adds
    nothing to it, and all of it is here.
    """

    revision: int = 0
    size_bytes: int = 0
    last_line: int = 0
    closed: bool = False
    flaws: tuple[Flaw, ...] = ()


@dataclass(frozen=True)
class State:
    """All of state.json. `seen`: the device's last soak_status, with `at_realtime_ns` (the host's)."""

    token: int = 0
    holder: str = ""
    segments: Mapping[int, Held] = field(default_factory=dict)
    old_flaws: Mapping[str, tuple[Flaw, ...]] = field(
        default_factory=dict
    )  # of revisions that gave way, by file
    seen: Mapping[str, Any] = field(default_factory=dict)


def encode_state(state: State) -> bytes:
    """Return the bytes of state.json."""
    segments = {
        str(number): {**vars(held), "flaws": [vars(flaw) for flaw in held.flaws]}
        for number, held in state.segments.items()
    }
    old = {name: [vars(flaw) for flaw in flaws] for name, flaws in state.old_flaws.items()}
    document = {
        "version": STATE_VERSION,
        "token": state.token,
        "holder": state.holder,
        "segments": segments,
        "old_flaws": old,
        "seen": dict(state.seen),
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode_state(data: bytes) -> State:
    """Return what `encode_state` wrote. Raises ValueError for anything else."""
    try:
        document = json.loads(data)
        if document["version"] != STATE_VERSION:
            raise ValueError(f"version {document['version']}, expected {STATE_VERSION}")
        segments = {
            int(number): Held(**{**held, "flaws": _flaws(held["flaws"])})
            for number, held in document["segments"].items()
        }
        old = {str(name): _flaws(flaws) for name, flaws in document["old_flaws"].items()}
        token, holder = int(document["token"]), str(document["holder"])
        return State(token, holder, segments, old, dict(document["seen"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not as it was written: {error}") from error


def _flaws(found: Any) -> tuple[Flaw, ...]:
    return tuple(Flaw(**flaw) for flaw in found)
