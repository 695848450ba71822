"""A soak's spec from prepared models and settings, and its start on the device."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.agent import wire
from harness.board import Board
from harness.errors import ConfigError, Unsupported
from harness.instruments.onboard import declared_chips
from harness.measure.bench import Bench
from harness.model import Device, SoakLoad, SoakSettings
from harness.remote.soak import SoakClient
from harness.soak.cycles import parse_cycle
from harness.soak.ledger import Ledger
from harness.soak.unseen import SILENT

SPEC_VERSION = 1
RESERVE_BYTES = 1 << 20
MAX_RESTARTS_PER_H = 20


@dataclass(frozen=True)
class StreamPlan:
    """One stream of a soak: a model and, where it switches under load, its lighter variants, by one cycle.

    `benches` are ordered from accurate to light. `cycle` as harness/soak/cycles.py reads it.
    """

    name: str
    benches: tuple[Bench, ...]
    cycle: str
    load: SoakLoad = field(default_factory=SoakLoad)
    folder: Path | None = None  # where a trace's file is looked for


@dataclass(frozen=True)
class Started:
    """A soak that runs. `boot_hook`: how its runner comes back after a reboot; None: by a collector alone."""

    soak_id: str
    ledger: Ledger
    boot_hook: str | None


def new_soak_id(now: datetime | None = None) -> str:
    """Return a new soak's id: the UTC time, and four digits by chance."""
    return f"{(now or datetime.now(UTC)):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def build_spec(
    soak_id: str,
    streams: Sequence[StreamPlan],
    settings: SoakSettings,
    *,
    channels: Sequence[Mapping[str, Any]] = (),
    i2c: Sequence[Mapping[str, Any]] = (),
    pinned_cpus: Sequence[int] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the spec of a soak (docs/soak-format.md). Raises ConfigError where it can't be one.

    `channels` are read once a window, as the op `channels` tells them; `about` travels along unread.
    """
    if settings.duration_s is None:
        raise ConfigError("no duration is set.", where=soak_id, next_step="Say how long: --soak 72h.")
    window_s = settings.window_s
    if not 0 < window_s <= settings.duration_s:
        raise ConfigError(
            f"a window of {window_s:g} s doesn't fit into {settings.duration_s:g} s.",
            where=soak_id,
            next_step="Soak for at least one window.",
        )
    slice_s = window_s if settings.compressed else min(settings.slice_s, window_s)
    spec: dict[str, Any] = {
        "version": SPEC_VERSION,
        "id": soak_id,
        "duration_ns": round(settings.duration_s * 1e9),
        "window_ns": round(window_s * 1e9),
        "slice_ns": round(slice_s * 1e9),
        "compressed": settings.compressed,
        "max_spool_bytes": settings.max_spool_bytes,
        "reserve_bytes": RESERVE_BYTES,
        "restart": {
            "crash": settings.restart_after_crash,
            "reboot": settings.restart_after_reboot,
            "max_per_h": MAX_RESTARTS_PER_H,
        },
        "streams": [_stream(plan) for plan in streams],
        "channels": [{key: str(channel[key]) for key in ("id", "kind", "unit")} for channel in channels],
        "i2c": [dict(chip) for chip in i2c],
        "pinned_cpus": list(pinned_cpus),
        "about": dict(about or {}),
    }
    size = len(json.dumps(spec))
    if size > wire.MAX_HEADER_BYTES - 1024:  # the rest of the message
        raise ConfigError(
            f"its spec has {size} bytes, at most {wire.MAX_HEADER_BYTES - 1024} fit into one message.",
            where=soak_id,
            next_step="Give shorter traces.",
        )
    return spec


def start_soak(
    board: Board,
    streams: Sequence[StreamPlan],
    settings: SoakSettings,
    *,
    root: Path,
    soak_id: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Started:
    """Start a soak on an open board; return it with its ledger under `root` (reports/soaks).

    It runs without us from then on. The device's spec is written first: whatever happens to this process
    then, `attach` finds the soak there. Raises ConfigError, DeviceError, TransientError.
    """
    device = board.device
    if settings.power_cycle_every_s is not None and device.kind != "qemu":
        raise Unsupported(
            "its power can't be switched from here, so it can't be cycled on a schedule.",
            where=device.name,
            next_step="Leave out soak.power_cycle_every_s for it.",
        )
    chips = declared_chips(device.instruments)
    channels, silent = ((), {}) if settings.compressed else _channels(board, chips)
    if about is not None and silent:
        about = {**about, "run_settings": {**about.get("run_settings", {}), SILENT: silent}}
    _leave_governor(board)
    spec = build_spec(
        soak_id or new_soak_id(),
        streams,
        settings,
        channels=channels,
        i2c=chips,
        pinned_cpus=device.pinned_cpus,
        about=about,
    )
    answer = SoakClient(board.client).start(spec)
    ledger = Ledger.create(root, spec, describe_device(device))
    hook = answer.get("boot_hook")
    return Started(str(spec["id"]), ledger, None if hook is None else str(hook))


def describe_device(device: Device) -> dict[str, Any]:
    """Return what device.json of a ledger says: which unit, and how it is reached."""
    address = device.ssh
    reached = f"{address.user or ''}@{address.host}:{address.port}".lstrip("@") if address else device.kind
    return {
        "device": device.name,
        "type": device.type.name,
        "kind": device.kind,
        "serial": device.serial,
        "reached": reached,
        "home": device.home,
    }


def _channels(
    board: Board, chips: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, str]]:
    """Return the sensors that answer on the board now, and of the others why they don't.

    A compressed soak reads none: idle time would fly past the deadlines of their bus.
    """
    found = board.client.request("channels", {"i2c": [dict(chip) for chip in chips]}).args
    return list(found["channels"]), {str(k): str(v) for k, v in (found.get("silent") or {}).items()}


def _leave_governor(board: Board) -> None:
    """Put back the governor that this connection has set, so that the soak begins under the board's own.

    Where CPUs had several, the agent puts them back at its end, moments later.
    """
    was = set((board.governor.get("was") or {}).values())
    if len(was) == 1:
        board.client.request("set_governor", {"governor": was.pop()})


def _stream(plan: StreamPlan) -> dict[str, Any]:
    where = f"soak, stream {plan.name}"
    variants = [_variant(bench) for bench in plan.benches]
    names = [variant["name"] for variant in variants]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"its variants are {names}; expected one or more, each of them once.", where=where)
    load = plan.load
    switch = None
    if len(variants) > 1:
        switch = {
            "above": load.switch_above,
            "below": load.switch_below,
            "hold_windows": load.hold_windows,
        }
    cycle = parse_cycle(plan.cycle, where=where, folder=plan.folder)
    return {"name": plan.name, "cycle": cycle, "variants": variants, "switch": switch}


def _variant(bench: Bench) -> dict[str, Any]:
    return {
        "name": bench.case.name,
        "model_path": bench.deployed.path,
        "env": bench.env.sha256,
        "adapter": bench.env.adapter,
        "options": bench.options(),
        # a command may make its own inputs
        "npz_path": bench.inputs_path if bench.signature.inputs else "",
        "threads": bench.threads,
        "env_vars": {},
        "cgroup": {},
    }
