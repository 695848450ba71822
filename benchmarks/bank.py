"""A bank of measurements on disk: each is written whole or not at all, so that a later call goes on.

One file a duet (.npz: its samples and what else a comparison reads), one a peer's process (.json).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.measure.duet_effects import Duet
from harness.measure.trials import KeptDuet
from harness.remote import DuetBlocks
from harness.remote.duet import DuetArm
from harness.store.atomic import write_bytes

ARRAYS = ("latency_ns", "start_ns", "block", "instructions")
T = TypeVar("T")


@dataclass(frozen=True)
class Around:
    """How busy the host was while something was measured. None: this kernel doesn't say."""

    pressure: float | None  # share of the time in which some task waited for a CPU (PSI)
    load1: float
    taken_at: str  # ISO 8601, UTC


def count(folder: Path, suffix: str) -> int:
    """Return how many measurements `folder` holds."""
    return sum(1 for _ in folder.glob(f"*{suffix}")) if folder.is_dir() else 0


def add(folder: Path, suffix: str, data: bytes) -> Path:
    """Append a measurement; return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(p.stem) for p in folder.glob(f"*{suffix}")), default=0)
    path = folder / f"{number:05d}{suffix}"
    write_bytes(path, data)
    return path


def load(folder: Path, suffix: str, decode: Callable[[bytes], T]) -> list[T]:
    """Return all that `folder` holds, oldest first."""
    return [decode(p.read_bytes()) for p in sorted(folder.glob(f"*{suffix}"))] if folder.is_dir() else []


def encode_duet(kept: KeptDuet, around: Around) -> bytes:
    blocks = kept.duet.blocks
    arrays: dict[str, Any] = {"order": blocks.order}
    arms: list[dict[str, Any]] = []
    for number, arm in enumerate(blocks.arms):
        report = dict(vars(arm))
        for name in ARRAYS:
            if (values := report.pop(name)) is not None:
                arrays[f"{name}_{number}"] = values
        arms.append({k: dict(v) if isinstance(v, Mapping) else v for k, v in report.items()})
    said = {k: v for k, v in vars(blocks).items() if k not in ("arms", "order")}
    meta = {
        "wall_s": kept.wall_s,
        "loaded_first": kept.duet.loaded_first,
        "load_ns": kept.duet.load_ns,
        "first_ns": kept.duet.first_ns,
        "blocks": said,
        "arms": arms,
        "around": asdict(around),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array(json.dumps(meta)), **arrays)
    return buffer.getvalue()


def decode_duet(data: bytes) -> tuple[KeptDuet, Around]:
    """Return what `encode_duet` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        meta = json.loads(str(stored["meta"]))
        arms = []
        for number, report in enumerate(meta["arms"]):
            arrays: dict[str, Any] = {name: stored.get(f"{name}_{number}") for name in ARRAYS}
            arms.append(DuetArm(**report, **arrays))
        blocks = DuetBlocks(arms=(arms[0], arms[1]), order=stored["order"], **meta["blocks"])
    duet = Duet(meta["loaded_first"], tuple(meta["load_ns"]), tuple(meta["first_ns"]), blocks)
    return KeptDuet(duet, meta["wall_s"]), Around(**meta["around"])
