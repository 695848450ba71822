"""One connection of each kind, opened once, for tests that leave it usable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bench import LONG_S, Bench

from harness.connect.base import Connection
from harness.errors import HarnessError
from harness.model import Device

KINDS = ("local", "ssh", pytest.param("qemu", marks=pytest.mark.device))
OVER_SSH = ("ssh", pytest.param("qemu", marks=pytest.mark.device))


@pytest.fixture(scope="module", autouse=True)
def _no_ssh_setup_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the ssh-agent and ~/.ssh of whoever runs the tests out of them."""
    caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("XDG_CACHE_HOME", caches)  # the built image stays where it is
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        yield


@pytest.fixture(scope="module", params=KINDS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    yield from _bench(request)


@pytest.fixture(scope="module", params=OVER_SSH)
def ssh_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    yield from _bench(request)


def _bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    opener = _OPENERS[request.param](request)
    connection = opener()
    yield Bench(request.param, connection, opener)
    connection.close()


def _local(request: pytest.FixtureRequest) -> Callable[..., Connection]:
    from harness.connect import open_connection

    device: Device = request.getfixturevalue("local_device")
    return lambda root=False: open_connection(device)


def _ssh(request: pytest.FixtureRequest) -> Callable[..., Connection]:
    from harness.connect import open_connection

    device: Device = request.getfixturevalue("ssh_device")
    return lambda root=False: open_connection(device)


def _qemu(request: pytest.FixtureRequest) -> Callable[..., Connection]:
    from harness.connect.qemu import QemuConnection, compute_address
    from harness.connect.ssh import SshConnection

    device: Device = request.getfixturevalue("emulated_device")
    machine = request.getfixturevalue("emulated_machine")

    def open_machine(root: bool = False) -> Connection:
        if root:
            return SshConnection(machine.name, compute_address(machine, user="root"), hermetic=True)
        return QemuConnection(device, machine, owns_machine=False)

    return open_machine


_OPENERS = {"local": _local, "ssh": _ssh, "qemu": _qemu}


@pytest.fixture
def folder(bench: Bench) -> Iterator[str]:
    """A fresh folder on the device."""
    yield from _folder(bench)


@pytest.fixture
def ssh_folder(ssh_bench: Bench) -> Iterator[str]:
    yield from _folder(ssh_bench)


def _folder(bench: Bench) -> Iterator[str]:
    made = bench.connection.run(["mktemp", "-d"], timeout_s=LONG_S).stdout.decode().strip()
    yield made
    try:
        bench.connection.run(["rm", "-rf", "--", made], timeout_s=LONG_S)
    except HarnessError as error:
        pytest.fail(f"could not clean up: {error}")
