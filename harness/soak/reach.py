"""One visit's way to a device: connection and agent for as long as it lasts. Emulated ones pace their time.

In a compressed soak the emulated board's busy loop stands still between visits, so that its idle time flies;
for a visit it runs, because SSH's own waits would take hours of virtual time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from harness import connect
from harness.connect.base import Connection
from harness.connect.qemu import QemuConnection
from harness.emulation import Machine, Profile, find_machine
from harness.errors import ConnectionLost, DataError, HarnessError, UnknownDevice
from harness.model import Device
from harness.remote import AgentClient
from harness.remote.soak import SoakClient
from harness.soak import machines
from harness.soak.collector import CollectSettings, Reach

# A compressed soak's time runs a thousand times as fast: a lease in the device's time would be over between
# two visits. Another collector has to say that it takes over.
COMPRESSED_LEASE_S = 1e8
# A visit takes about one of the guest's seconds, six of wall time (measured, busy host). If this host is
# killed during one, idle time flies again after so many.
VISIT_AT_MOST_S = 10
# Chosen: a visit starts an agent, which keeps a core of the board busy for a moment, and the soak's latencies
# show it.
LONGEST_POLL_S = 60.0
COMPRESSED = CollectSettings(
    poll_s=15.0, longest_poll_s=30.0, lease_s=COMPRESSED_LEASE_S, stall_s=240.0, give_up_s=1800.0
)


def collect_settings(*, compressed: bool, duration_s: float = 86400.0) -> CollectSettings:
    """Return how often to visit, and how long to be patient: a soak of seconds is looked at more often."""
    if compressed:
        return COMPRESSED
    return replace(CollectSettings(), poll_s=min(LONGEST_POLL_S, max(1.0, duration_s / 40)))


def reach_for(device: Device, *, compressed: bool | None) -> Reach:
    """Return the way to `device`'s soaks. `compressed` None: not known, the device is asked.

    A visit raises TransientError when the device can't be reached, DataError when an emulated one has no
    supervised machine up (any more: its soak went with it).
    """

    @contextlib.contextmanager
    def visit() -> Iterator[SoakClient]:
        if device.kind != "qemu":
            with _agent(device, connect.open_connection(device)) as soaks:
                yield soaks
            return
        machine = _machine(device)
        if not machine.is_running():
            raise ConnectionLost("its machine is switched off.", where=device.name)
        machines.keep_alive(device.name)
        with (
            _paced(machine, compressed) as pace,
            _agent(device, QemuConnection(device, machine, owns_machine=False)) as soaks,
        ):
            if compressed is None:
                pace.flies = any_compressed(soaks)
            yield soaks

    return visit


def _machine(device: Device) -> Machine:
    try:
        return find_machine(device.name)
    except UnknownDevice as error:
        raise DataError(
            "its emulated machine isn't up, so that no soak is on it: one that is started for a soak ends "
            "with it, or when its lease runs out, and what wasn't collected goes with it.",
            where=device.name,
            next_step="`harness soak list` shows what is known here; one that is lost is forgotten once its "
            "folder in reports/soaks is removed.",
        ) from error


def any_compressed(soaks: SoakClient) -> bool:
    """Return whether a compressed soak runs there."""
    return any(s.state == "running" and soaks.spec(s.id).get("compressed") for s in soaks.list())


class _Pace:
    def __init__(self, flies: bool) -> None:
        self.flies = flies  # whether idle time is to fly after the visit


@contextlib.contextmanager
def _paced(machine: Machine, compressed: bool | None) -> Iterator[_Pace]:
    """Have virtual time pass as it does in a measurement for the block; after it, let idle time fly again."""
    pace = _Pace(bool(compressed))
    if machine.profile is not Profile.TIMING:
        yield pace
        return
    machine.set_spin(True, at_most_s=None if compressed is None else VISIT_AT_MOST_S)
    try:
        yield pace
    except BaseException as error:
        if pace.flies:
            try:
                machine.set_spin(False)
            except HarnessError as second:
                error.add_note(f"Idle time doesn't fly now: {second}")
        raise
    if pace.flies:
        machine.set_spin(False)


@contextlib.contextmanager
def _agent(device: Device, connection: Connection) -> Iterator[SoakClient]:
    try:
        with AgentClient.start(connection, python=device.type.python, timeout_s=device.timeout_s) as client:
            yield SoakClient(client)
    finally:
        connection.close()
