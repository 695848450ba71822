"""What the host must have before an emulated board can be built and run. Reads the host, changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.errors import HostSetupError

# command → the Debian/Ubuntu package that holds it
COMMANDS: Mapping[str, str] = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
    "depmod": "kmod",
    "modprobe": "kmod",
    "mke2fs": "e2fsprogs",
    "fakeroot": "fakeroot",
    "ssh-keygen": "openssh-client",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
}
RUN_COMMANDS = ("qemu-system-aarch64", "qemu-img")  # enough to boot an image that is already built
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
KEYRING_PACKAGE = "debian-archive-keyring"
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path(path: str | None = None) -> str:
    """Return PATH with the sbin folders added: Debian leaves them out for ordinary users."""
    parts = [p for p in (os.environ.get("PATH", "") if path is None else path).split(os.pathsep) if p]
    return os.pathsep.join([*parts, *(d for d in SBIN if d not in parts)])


def tool_environment() -> dict[str, str]:
    """Return the environment for host tools: ours, with sbin on PATH and untranslated messages."""
    return {**os.environ, "PATH": search_path(), "LC_ALL": "C.UTF-8"}


def parse_os_release(text: str) -> dict[str, str]:
    """Return the keys of an os-release file (freedesktop.org: os-release(5))."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def read_os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Return the host's os-release, empty where there is none."""
    try:
        return parse_os_release(path.read_text(encoding="utf-8"))
    except OSError:
        return {}


def is_debian_like(os_release: Mapping[str, str]) -> bool:
    """Return whether the host is Debian, Ubuntu or made from one of them."""
    words = {os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()}
    return bool(words & {"debian", "ubuntu"})


def missing_packages(commands: Iterable[str], path: str, keyring: Path | None = None) -> list[str]:
    """Return the packages that hold the commands which `path` lacks, sorted, each once."""
    missing = {COMMANDS[c] for c in commands if shutil.which(c, path=path) is None}
    if keyring is not None and not keyring.exists():
        missing.add(KEYRING_PACKAGE)
    return sorted(missing)


def check_host(
    *,
    build: bool = True,
    path: str | None = None,
    os_release: Mapping[str, str] | None = None,
    system: str | None = None,
    keyring: Path = Path(KEYRING),
) -> None:
    """Check that this host can build (or, without `build`, run) an emulated board.

    Raises HostSetupError once, naming every missing package and the one command that installs them.
    """
    release = read_os_release() if os_release is None else os_release
    where = "emulated device"
    if (system or platform.system()) != "Linux":
        raise HostSetupError(
            f"needs a Linux host, this is {system or platform.system()}.",
            where=where,
            next_step="Use a Debian or Ubuntu machine, or `--device local`.",
        )
    commands = tuple(COMMANDS) if build else RUN_COMMANDS
    missing = missing_packages(commands, search_path(path), keyring if build else None)
    if not missing:
        return
    if is_debian_like(release):
        raise HostSetupError(
            f"{len(missing)} host package(s) missing: {', '.join(missing)}.",
            where=where,
            next_step=f"Install with: sudo apt-get install -y --no-install-recommends {' '.join(missing)}",
        )
    name = release.get("PRETTY_NAME") or release.get("ID") or "unknown"
    raise HostSetupError(
        f"this host ({name}) is neither Debian nor Ubuntu, and lacks what these Debian packages hold: "
        f"{', '.join(missing)}.",
        where=where,
        next_step="Build the image on a Debian or Ubuntu host, or use `--device local`.",
    )
