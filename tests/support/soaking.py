"""A soak that any device can run: a json-lines command in place of a runtime, on the device's own Python."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from harness.connect.base import Connection
from harness.model import SoakTable
from support import soak_specs
from support.bench import LONG_S

S = 10**9
CALLS_PER_S = 10


def command_spec(
    connection: Connection, folder: str, tmp_path: Path, *, reboot: bool, duration_s: float = 3600.0
) -> dict[str, Any]:
    """Return the spec of a soak: windows of 250 ms, a call every 100 ms. Its files are pushed to `folder`."""
    script, model = f"{folder}/doubling.py", f"{folder}/model"
    (tmp_path / "model").write_bytes(b"no model")
    connection.push(Path(__file__).with_name("doubling_command.py"), script, timeout_s=LONG_S)
    connection.push(tmp_path / "model", model, timeout_s=LONG_S)
    options = {"argv": ["python3", "-I", "-S", script], "protocol": "json-lines"}
    variant = soak_specs.variant(name="doubling", model_path=model, options=options)
    return soak_specs.spec(
        id=f"20260102-030405-{secrets.token_hex(2)}",
        duration_ns=int(duration_s * S),
        window_ns=S // 4,
        slice_ns=S // 4,
        reserve_bytes=1 << 16,
        restart={"crash": True, "reboot": reboot, "max_per_h": 20},
        streams=[soak_specs.stream(variant, cycle={"kind": "every", "period_ns": S // CALLS_PER_S})],
    )


def check_calls(
    table: SoakTable, stream: str, begin_s: float, end_s: float, *, per_s: int = CALLS_PER_S
) -> None:
    """Check that of a soak's calls in a stretch of its time none failed, is missing or was made twice.

    A call may be late, and told with the window after its own: by no more than the stream says itself, and
    the longest window lasts. On a quiet host that is one window.
    """
    there = np.flatnonzero((table.end_s > begin_s) & (table.start_s < end_s))
    first, last = there[0], there[-1]
    near = slice(max(0, first - 1), last + 2)
    calls, errors, late_ns = (
        table.channels[f"{stream}/{kind}"][near] for kind in ("calls", "errors", "max_late_ns")
    )
    inside = slice(first - near.start, last + 1 - near.start)
    assert np.nansum(errors[inside]) == 0
    due = per_s * (table.end_s[last] - table.start_s[first])
    longest_s = float(np.max((table.end_s - table.start_s)[near]))
    behind = per_s * (float(np.nanmax(late_ns)) / S + longest_s) + 1
    assert abs(np.nansum(calls[inside]) - due) <= behind, (due, behind, calls)
