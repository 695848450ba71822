"""An open device: its connection, its agent and the runtime environments it holds.

`open_board` is the only place that knows what an emulated board needs beyond a connection: a profile, and
a snapshot in which the environments are installed already, so that each is pushed once per board image.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import connect, deploy, runtimes
from harness.connect.base import Connection
from harness.connect.qemu import QemuConnection
from harness.errors import RuntimeUnavailable, Unsupported
from harness.model import Device, DeviceFacts, Fidelity, RuntimeSpec
from harness.progress import Progress
from harness.remote import AgentClient, build_archive
from harness.runtimes import Environment, Platform, RuntimeDescriptor

NATIVE = "native"
FUNCTIONAL = "functional"
TIMING = "timing"

# what the image of harness/emulation is made of: Debian 12
EMULATED_PLATFORM = Platform("aarch64", "3.11", "2.36")

RuntimeRequest = tuple[RuntimeSpec, RuntimeDescriptor]


def profile_for(device: Device, wanted: str) -> str:
    """Return the profile `device` is opened in: only an emulated one has more than its own."""
    return wanted if device.kind == "qemu" else NATIVE


@dataclass
class Board:
    """An open device in one profile. Close it."""

    device: Device
    profile: str
    connection: Connection
    client: AgentClient
    facts: DeviceFacts
    platform: Platform
    governor: Mapping[str, Any] = field(default_factory=dict)  # asked, was, or why it couldn't be set

    @property
    def time_fidelity(self) -> Fidelity | None:
        """Return the fidelity of its clock; None where times mean nothing (functional emulation)."""
        return {NATIVE: Fidelity.MEASURED, TIMING: Fidelity.VIRTUAL}.get(self.profile)

    def conditions(self) -> dict[str, Any]:
        """Return the agent's readings of load, temperature, clocks … as they are now."""
        return dict(self.client.request("conditions").args)

    def install(self, env: Environment, progress: Progress) -> None:
        """Make sure the environment is on the device."""
        with progress.step(f"{self.device.name}: pushing {env.runtime}"):
            deploy.push_environment(self.connection, self.client, env, progress.bytes)

    def push_bytes(self, data: bytes, sha256: str) -> str:
        """Put bytes into the device's store; return their path there."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "object"
            path.write_bytes(data)
            deploy.push_object(self.connection, self.client, path, sha256, len(data))
        return str(self.client.request("store_path", {"sha256": sha256}).args["path"])

    def sensing(self) -> contextlib.AbstractContextManager[None]:
        """Have its sensors show power and temperature inside the block: an emulated board's do only there.

        Raises Unsupported for an emulated board without a power model.
        """
        if isinstance(self.connection, QemuConnection):
            return self.connection.sensing()
        return contextlib.nullcontext()

    def machine_file(self, name: str) -> Path | None:
        """Return a file of an emulated board's running machine; None where it isn't there."""
        if not isinstance(self.connection, QemuConnection):
            return None
        path = self.connection.machine.folder / name
        return path if path.is_file() else None

    def close(self) -> None:
        """Close the agent, then the connection (and with it an emulated machine)."""
        try:
            self.client.close()
        finally:
            self.connection.close()


def open_board(
    device: Device,
    profile: str,
    requests: Sequence[RuntimeRequest],
    progress: Progress,
    qemu_arguments: Sequence[str] = (),
) -> Board:
    """Open `device` with the environments of `requests` installed; an emulated one with `qemu_arguments`.

    Raises TransientError when it can't be reached, DeviceError when it answers with a failure,
    RuntimeUnavailable when a runtime has no build for it.
    """
    if device.kind == "qemu":
        return _open_emulated(device, profile, requests, progress, qemu_arguments)
    with progress.step(f"{device.name}: connecting"):
        connection = connect.open_connection(device)
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        board = _start_agent(device, profile, connection)
        undo.callback(board.client.close)
        for spec, found in requests:
            board.install(runtimes.environment(spec, found, board.platform, progress.say), progress)
        undo.pop_all()
    return board


def _open_emulated(
    device: Device,
    profile: str,
    requests: Sequence[RuntimeRequest],
    progress: Progress,
    qemu_arguments: Sequence[str],
) -> Board:
    envs, key = emulated_environments(requests, progress)
    with progress.step(f"{device.name}: starting ({profile})"):
        connection = QemuConnection.open(
            device,
            profile=profile,
            snapshot=key,
            progress=progress.share,
            extra_arguments=qemu_arguments,
        )
    with contextlib.ExitStack() as undo:
        undo.callback(lambda: connection.close())
        board = _start_agent(device, profile, connection)
        if envs and connection.restored != key:
            for env in envs:
                board.install(env, progress)
            # a snapshot with open connections would restore dead ones
            board.client.close()
            with progress.step(f"{device.name}: saving its state"):
                connection.save(key)
            board = _start_agent(device, profile, connection)
        undo.pop_all()
    return board


def emulated_environments(
    requests: Sequence[RuntimeRequest], progress: Progress
) -> tuple[list[Environment], str]:
    """Return the environments of `requests` for an emulated board, and the snapshot's key that holds them."""
    with progress.step("runtimes"):
        envs = [runtimes.environment(s, d, EMULATED_PLATFORM, progress.say) for s, d in requests]
    # the agent too: one that has to be pushed and unpacked anew costs each start two seconds
    held = [build_archive()[1], *sorted(e.sha256 for e in envs)]
    return envs, "envs-" + hashlib.sha256("\n".join(held).encode()).hexdigest()[:16]


def _start_agent(device: Device, profile: str, connection: Connection) -> Board:
    client = AgentClient.start(connection, python=device.type.python, timeout_s=device.timeout_s)
    hello = client.hello
    platform = Platform(
        str(hello["machine"]),
        ".".join(str(hello["python"]).split(".")[:2]),
        str(hello.get("libc") or "").removeprefix("glibc").strip(" -") or "0.0",
    )
    facts = dict(hello["facts"])
    if device.kind == "qemu" and platform != EMULATED_PLATFORM:
        client.close()
        raise RuntimeUnavailable(
            f"the emulated board is {platform}, expected {EMULATED_PLATFORM}.",
            where=device.name,
            next_step="Its image and EMULATED_PLATFORM in harness/board.py must change together.",
        )
    told = device_facts(device, profile, hello, facts)
    return Board(device, profile, connection, client, told, platform, _set_governor(device, client))


def _set_governor(device: Device, client: AgentClient) -> dict[str, Any]:
    """Set the governor that the device's entry asks for, until the agent ends; return what came of it.

    A device that can't is measured as it is: the envelope says what its governor was.
    """
    asked = device.governor or device.type.governor
    if asked is None:
        return {}
    try:
        return {"asked": asked, "was": client.request("set_governor", {"governor": asked}).args["was"]}
    except Unsupported as why:
        return {"asked": asked, "not_set": str(why)}


def device_facts(device: Device, profile: str, hello: Any, facts: dict[str, Any]) -> DeviceFacts:
    """Return what a run keeps of the device it ran on."""
    return DeviceFacts(
        name=device.name,
        type=device.type.name,
        kind=device.kind,
        serial=device.serial or facts.get("serial"),
        platform=f"linux-{hello['machine']}",
        details={
            **facts,
            "profile": profile,
            "python": hello["python"],
            "libc": hello.get("libc"),
            "agent_sha256": hello["agent_sha256"],
        },
    )
