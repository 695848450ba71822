"""A soak that any device can run: a json-lines command in place of a runtime, on the device's own Python."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from harness.connect.base import Connection
from support import soak_specs

S = 10**9


def command_spec(
    connection: Connection, folder: str, tmp_path: Path, *, reboot: bool, duration_s: float = 3600.0
) -> dict[str, Any]:
    """Return the spec of a soak: windows of 250 ms, a call every 100 ms. Its files are pushed to `folder`."""
    script, model = f"{folder}/doubling.py", f"{folder}/model"
    (tmp_path / "model").write_bytes(b"no model")
    connection.push(Path(__file__).with_name("doubling_command.py"), script, timeout_s=60)
    connection.push(tmp_path / "model", model, timeout_s=60)
    options = {"argv": ["python3", "-I", "-S", script], "protocol": "json-lines"}
    variant = soak_specs.variant(name="doubling", model_path=model, options=options)
    return soak_specs.spec(
        id=f"20260102-030405-{secrets.token_hex(2)}",
        duration_ns=int(duration_s * S),
        window_ns=S // 4,
        slice_ns=S // 4,
        reserve_bytes=1 << 16,
        restart={"crash": True, "reboot": reboot, "max_per_h": 20},
        streams=[soak_specs.stream(variant, cycle={"kind": "every", "period_ns": S // 10})],
    )
