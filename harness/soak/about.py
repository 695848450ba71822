"""What a soak's spec says of itself for the host: all that a stored run needs, wherever it is attached from.

It goes to the device with the spec and comes back with it: whoever attaches needs devices.toml alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.model import DeviceFacts, Fidelity, RecordedBaseline, SoakSettings, SoakStream
from harness.store.codec import from_plain, to_plain

VERSION = 1


@dataclass(frozen=True)
class About:
    """What the run of a soak says beside its windows. `model` and what follows it are of the main stream."""

    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    threads: int
    device: DeviceFacts
    fidelity: Fidelity  # of its times
    settings: SoakSettings
    streams: tuple[SoakStream, ...]
    started_at: str  # ISO 8601, UTC
    harness_version: str
    test: str = ""  # pytest's node id; "" for `harness soak start`
    command: tuple[str, ...] = ()
    run_settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    plan_path: str | None = None
    baseline: RecordedBaseline | None = None  # of a soak that is known to be good
    version: int = VERSION


def about_to_plain(about: About) -> dict[str, Any]:
    """Return the spec's `about`."""
    plain: dict[str, Any] = to_plain(about)
    return plain


def about_of(spec: Mapping[str, Any]) -> About:
    """Return what a spec says of itself. Raises StoredRunError where another version wrote it otherwise."""
    return from_plain(About, spec.get("about") or {}, where=f"soak {spec.get('id')}: about")
