"""What a fit has measured so far: one file beside the calibrations, so that a fit that ended early goes on.

A piece is one network on one of the two boards, with all that its number depends on. It serves again only
where all of that is the same; a time of the real board also no longer than `MAX_AGE`. How a piece is measured
is `take`'s to know.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.store.atomic import make_folder, write_text

FORMAT = 1
REAL, EMULATED = "real", "emulated"
Clock = Callable[[], datetime.datetime]  # aware
# chosen: a day covers a night between two calls; a board that was opened or moved since is another one
MAX_AGE = datetime.timedelta(hours=24)


@dataclass(frozen=True)
class Piece:
    """One network on one board. `of` is what its number depends on, `values` are the numbers."""

    side: str  # REAL or EMULATED
    network: str
    taken_at: str  # ISO, UTC
    of: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def taken_on(self) -> datetime.date:
        return datetime.datetime.fromisoformat(self.taken_at).date()


class Pieces:
    """The pieces of one pair of boards. `path` is written anew, whole, with each piece that is added."""

    def __init__(self, path: Path, clock: Clock, kept: tuple[Piece, ...] = ()) -> None:
        self.path = path
        self._clock = clock
        self.added = 0
        self._kept = {(p.side, p.network): p for p in kept}

    def find(self, side: str, network: str, of: Mapping[str, Any]) -> tuple[Piece | None, str]:
        """Return the piece that still holds, or None and why the one that is there doesn't ("": there is
        none)."""
        piece = self._kept.get((side, network))
        if piece is None:
            return None, ""
        wanted = as_stored(of)
        changed = [key for key in {**wanted, **piece.of} if wanted.get(key) != piece.of.get(key)]
        if changed:
            return None, f"measured anew: another {', '.join(sorted(changed))} than {piece.taken_at}"
        age = self._clock() - datetime.datetime.fromisoformat(piece.taken_at)
        if side == REAL and not datetime.timedelta() <= age <= MAX_AGE:
            return None, f"measured anew: what is kept is of {piece.taken_at}"
        return piece, ""

    def make(self, side: str, network: str, of: Mapping[str, Any], values: Mapping[str, Any]) -> Piece:
        """Return a piece taken now, not kept yet."""
        taken_at = self._clock().isoformat(timespec="seconds")
        return Piece(side, network, taken_at, as_stored(of), as_stored(values))

    def add(self, piece: Piece) -> None:
        """Keep a piece. Raises HostSetupError where the disk refuses."""
        self._kept[piece.side, piece.network] = piece
        folder = self.path.parent
        make_folder(folder, then=elsewhere(folder))
        write_text(self.path, self._render(), then=elsewhere(folder))
        self.added += 1

    def _render(self) -> str:
        pieces = [
            {"side": p.side, "network": p.network, "taken_at": p.taken_at, "of": p.of, "values": p.values}
            for p in self._kept.values()
        ]
        return json.dumps({"schema_version": FORMAT, "pieces": pieces}, indent=1, sort_keys=True) + "\n"


def elsewhere(folder: Path) -> str:
    """Return what helps where the disk of `folder` refuses and nothing on it can go."""
    return f"Or move {folder} to a disk with room and leave a link in its place."


def as_stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON makes of `values`, so that what was read compares with what is at hand."""
    return dict(json.loads(json.dumps(values)))


def load_pieces(path: Path, clock: Clock) -> Pieces:
    """Return what `path` holds, nothing where it isn't there. Raises ConfigError for one that is broken."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Pieces(path, clock)
    except (OSError, ValueError) as error:
        raise broken(path, str(error)) from error
    if not isinstance(data, dict) or data.get("schema_version") != FORMAT:
        raise broken(path, f"schema_version: expected {FORMAT}")
    try:
        kept = tuple(Piece(**entry) for entry in data["pieces"])
        for piece in kept:
            _check(piece)
    except (KeyError, TypeError, ValueError) as error:
        raise broken(path, str(error)) from error
    return Pieces(path, clock, kept)


def _check(piece: Piece) -> None:
    """Raise ValueError for a piece whose fields are of another kind than they should be."""
    if piece.side not in (REAL, EMULATED):
        raise ValueError(f"{piece.network}: side: expected {REAL} or {EMULATED}, got {piece.side!r}")
    if not isinstance(piece.of, dict) or not isinstance(piece.values, dict):
        raise ValueError(f"{piece.network}: `of` and `values`: expected tables")
    if datetime.datetime.fromisoformat(piece.taken_at).tzinfo is None:
        raise ValueError(f"{piece.network}: taken_at: expected a time zone, got {piece.taken_at!r}")


def broken(path: Path, why: str) -> ConfigError:
    """Return the error for pieces that can't be read."""
    return ConfigError(
        f"what an earlier fit had measured can't be read: {why}.",
        where=str(path),
        next_step="Remove it, or give --anew: every network is then measured again.",
    )
