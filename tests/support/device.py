"""Devices for tests: this host, a board behind the sshd on loopback, an emulated board."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model import Device, DeviceType, QemuBoard
from support.sshd import Sshd

if TYPE_CHECKING:
    from harness.emulation import Image, Machine, Profile

HOST_TYPE = DeviceType("host", "this host")
BOARD_TYPE = DeviceType("rpi4", "Raspberry Pi 4 Model B, emulated", cores=4, ram_bytes=2 << 30)
MACHINE_NAME = "rpi4-test"


def local_device(home: Path) -> Device:
    """Return this host as a device that lives in `home`."""
    return Device("local-test", HOST_TYPE, "local", home=str(home))


def ssh_device(sshd: Sshd, home: Path) -> Device:
    """Return the board behind `sshd`, its host key pinned."""
    return Device("ssh-test", HOST_TYPE, "ssh", ssh=sshd.address(), home=str(home))


def emulated_device(name: str = MACHINE_NAME) -> Device:
    """Return a unit of the emulated Pi."""
    return Device(name, BOARD_TYPE, "qemu", qemu=QemuBoard())


@contextlib.contextmanager
def running_machine(name: str = MACHINE_NAME) -> Iterator[Machine]:
    """Yield a booted emulated Pi in the functional profile. The image is built on first use."""
    from harness.emulation import Profile, build_image, start

    image = build_image(QemuBoard())
    with start(image, image.board, name=name, profile=Profile.FUNCTIONAL) as machine:
        yield machine


def snapshot_entry(image: Image, profile: Profile, key: str) -> str:
    """Return the name of the cache's entry that holds the state `key`. Others' entries come and go."""
    from harness.cache import root
    from harness.emulation.snapshots import open_snapshot

    folder = open_snapshot(image, image.board, profile, key)  # resolved
    return str(folder.relative_to(root().resolve()))
