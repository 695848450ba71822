"""Ledgers of soaks that a test made up: whole, with all that a stored run needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.model import DeviceFacts, Fidelity, SoakSettings, SoakStream
from harness.soak.about import About, about_to_plain
from harness.soak.ledger import Ledger
from harness.soak.ledger_state import Held
from harness.soak.spool import Record
from support import soak_device, spools

ABOUT = About(
    model="door",
    artifact_sha256="c" * 64,
    runtime="onnxruntime",
    runtime_version="1.20.1",
    threads=1,
    device=DeviceFacts("rpi4-01", "rpi4", "ssh", "1000", "linux-aarch64", {"ram_bytes": 2 * 10**9}),
    fidelity=Fidelity.MEASURED,
    settings=SoakSettings(duration_s=10.0, warmup_s=0.0),
    streams=(SoakStream("main", "door", "closed", ("fp32",)),),
    started_at="2025-01-01T00:00:00.000+00:00",
    harness_version="0.1.0",
    command=("harness", "soak", "start"),
)


def make_ledger(
    root: Path,
    records: Sequence[Record] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Ledger:
    """Return a ledger under `root` that holds `records`, by default of ten windows of 1 s.

    `settings` are over ABOUT's, `changes` over ABOUT.
    """
    about = replace(ABOUT, settings=replace(ABOUT.settings, **(settings or {})), **changes)
    assert about.settings.duration_s is not None
    spec = soak_device.spec(
        about=about_to_plain(about),
        duration_ns=round(about.settings.duration_s * 1e9),
        window_ns=round(about.settings.window_s * 1e9),
    )
    ledger = Ledger.create(root, spec, {"device": about.device.name, "kind": "ssh"})
    ledger.adopt(1, "somebody")
    data = spools.lines(spools.short_soak() if records is None else records)
    ledger.append(1, 1, Held(), data, closed=True)
    return ledger
