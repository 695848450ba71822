"""What a device is asked to do in a soak: a whole spec of one stream, as docs/soak-format.md has it."""

from __future__ import annotations

from typing import Any

S = 10**9


def variant(**changes: Any) -> dict[str, Any]:
    """Return a variant that needs no runtime."""
    return {
        "name": "m",
        "model_path": "/dev/null",
        "env": "",
        "adapter": "command",
        "options": {},
        "npz_path": "",
        "threads": 1,
        "env_vars": {},
        "cgroup": {},
        **changes,
    }


def stream(*variants: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the stream `main`, a closed loop, of these variants (default: one)."""
    cycle = {"kind": "closed"}
    made = {"name": "main", "cycle": cycle, "variants": list(variants) or [variant()], "switch": None}
    return {**made, **changes}


def spec(**changes: Any) -> dict[str, Any]:
    """Return an hour of windows of 1 s."""
    return {
        "version": 1,
        "id": "20250101-000000-abcd",
        "duration_ns": 3600 * S,
        "window_ns": S,
        "slice_ns": S,
        "compressed": False,
        "max_spool_bytes": 64 << 20,
        "reserve_bytes": 0,
        "restart": {"crash": True, "reboot": True, "max_per_h": 20},
        "python": "",
        "agent": "",
        "streams": [stream()],
        "channels": [],
        "i2c": [],
        "pinned_cpus": [],
        "about": {},
        **changes,
    }
