from pathlib import Path

import pytest

from harness.emulation import host
from harness.errors import HostSetupError

DEBIAN = {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"}


def _fake_tools(folder: Path, names: tuple[str, ...]) -> str:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.fixture
def no_sbin(monkeypatch):
    monkeypatch.setattr(host, "SBIN", ())


def test_one_message_names_every_missing_package_and_the_line_that_installs_them(tmp_path, no_sbin):
    with pytest.raises(HostSetupError) as caught:
        host.check_host(path=str(tmp_path), os_release=DEBIAN, keyring=tmp_path / "absent", system="Linux")
    text = str(caught.value)
    packages = sorted({*host.COMMANDS.values(), host.KEYRING_PACKAGE})
    assert f"sudo apt-get install -y --no-install-recommends {' '.join(packages)}" in text
    assert "\n" not in text
    assert caught.value.exit_code == 75


def test_only_what_is_missing_is_named(tmp_path, no_sbin):
    keyring = tmp_path / "keyring"
    keyring.touch()
    path = _fake_tools(tmp_path, tuple(c for c in host.COMMANDS if c != "fakeroot"))
    with pytest.raises(HostSetupError, match=r"1 host package\(s\) missing: fakeroot\."):
        host.check_host(path=path, os_release=DEBIAN, keyring=keyring, system="Linux")


def test_a_whole_host_passes_and_running_needs_less_than_building(tmp_path, no_sbin):
    keyring = tmp_path / "keyring"
    keyring.touch()
    everything = _fake_tools(tmp_path, tuple(host.COMMANDS))
    host.check_host(path=everything, os_release=DEBIAN, keyring=keyring, system="Linux")
    (tmp_path / "run").mkdir()
    to_run = _fake_tools(tmp_path / "run", host.RUN_COMMANDS)
    absent = tmp_path / "absent"
    host.check_host(build=False, path=to_run, os_release=DEBIAN, keyring=absent, system="Linux")


def test_other_systems_are_told_plainly(tmp_path, no_sbin):
    fedora = {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 41"}
    with pytest.raises(HostSetupError, match=r"Fedora Linux 41\) is neither .*--device local"):
        host.check_host(path=str(tmp_path), os_release=fedora, keyring=tmp_path / "absent", system="Linux")
    with pytest.raises(HostSetupError, match="needs a Linux host, this is Darwin"):
        host.check_host(path=str(tmp_path), os_release={}, keyring=tmp_path / "absent", system="Darwin")


def test_sbin_is_searched_even_when_path_lacks_it():
    assert host.search_path("/usr/bin").split(":") == ["/usr/bin", *host.SBIN]
    assert host.search_path("/sbin:/bin").split(":").count("/sbin") == 1
    assert host.search_path("") == ":".join(host.SBIN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nPRETTY_NAME="Debian"\n', True),
        ("ID=ubuntu\nID_LIKE=debian\n", True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ("# comment\nID=alpine\n", False),
        ("", False),
    ],
)
def test_debian_likeness_is_read_from_os_release(text, expected):
    assert host.is_debian_like(host.parse_os_release(text)) is expected
