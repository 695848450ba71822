"""Artifacts and runtime environments onto a device: space, transfer, verification, activation.

The device's store (harness/agent/store.py) is content-addressed: a file becomes visible under its SHA-256
only after its bytes were verified there, and a model's name is switched to it in one atomic step. A cut
at any moment leaves the previous version active. What is there already is read and verified again before
it is used, because a disk may have changed it since; what was changed is removed there and sent anew.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.connect.base import Connection
from harness.errors import DeviceFull, WireError
from harness.model import Artifact
from harness.remote import AgentClient
from harness.runtimes import Environment
from harness.units import format_bytes

# room that stays free on the device's disk: chosen, for logs, samples and the operating system
HEADROOM_BYTES = 64 << 20
# an environment's tar is gzip: unpacked it takes up to this many times its size (measured: 2.7 to 3.1)
UNPACKED_RATIO = 4
# slowest link that is waited for: 256 KiB/s (chosen: a congested field link)
SLOWEST_BYTES_PER_S = 256 << 10

ByteProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Deployed:
    """An active artifact. `path` is on the device; `pushed` is False where its bytes were there already."""

    name: str
    path: str
    sha256: str
    pushed: bool
    previous_sha256: str | None


@dataclass(frozen=True)
class Version:
    """One version of a model on a device. `activated_at_ns` is the device's wall clock."""

    sha256: str
    activated_at_ns: int
    active: bool


def transfer_timeout_s(size_bytes: int) -> float:
    """Return the longest a transfer of `size_bytes` may take."""
    return 60.0 + size_bytes / SLOWEST_BYTES_PER_S


def deploy(
    connection: Connection, client: AgentClient, artifact: Artifact, progress: ByteProgress | None = None
) -> Deployed:
    """Put `artifact` on the device and make it the active version of its name.

    The device reads the object whole before the switch; one that it kept changed is sent once more.
    Raises DeviceFull before anything is sent, WireError where the bytes arrived, or were kept, changed.
    """
    unpacked_bytes = artifact.size_bytes if artifact.files else 0
    file = _File(artifact.path, artifact.sha256, artifact.size_bytes, unpacked_bytes)
    free_bytes, present = _look(client, file)
    pushed = not present
    if pushed:
        _send_object(connection, client, file, free_bytes, progress)
    try:
        switched = _activate(client, artifact)
    except WireError:
        free_bytes, present = _look(client, file)
        if present:  # not damage: the agent removes what is damaged
            raise
        _send_object(connection, client, file, free_bytes, progress)
        pushed = True
        switched = _activate(client, artifact)
    path = _path_there(client, artifact)
    return Deployed(artifact.name, path, artifact.sha256, pushed, switched.get("previous"))


def _path_there(client: AgentClient, artifact: Artifact) -> str:
    """Return where a runtime finds the model: the object, or the model's own file among those of a bundle."""
    asked: dict[str, Any] = {"sha256": artifact.sha256}
    if not artifact.files:
        return str(client.request("store_path", asked).args["path"])
    folder = client.request(
        "store_path",
        {**asked, "unpack": True},
        timeout_s=2 * transfer_timeout_s(artifact.size_bytes),  # it reads the object, and writes it
    ).args["path"]
    return posixpath.join(str(folder), artifact.files[0])


def push_object(
    connection: Connection,
    client: AgentClient,
    source: Path,
    sha256: str,
    size_bytes: int,
    progress: ByteProgress | None = None,
) -> bool:
    """Put a file into the device's store under its hash; return whether it had to be sent.

    One that is there is verified there, and sent anew where it was changed. Raises as `deploy` does.
    """
    file = _File(source, sha256, size_bytes)
    free_bytes, present = _look(client, file)
    if present:
        try:
            client.request("store_verify", {"sha256": sha256}, timeout_s=transfer_timeout_s(size_bytes))
            return False
        except WireError:
            free_bytes, present = _look(client, file)
            if present:  # not damage: the agent removes what is damaged
                raise
    _send_object(connection, client, file, free_bytes, progress)
    return True


@dataclass(frozen=True)
class _File:
    path: Path
    sha256: str
    size_bytes: int
    unpacked_bytes: int = 0  # of a bundle: the room that its files take beside it


def _look(client: AgentClient, file: _File) -> tuple[int, bool]:
    """Return the bytes free on the device, and whether it has the object (whole or not)."""
    status = client.request("store_status").args
    return int(status["free_bytes"]), any(o["sha256"] == file.sha256 for o in status["objects"])


def _activate(client: AgentClient, artifact: Artifact) -> Mapping[str, Any]:
    return client.request(
        "store_activate",
        {"name": artifact.name, "sha256": artifact.sha256, "suffix": Path(artifact.path).suffix},
        timeout_s=transfer_timeout_s(artifact.size_bytes),  # it reads the object
    ).args


def _send_object(
    connection: Connection,
    client: AgentClient,
    file: _File,
    free_bytes: int,
    progress: ByteProgress | None,
) -> None:
    needed_bytes = file.size_bytes + file.unpacked_bytes
    require_space(connection.device_name, free_bytes, needed_bytes, file.path.name)
    incoming = _send(connection, file.path, file.size_bytes, progress)
    client.request(
        "store_commit",
        {"incoming": incoming, "sha256": file.sha256, "size_bytes": file.size_bytes},
        timeout_s=transfer_timeout_s(file.size_bytes),
    )


def push_environment(
    connection: Connection, client: AgentClient, env: Environment, progress: ByteProgress | None = None
) -> bool:
    """Install a runtime environment on the device; return whether it had to be sent: it wasn't there, or
    files of it are missing or cut."""
    if env.sha256 in client.request("env_status", {"sha256": env.sha256}).args["envs"]:
        return False
    free = int(client.request("store_status").args["free_bytes"])
    require_space(connection.device_name, free, env.size_bytes * (1 + UNPACKED_RATIO), str(env.runtime))
    incoming = _send(connection, env.path, env.size_bytes, progress)
    client.request(
        "env_install",
        {"incoming": incoming, "sha256": env.sha256},
        timeout_s=2 * transfer_timeout_s(env.size_bytes * UNPACKED_RATIO),
    )
    return True


def require_space(device: str, free_bytes: int, needed_bytes: int, what: str) -> None:
    """Raise DeviceFull unless `needed_bytes` fit with HEADROOM_BYTES to spare."""
    if free_bytes < needed_bytes + HEADROOM_BYTES:
        raise DeviceFull(
            f"{what} needs {format_bytes(needed_bytes)} and {format_bytes(HEADROOM_BYTES)} must stay free, "
            f"but only {format_bytes(free_bytes)} are free on the device.",
            where=device,
            next_step=f"Free some: harness deploy gc {device}.",
        )


def versions(client: AgentClient, name: str) -> tuple[Version, ...]:
    """Return the versions of a model on the device, newest first."""
    found: Sequence[dict[str, Any]] = client.request("store_versions", {"name": name}).args["versions"]
    return tuple(Version(v["sha256"], int(v["activated_at_ns"]), bool(v["active"])) for v in found)


def roll_back(client: AgentClient, name: str) -> str:
    """Make the version before the active one active again; return its SHA-256."""
    return str(client.request("store_rollback", {"name": name}).args["sha256"])


def collect_garbage(
    client: AgentClient, *, keep_versions: int = 3, keep: Sequence[str] = ()
) -> tuple[tuple[str, ...], int]:
    """Remove what no name has used lately; return the removed hashes and the bytes freed."""
    reply = client.request("store_gc", {"keep_versions": keep_versions, "keep": list(keep)}).args
    return tuple(reply["removed"]), int(reply["freed_bytes"])


def _send(connection: Connection, source: Path, size_bytes: int, progress: ByteProgress | None) -> str:
    incoming = secrets.token_hex(12)
    target = posixpath.join(connection.home(), "incoming", incoming)
    connection.push(source, target, timeout_s=transfer_timeout_s(size_bytes), progress=progress)
    return incoming
