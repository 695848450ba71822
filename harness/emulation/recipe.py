"""What goes into an image: packages, kernel modules, guest files. Its hash names the image in the cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import resources

from harness.emulation.sources import ARCHITECTURE, SUITE
from harness.model import QemuBoard

FORMAT = 2  # raise it when the builder's code changes what ends up in an image

PACKAGES = (
    "base-files",
    "base-passwd",
    "busybox-static",
    "dash",
    "bash",
    "coreutils",
    "libc-bin",
    "mount",
    "util-linux",
    "kmod",
    "procps",
    "python3",
    "libstdc++6",
    "libgomp1",
    "openssh-server",
    "openssh-sftp-server",
    "i2c-tools",
    "hostname",
    "grep",
    "sed",
    "tar",
    "gzip",
    "findutils",
    "mawk",
    "ncurses-base",
    "netbase",
    "tzdata",
)
# pulled in by dependencies, but nothing on the device runs them (prefixes of package names)
SKIPPED_PACKAGES = (
    "perl",
    "libperl",
    "initramfs-tools",
    "linux-image",
    "linux-base",
    "dpkg",
    "debconf",
    "adduser",
    "usrmerge",
    "udev",
    "ucf",
    "klibc",
    "libklibc",
    "systemd",
    "dbus",
)
KERNEL_PACKAGE = "linux-image-arm64"
MODULES = (
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "virtio_console",
    "ext4",
    "crc32c_generic",
    "i2c-dev",
    "i2c-tiny-usb",
    "i2c-mux",
    "xhci-pci",
    "lm75",
    "jc42",
    "ltc4151",
    "ltc4245",
    "ads7828",
    "zram",
    "null_blk",
    "dm-mod",
    "dm-flakey",
    "tun",
    "configfs",
)
INITRD_MODULES = ("virtio_mmio", "virtio_blk", "ext4")
# guest file → where it goes and its mode
GUEST_FILES: dict[str, tuple[str, int]] = {
    "inittab": ("etc/inittab", 0o644),
    "setup": ("usr/lib/hil/setup", 0o755),
    "control": ("usr/lib/hil/control", 0o755),
    "boot": ("usr/lib/hil/boot", 0o755),
    "sshd": ("usr/lib/hil/sshd", 0o755),
    "sshd_config": ("etc/ssh/sshd_config", 0o644),
    "sensors": ("usr/lib/hil/sensors", 0o755),
    "vcgencmd": ("usr/bin/vcgencmd", 0o755),
    "firmware.py": ("usr/lib/hil/hil_board/firmware.py", 0o644),
    "board_model.py": ("usr/lib/hil/hil_board/board_model.py", 0o644),
    "initrd-init": ("", 0o755),  # goes into the initrd
}


@dataclass(frozen=True)
class Recipe:
    """All that decides an image's contents, apart from the day's package versions."""

    format: int
    suite: str
    architecture: str
    packages: tuple[str, ...]
    skipped_packages: tuple[str, ...]
    kernel_package: str
    modules: tuple[str, ...]
    initrd_modules: tuple[str, ...]
    guest_files: tuple[tuple[str, str], ...]  # (name, SHA-256)
    disk_bytes: int

    @property
    def hash(self) -> str:
        """Return the recipe's name in the cache: 16 hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_guest_file(name: str) -> bytes:
    """Return a guest file of this package; modules are kept where the harness's own checks see them."""
    folder = "sensors" if name.endswith(".py") else "guest"
    return resources.files("harness.emulation").joinpath(folder, name).read_bytes()


def read_recipe(board: QemuBoard) -> Recipe:
    """Return the recipe of `board`'s image. Boards that differ only in cores or memory share one."""
    files = tuple((name, hashlib.sha256(read_guest_file(name)).hexdigest()) for name in sorted(GUEST_FILES))
    return Recipe(
        format=FORMAT,
        suite=SUITE,
        architecture=ARCHITECTURE,
        packages=PACKAGES,
        skipped_packages=SKIPPED_PACKAGES,
        kernel_package=KERNEL_PACKAGE,
        modules=MODULES,
        initrd_modules=INITRD_MODULES,
        guest_files=files,
        disk_bytes=board.disk_bytes,
    )
