"""An emulated board: a machine of `harness.emulation` and the SSH connection into it, as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.connect.base import Completed, Progress
from harness.connect.ssh import SshConnection
from harness.connect.ssh_process import SshProcess
from harness.emulation import Machine, Profile, build_image, has_snapshot, list_machines, start
from harness.emulation import find_machine as find_supervised_machine
from harness.errors import ConfigError, HarnessError, Unsupported, nearest
from harness.model import Device, SshAddress

CONNECT_TIMEOUT_S = 30.0  # chosen: key exchange takes 0.3 s there on an idle host, 3 s on a very busy one
StepProgress = Callable[[str, float], None]


def compute_address(machine: Machine, *, user: str | None = None) -> SshAddress:
    """Return how to reach a running machine; its host key is the image's, which is known."""
    return SshAddress(
        host="127.0.0.1",
        port=machine.ssh_port,
        user=user or machine.image.user,
        identity_path=machine.image.ssh_key_path,
        host_key=machine.image.host_public_key,
        connect_timeout_s=CONNECT_TIMEOUT_S,
    )


class QemuConnection:
    """The contract of `base.Connection`, into an emulated board.

    It ends a machine that it started. One that `harness devices up` started is used as it is, and stays.
    In the timing profile no keep-alives are sent, because each would run on the one core being measured:
    a QEMU that ends is noticed at once, a guest that hangs by the deadline of whoever waits.
    """

    def __init__(
        self, device: Device, machine: Machine, *, restored: str | None = None, owns_machine: bool = True
    ) -> None:
        self._device = device
        self._machine = machine
        self._owns_machine = owns_machine
        self.restored = restored  # the snapshot that it came from, None: the state right after boot
        self._ssh = self._connect()

    @classmethod
    def open(
        cls,
        device: Device,
        *,
        profile: str = Profile.FUNCTIONAL,
        snapshot: str | None = None,
        progress: StepProgress | None = None,
        extra_arguments: Sequence[str] = (),
    ) -> QemuConnection:
        """Return a connection into `device`: its supervised machine in this profile if one is up, else a
        new one, restored from `snapshot` where that exists (see `restored`), with QEMU's `extra_arguments`.

        Raises ConfigError, HostSetupError, or TransientError when the machine doesn't come up.
        """
        wanted = _parse_profile(profile, device.name)
        if device.qemu is None:
            raise ConfigError("it has no `qemu` table, so it can't be emulated.", where=device.name)
        machine = _find_supervised(device.name, wanted)
        if machine is not None:
            return cls(device, machine, owns_machine=False)
        image = build_image(device.qemu, progress)
        known = snapshot is not None and has_snapshot(image, wanted, snapshot, board=device.qemu)
        restored = snapshot if known else None
        machine = start(
            image,
            device.qemu,
            name=device.name,
            profile=wanted,
            snapshot=restored,
            progress=progress,
            extra_arguments=extra_arguments,
        )
        try:
            return cls(device, machine, restored=restored)
        except BaseException:
            machine.close()
            raise

    def save(self, key: str) -> None:
        """Save the machine's state under `key` for later `open(…, snapshot=key)`, then reconnect.

        Every process started here is ended first: a restored machine would hold dead connections. A
        supervised machine isn't saved: nobody knows what else was done on it.
        """
        if not self._owns_machine:
            return
        self._ssh.close()
        self._machine.sync()
        self._machine.save(key)
        self._ssh = self._connect()

    @property
    def machine(self) -> Machine:
        return self._machine

    @property
    def device_name(self) -> str:
        return self._device.name

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        return self._ssh.run(argv, timeout_s=timeout_s, stdin=stdin, env=env, check=check)

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> SshProcess:
        return self._ssh.start(argv, env=env)

    def push(self, source: Path, target: str, *, timeout_s: float, progress: Progress | None = None) -> None:
        self._ssh.push(source, target, timeout_s=timeout_s, progress=progress)

    def pull(self, source: str, target: Path, *, timeout_s: float, progress: Progress | None = None) -> None:
        self._ssh.pull(source, target, timeout_s=timeout_s, progress=progress)

    def home(self) -> str:
        return self._ssh.home()

    def quiet(self) -> contextlib.AbstractContextManager[None]:
        """Send no keep-alives inside the block; see `SshConnection.quiet`."""
        return self._ssh.quiet()

    @contextlib.contextmanager
    def sensing(self) -> Iterator[None]:
        """Run the board model inside the block: only then the board's sensors show power and temperature.

        It takes time from the core that is measured (docs/emulated-device.md tells how much), and throttles
        it past the trip point. Raises Unsupported where the device's type has no power model.
        """
        model, sensors = self._device.type.power_model, self._machine.sensors
        if model is None:
            raise Unsupported(
                f"the emulated board has no power and no heat: no table [types.{self._device.type.name}."
                "power_model].",
                where=self._device.name,
            )
        cores = self._device.type.cores or self._machine.board.smp
        sensors.start(model, cores=cores, time_scale=1 / self._device.type.thermal.emulated_scale)
        try:
            yield
        except BaseException:
            with contextlib.suppress(HarnessError):  # the first error tells more
                sensors.stop()
            raise
        sensors.stop()

    def close(self) -> None:
        """Close the SSH connection, and end the machine if it was started here."""
        try:
            self._ssh.close()
        finally:
            if self._owns_machine:
                self._machine.close()

    def _connect(self) -> SshConnection:
        return SshConnection(
            self._device.name,
            compute_address(self._machine),
            home=self._device.home,
            hermetic=True,
            keep_alive=self._machine.profile is not Profile.TIMING,
        )


def _parse_profile(text: str, where: str) -> Profile:
    try:
        return Profile(text)
    except ValueError:
        raise ConfigError(f"unknown profile `{text}`{nearest(text, list(Profile))}", where=where) from None


def _find_supervised(name: str, profile: Profile) -> Machine | None:
    """Return the machine that `harness devices up` keeps for this unit in this profile, if it runs."""
    for info in list_machines():
        if info.name == name and info.profile is profile and info.state == "running":
            return find_supervised_machine(name)
    return None
