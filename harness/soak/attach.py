"""Soaks that run already: found on their device, collected into a ledger, stopped. From any host."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import DataError, FencedError, TransientError, WireError, nearest
from harness.model import Device
from harness.remote.soak import SoakClient, SoakStatus
from harness.soak import machines
from harness.soak.collector import (
    Clock,
    Collector,
    CollectSettings,
    OnVisit,
    Reach,
    Visit,
    how_to_attach,
    is_gone,
    stop_soak,
    this_holder,
)
from harness.soak.fetch import OnRecords
from harness.soak.ledger import Ledger
from harness.soak.power import MachineSwitch, PowerSchedule
from harness.soak.reach import collect_settings, reach_for
from harness.soak.start import describe_device


def find_soaks(device: Device) -> tuple[SoakStatus, ...]:
    """Return the soaks that are on `device`, oldest first. Raises TransientError, DeviceError."""
    with reach_for(device, compressed=None)() as soaks:
        return soaks.list()


def ledger_from_device(device: Device, soak_id: str, root: Path) -> Ledger:
    """Return the ledger of a soak under `root`, made from the spec on its device where this host has none.

    Raises DataError, with the soaks there are, when the device has none of this id.
    """
    folder = root / soak_id
    if (folder / "spec.json").is_file():
        return Ledger.open(folder)
    with reach_for(device, compressed=None)() as soaks:
        return make_ledger(device, soaks, soak_id, root)


def make_ledger(device: Device, soaks: SoakClient, soak_id: str, root: Path) -> Ledger:
    """Return the ledger of a soak over an open connection, as `ledger_from_device` does."""
    there = [status.id for status in soaks.list()]
    if soak_id not in there:
        hint = nearest(soak_id, there) or "; no soak is"
        raise DataError(
            f"isn't on {device.name}{hint}{'' if hint.endswith('?') else '.'}",
            where=soak_id,
            next_step=f"harness soak list --device {device.name}",
        )
    return Ledger.create(root, soaks.spec(soak_id), describe_device(device))


def collect(
    device: Device,
    ledger: Ledger,
    *,
    on_visit: OnVisit | None = None,
    on_records: OnRecords | None = None,
    take_over: bool = False,
    clock: Clock | None = None,
) -> Visit:
    """Collect a soak until it has ended and all of it is here; return the last visit.

    `on_visit` is told of each visit and may return why the soak must end now; `on_records` gets new records
    as they come, in order. Ends the emulated machine that was started for the soak. Raises as Collector.run.
    """
    spec = ledger.read_spec()
    compressed = bool(spec.get("compressed"))
    reach = reach_for(device, compressed=compressed)
    power = _power_schedule(device, spec)
    if power is not None:
        power.recover(ledger, int(ledger.read_state().seen.get("t_ns", 0)))
    collector = Collector(
        reach,
        ledger,
        settings=collect_settings(compressed=compressed, duration_s=spec["duration_ns"] / 1e9),
        take_over=take_over,
        on_records=on_records,
        power=power,
        clock=clock,
    )
    visit = collector.run(on_visit)
    machines.forget_soak(device, ledger.soak_id)
    if visit.status.state == "ended" and not _others_run(reach, ledger.soak_id, device):
        machines.end_machine(device)
    return visit


@dataclass(frozen=True)
class Stopped:
    """What came of a stop. `ended` False: its runner goes on until its slice is over.

    `already`: it had ended before. `collector` is who collects it at this moment, and will judge it; "" where
    nobody does, and what it has spooled was brought here.
    """

    ended: bool
    already: bool = False
    collector: str = ""


def stop(device: Device, ledger: Ledger, reason: str, *, deadline_s: float = 60.0) -> Stopped:
    """End a soak on its device; return what came of it. Raises as a visit.

    A collector at work keeps it, and finds that it has ended. Where there is none, what was spooled is
    brought here.
    """
    compressed = bool(ledger.read_spec().get("compressed"))
    reach = reach_for(device, compressed=compressed)
    with reach() as soaks:
        status = soaks.status(ledger.soak_id)
        already = status.state == "ended"
        collector = _at_work(status, compressed=compressed)
        if collector and already:
            return Stopped(True, True, collector)
        if collector:
            with contextlib.suppress(FencedError):  # taken over this moment: then it is taken over here too
                token = int(status.collector["token"])
                ended = soaks.stop(ledger.soak_id, token, reason, deadline_s=deadline_s)
                return Stopped(ended, False, collector)
    return Stopped(stop_soak(reach, ledger, reason, deadline_s=deadline_s), already)


def _at_work(status: SoakStatus, *, compressed: bool) -> str:
    """Return who collects a soak at this moment, another than this process; "" where nobody is known to.

    The device's clock tells nothing of that in a compressed soak, whose emulated board is this host's.
    """
    holder = str(status.collector.get("holder") or "")
    seen_ns = status.collector.get("seen_age_ns")
    if not holder or holder == this_holder() or is_gone(holder) or not status.collector.get("token"):
        return ""
    lately = isinstance(seen_ns, int | float) and seen_ns < CollectSettings().lease_s * 1e9
    return holder if compressed or lately else ""


def _power_schedule(device: Device, spec: Mapping[str, Any]) -> PowerSchedule | None:
    """Return the power cycles that the soak's settings ask for; None without them."""
    settings = (spec.get("about") or {}).get("settings") or {}
    every_s = settings.get("power_cycle_every_s")
    if not every_s or device.kind != "qemu":
        return None
    switch = MachineSwitch(device, compressed=bool(spec.get("compressed")))
    return PowerSchedule(switch, round(float(every_s) * 1e9), int(spec["duration_ns"]))


def _others_run(reach: Reach, soak_id: str, device: Device) -> bool:
    """Return whether another soak still needs the emulated machine; in doubt it does: its lease ends it.

    One that has ended does where nobody has collected from it: what it has seen would go with the machine.
    """
    if device.kind != "qemu":
        return False
    try:
        with reach() as soaks:
            others = [s for s in soaks.list() if s.id != soak_id]
            return any(s.state in ("running", "dead") or not s.collector for s in others)
    except (TransientError, WireError):
        return True


__all__ = ["Stopped", "collect", "find_soaks", "how_to_attach", "ledger_from_device", "make_ledger", "stop"]
