"""The emulated machine that a soak runs on: supervised, so that it outlives whoever started it."""

from __future__ import annotations

from collections.abc import Sequence

from harness import board as boards
from harness.board import RuntimeRequest
from harness.emulation import (
    Machine,
    MachineInfo,
    Profile,
    build_image,
    extend_lease,
    find_machine,
    has_snapshot,
    list_machines,
    start,
    stop_machine,
)
from harness.emulation.keeper import read_json, write_json
from harness.errors import ConfigError, DeviceBusy, HarnessError
from harness.model import Device
from harness.progress import Progress

# what a compressed soak is expected to gain on the wall clock at least: 72 h took 4 min (1000 times)
LEAST_SPEED = 100.0
MARGIN_S = 3600.0
RENEW_BELOW_S = 1800.0
_MARK = "soak.json"  # in the machine's folder: it was started for a soak, and ends with it
_NOTE = "soaking.json"  # there too: the soak that is on it, until it was collected to its end


def expected_lifetime_s(duration_s: float, *, compressed: bool) -> float:
    """Return for how long a machine is needed on the wall clock, with a margin."""
    return (duration_s / LEAST_SPEED if compressed else duration_s) + MARGIN_S


def ensure_machine(
    device: Device,
    profile: str,
    requests: Sequence[RuntimeRequest],
    *,
    lifetime_s: float,
    progress: Progress,
) -> bool:
    """Have a supervised machine up for an emulated unit; return whether it was started here.

    It holds the environments of `requests`. What isn't emulated is left alone. Raises ConfigError when one is
    up in another profile, else as `harness.emulation.start`.
    """
    if device.kind != "qemu" or device.qemu is None:
        return False
    wanted = Profile(profile)
    found = _info(device.name)
    if found is not None:
        if found.profile is not wanted or found.state != "running":
            raise ConfigError(
                f"its supervised machine is {found.state} in the profile {found.profile}; a soak needs it "
                f"running in {wanted}.",
                where=device.name,
                next_step=f"End it first: harness devices down {device.name}",
            )
        if found.seconds_left < lifetime_s:
            extend_lease(device.name, lifetime_s)
        return False
    envs, key = boards.emulated_environments(requests, progress)
    image = build_image(device.qemu, progress.share)
    if envs and not has_snapshot(image, wanted, key, board=device.qemu):
        boards.open_board(device, profile, requests, progress).close()  # it saves what it installed
    with progress.step(f"{device.name}: starting ({profile})"):
        machine = start(
            image,
            device.qemu,
            name=device.name,
            profile=wanted,
            snapshot=key if envs else None,
            progress=progress.share,
            supervised=True,
            lifetime_s=lifetime_s,
        )
    try:
        write_json(str(machine.folder / _MARK), {"for": "soak"})
    except BaseException:
        stop_machine(device.name)
        raise
    return True


def is_gone(name: str) -> bool:
    """Return whether an emulated unit has no machine up: a soak on it went with it, and with its disk."""
    return _info(name) is None


def note_soak(device: Device, soak_id: str) -> None:
    """Note on an emulated unit's machine that a soak is on it, for `require_no_soak`."""
    if device.kind == "qemu":
        write_json(str(find_machine(device.name).folder / _NOTE), {"id": soak_id})


def forget_soak(device: Device, soak_id: str) -> None:
    """Take the note of a soak back that is collected to its end. What isn't noted is left alone."""
    if device.kind == "qemu" and _info(device.name) is not None:
        path = find_machine(device.name).folder / _NOTE
        if read_json(str(path)).get("id") == soak_id:
            path.unlink(missing_ok=True)


def require_no_soak(device: Device, profile: str | None = None) -> None:
    """Raise DeviceBusy where a soak is on the machine that an emulated unit has up (in `profile`).

    By this host's own note: the machine isn't asked, as a compressed soak's time flies past any connection. A
    soak counts until it was collected, since its machine ends with that, whoever else works on it.
    """
    found = _info(device.name) if device.kind == "qemu" else None
    if found is None or profile not in (None, found.profile) or found.state != "running":
        return
    soak_id = read_json(str(find_machine(device.name).folder / _NOTE)).get("id")
    if soak_id is not None:
        raise DeviceBusy(
            f"soak {soak_id} is on its emulated machine, and isn't collected to its end yet.",
            where=device.name,
            next_step=f"Collect it: harness soak attach {soak_id} (harness soak stop {soak_id} ends it "
            f"early). Or give it up with all it has seen: harness devices down {device.name}",
        )


def let_fly(device: Device) -> None:
    """Have idle time of a compressed soak's emulated machine skipped from now on, as a visit leaves it."""
    if device.kind == "qemu":
        machine = find_machine(device.name)
        if machine.profile is Profile.TIMING:
            machine.set_spin(False)


def keep_alive(name: str) -> None:
    """Renew the lease of a machine that was started for a soak, where it would end within half an hour."""
    found = _info(name)
    if found is not None and found.seconds_left < RENEW_BELOW_S and _is_ours(find_machine(name)):
        extend_lease(name, MARGIN_S)


def end_machine(device: Device) -> bool:
    """End the machine of a soak that is over, if it was started for one; return whether it was.

    One that was up before goes on, its busy loop with it: its time is nobody's to skip any more.
    """
    if device.kind != "qemu" or _info(device.name) is None:
        return False
    machine = find_machine(device.name)
    if _is_ours(machine):
        stop_machine(device.name)
        return True
    if machine.profile is Profile.TIMING and machine.is_running():
        machine.set_spin(True)
    return False


def discard_machine(device: Device, error: BaseException) -> None:
    """End a machine that was started for a soak which then didn't start because of `error`."""
    try:
        end_machine(device)
    except HarnessError as second:
        error.add_note(f"Ending the machine of {device.name} failed too: {second}")


def _is_ours(machine: Machine) -> bool:
    return (machine.folder / _MARK).exists()


def _info(name: str) -> MachineInfo | None:
    return next((info for info in list_machines() if info.name == name), None)
