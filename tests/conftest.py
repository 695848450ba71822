"""Fixtures for every test folder. What is slow to make is made once a session, and only when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import device as devices
from support.sharing import compute_place
from support.sshd import Sshd, find_sshd, running_sshd

from harness.model import Device

if TYPE_CHECKING:
    from harness.emulation import Machine


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep leases of this host apart from its user's, and from another worker's of the same tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIL_HARNESS_STATE", os.fspath(tmp_path_factory.mktemp("state")))
        # a pytest that a test starts is nobody's worker: pytest-benchmark would switch itself off in it
        for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_")]:
            patch.delenv(name)
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first where several workers share them out (`make test`)."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: compute_place(item.path))


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real sshd on loopback: `host`, `port`, `user`, `identity`, `host_key`, `address()`."""
    try:
        find_sshd()
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def local_device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    """This host as a device with a home of its own."""
    return devices.local_device(_folder(tmp_path_factory, "local-home"))


@pytest.fixture(scope="session")
def ssh_device(sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A device of kind `ssh`: this host, through a real sshd."""
    return devices.ssh_device(sshd, _folder(tmp_path_factory, "ssh-home"))


@pytest.fixture(scope="session")
def emulated_device() -> Device:
    """A device of kind `qemu`."""
    return devices.emulated_device()


@pytest.fixture(scope="session")
def emulated_machine() -> Iterator[Machine]:
    """A booted emulated Pi, functional profile, shared by the whole session: leave it as it was."""
    with devices.running_machine() as machine:
        yield machine


def _folder(factory: pytest.TempPathFactory, name: str) -> Path:
    return factory.mktemp(name)
