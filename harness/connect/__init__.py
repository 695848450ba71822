"""Ways to a device: the table of connections by kind. Third parties add a kind by entry point."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from harness.connect.base import Connection
from harness.errors import ConfigError, nearest
from harness.model import Device

StepProgress = Callable[[str, float], None]  # (what is being done, its share from 0 to 1)
ENTRY_POINT_GROUP = "harness.connections"


def _open_local(device: Device, **_: Any) -> Connection:
    from harness.connect.local import LocalConnection

    return LocalConnection(device)


def _open_ssh(device: Device, **_: Any) -> Connection:
    from harness.connect.ssh import SshConnection  # paramiko takes 0.1 s to import

    if device.ssh is None:
        raise ConfigError("it has no `ssh` table, so it can't be reached.", where=device.name)
    return SshConnection(device.name, device.ssh, home=device.home)


def _open_qemu(device: Device, *, profile: str, progress: StepProgress | None) -> Connection:
    from harness.connect.qemu import QemuConnection

    return QemuConnection.open(device, profile=profile, progress=progress)


_OPENERS: dict[str, Callable[..., Connection]] = {
    "local": _open_local,
    "ssh": _open_ssh,
    "qemu": _open_qemu,
}


def connection_kinds() -> tuple[str, ...]:
    """Return every kind of connection there is, our own and those of entry points."""
    return tuple(sorted({*_OPENERS, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def open_connection(
    device: Device, *, profile: str = "functional", progress: StepProgress | None = None
) -> Connection:
    """Return an open connection to `device`. `profile` and `progress` matter to emulated boards only.

    An entry point of the group `harness.connections` names a callable of the same arguments. Raises
    ConfigError, HostKeyError, AuthenticationError or TransientError.
    """
    opener = _OPENERS.get(device.kind)
    if opener is None:
        found = entry_points(group=ENTRY_POINT_GROUP, name=device.kind)
        if not found:
            hint = nearest(device.kind, connection_kinds())
            raise ConfigError(f"unknown kind `{device.kind}`{hint}", where=device.name)
        opener = next(iter(found)).load()
    return opener(device, profile=profile, progress=progress)
