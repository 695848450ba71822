"""Which soak a command means, and what can be known of it: from this host's ledgers, and from its device."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import registry as registries
from harness import soaking
from harness.cli import soak_text
from harness.cli.options import load_registry, reports_dir, select_one
from harness.errors import ConfigError, DeviceError, HarnessError, UnknownDevice, nearest
from harness.model import Device
from harness.progress import Progress
from harness.remote.soak import SoakStatus
from harness.soak import attach as attaching
from harness.soak import machines
from harness.soak.conclude import conclude, stored_in
from harness.soak.glance import Contact, Glance, compute_glance, of_session
from harness.soak.ledger import Ledger, list_ledgers
from harness.soak.peek import peek_table
from harness.soak.reach import reach_for
from harness.soak.stored import read_stored
from harness.soak.table import read_table


@dataclass(frozen=True)
class Known:
    """A soak that a command is about. `ledger` None: it is on its device alone, as far as this host knows."""

    soak_id: str
    device: Device | None  # None: devices.toml doesn't have it any more
    device_name: str
    ledger: Ledger | None
    root: Path  # reports/soaks


# --- which one ------------------------------------------------------------------------------------


def find(args: argparse.Namespace) -> Known | None:
    """Return the soak that the arguments mean; None where none is named and there isn't exactly one.

    Raises ConfigError for an ID that nobody knows.
    """
    root = soaking.soaks_dir(reports_dir(args))
    ledgers = {ledger.soak_id: ledger for ledger in list_ledgers(root)}
    if args.id is not None and args.id in ledgers:
        return _of_ledger(args, ledgers[args.id], root)
    if args.device is not None:
        return _on_device(args, root, ledgers)
    if args.id is not None:
        raise ConfigError(
            f"no soak `{args.id}` is known here{_likely(args.id, ledgers)}",
            where=str(root),
            next_step="Say which device it is on: --device NAME.",
        )
    open_ones = [ledger for ledger in ledgers.values() if stored_in(ledger.folder) is None]
    return _of_ledger(args, open_ones[0], root) if len(open_ones) == 1 else None


def _likely(soak_id: str, ledgers: Mapping[str, Ledger]) -> str:
    """Return the end of a sentence about an unknown ID: which it may have been."""
    hint = nearest(soak_id, ledgers)
    return hint if hint.endswith("?") else f"{hint}."


def require(args: argparse.Namespace) -> Known:
    """Return the soak that the arguments mean. Raises ConfigError where that is none or several."""
    found = find(args)
    if found is None:
        root = soaking.soaks_dir(reports_dir(args))
        going = [ledger.soak_id for ledger in list_ledgers(root) if stored_in(ledger.folder) is None]
        what = f"which soak? Under way: {', '.join(going)}." if going else "no soak is under way here."
        raise ConfigError(what, where=str(root), next_step="Name its ID; `harness soak list` shows them all.")
    return found


def _of_ledger(args: argparse.Namespace, ledger: Ledger, root: Path) -> Known:
    name = str(ledger.read_device().get("device"))
    device: Device | None = None
    with contextlib.suppress(UnknownDevice):  # what is known here can be shown all the same
        device = registries.select(load_registry(args), args.device or name)[0]
    return Known(ledger.soak_id, device, name, ledger, root)


def _on_device(args: argparse.Namespace, root: Path, ledgers: Mapping[str, Ledger]) -> Known:
    """Return the soak with the ID on the device; without an ID the only one that it runs, or has."""
    device = select_one(args, args.device)
    there = attaching.find_soaks(device)
    if args.id is not None:
        there = tuple(status for status in there if status.id == args.id)
    going = [status for status in there if status.state != "ended"]
    chosen = there if len(there) == 1 else going
    if len(chosen) != 1:
        shown = ", ".join(f"{status.id} ({status.state})" for status in there) or "none"
        what = f"which soak? On it: {shown}." if args.id is None else f"no soak `{args.id}` is on it."
        raise ConfigError(what, where=device.name, next_step="`harness soak list --device NAME` shows them.")
    soak_id = chosen[0].id
    return Known(soak_id, device, device.name, ledgers.get(soak_id), root)


# --- how it stands --------------------------------------------------------------------------------


def look(known: Known) -> Glance:
    """Return how a soak stands: by its device's word where that can be reached, else by the ledger alone."""
    status: SoakStatus | None = None
    problem, spec, table = "", None, None
    whole = True
    ledger = known.ledger
    stored = stored_in(ledger.folder) if ledger else None
    try:
        if stored is None and known.device is not None:
            with reach_for(known.device, compressed=None)() as soaks:
                status = soaks.status(known.soak_id)
                spec = soaks.spec(known.soak_id)
                table, whole = peek_table(soaks, status, ledger)
        elif known.device is None and stored is None:
            problem = f"devices.toml has no `{known.device_name}`."
    except HarnessError as error:
        problem = str(error)
        if ledger is None:
            raise
    if table is None:
        assert ledger is not None
        return _by_ledger(ledger, stored, known.device_name, _contact(ledger, status, problem))
    assert spec is not None
    return compute_glance(
        table,
        spec,
        known.device_name,
        _contact(ledger, status, problem),
        whole=whole,
        alerts=soaking.alerts_on(table, spec),
    )


def _by_ledger(
    ledger: Ledger, stored: Path | None, device: str, contact: Contact, *, alerts: bool = True
) -> Glance:
    """Return how a soak stands by what this host has: its segments, or its session where those are gone."""
    spec = ledger.read_spec()
    gone = stored is not None and ledger.lacks_segments()
    kept = read_stored(stored, ledger.soak_id) if stored is not None and gone else None
    table = read_table(ledger.folder) if kept is None else kept[0]
    glance = compute_glance(
        table,
        spec,
        device,
        contact,
        alerts=soaking.alerts_on(table, spec) if alerts else (),
        stored="" if stored is None else str(stored),
        raw_gone=gone,
    )
    glance = replace(glance, ledger=str(ledger.folder))
    return glance if kept is None else of_session(glance, kept[1])


def _contact(ledger: Ledger | None, status: SoakStatus | None, problem: str) -> Contact:
    seen: Mapping[str, Any] = ledger.read_state().seen if ledger else {}
    at_ns = seen.get("at_realtime_ns")
    ago_s = max(0.0, time.time() - at_ns / 1e9) if isinstance(at_ns, int) else None
    if status is not None:
        return Contact(0.0, ago_s, status.raw)
    lost = ledger is not None and _is_lost(ledger)
    return Contact(ago_s, ago_s, seen, problem, lost)


def _is_lost(ledger: Ledger) -> bool:
    """Return whether a soak was on an emulated machine that isn't up any more."""
    about = ledger.read_device()
    return about.get("kind") == "qemu" and machines.is_gone(str(about.get("device")))


def look_at_all(args: argparse.Namespace) -> tuple[list[Glance], HarnessError | None]:
    """Return each soak known here by its ledger alone, and those on the device that is named.

    Where that can't be asked the error says why, and what is known here is returned all the same. Raises
    ConfigError for a device that isn't in devices.toml.
    """
    root = soaking.soaks_dir(reports_dir(args))
    here = {ledger.soak_id: ledger for ledger in list_ledgers(root)}
    device = select_one(args, args.device) if args.device else None
    asked: set[str] = set()
    problem: HarnessError | None = None
    if device is not None:
        try:
            asked = {status.id for status in attaching.find_soaks(device)}
        except HarnessError as error:
            problem = error
    found = []
    for soak_id in sorted({*here, *asked}):
        ledger = here.get(soak_id)
        if soak_id in asked:
            found.append(look(Known(soak_id, device, device.name if device else "", ledger, root)))
        elif ledger is not None:
            name = str(ledger.read_device().get("device"))
            contact = _contact(ledger, None, "")
            found.append(_by_ledger(ledger, stored_in(ledger.folder), name, contact, alerts=False))
    return found, problem


# --- collecting and stopping ----------------------------------------------------------------------


def attach(known: Known, reports: Path, folder: Path | None, *, take_over: bool) -> int:
    """Collect until the soak has ended, store and render it; return the verdict's exit code."""
    ledger = ledger_of(known)
    progress = Progress(sys.stderr)
    device = None
    # one whose end is here needs its device no more, and an emulated one has none then
    whole = _is_lost(ledger) and read_table(ledger.folder).ended is not None
    if stored_in(ledger.folder) is None and not whole:
        device = _device(known)
        try:
            with progress.step(f"soak {ledger.soak_id}"):
                soaking.follow(device, ledger, progress, take_over=take_over)
        except KeyboardInterrupt:
            sys.stderr.write(f"{attaching.how_to_attach(ledger.soak_id)}\n")
            raise
    done = conclude(ledger, reports, folder)
    sys.stdout.write(soak_text.concluded(ledger.soak_id, done))
    left = soaking.clean_up(device, ledger) if device else ""
    if left:
        sys.stderr.write(f"harness: {ledger.soak_id} is stored; {left}\n")
    return done.exit_code


def stored(known: Known) -> Path | None:
    """Return the session that a soak is stored in, None while it isn't."""
    return stored_in(known.ledger.folder) if known.ledger else None


def stop(known: Known, reason: str) -> attaching.Stopped:
    """End a soak on its device; return what came of it.

    Raises DeviceError where its runner doesn't end in time.
    """
    device, ledger = _device(known), ledger_of(known)
    done = attaching.stop(device, ledger, reason)
    if not done.ended:
        raise DeviceError(
            "its runner hasn't ended yet; it does after its slice.",
            where=known.soak_id,
            next_step=f"Look again: harness soak status {known.soak_id}",
        )
    return done


def ledger_of(known: Known) -> Ledger:
    """Return this host's ledger of a soak, made from the device's spec where there is none yet."""
    if known.ledger is not None:
        return known.ledger
    return attaching.ledger_from_device(_device(known), known.soak_id, known.root)


def _device(known: Known) -> Device:
    if known.device is None:
        raise ConfigError(
            f"devices.toml has no `{known.device_name}`, which it runs on.",
            where=known.soak_id,
            next_step="Name the unit that it is called there now: --device NAME.",
        )
    return known.device
