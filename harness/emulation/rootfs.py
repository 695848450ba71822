"""From unpacked packages to a bootable disk and initrd: what maintainer scripts and mkinitramfs would do."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.emulation import sources
from harness.emulation.recipe import GUEST_FILES, Recipe, read_guest_file
from harness.emulation.tools import WHERE, run_tool
from harness.errors import HostSetupError

USER = "pi"  # unprivileged; root takes the same key, for faults and inspection only
USER_ID = 1000
HOSTNAME = "raspberrypi"
_SHADOW_GROUP = 42  # base-passwd's fixed number
# Fixed, so that two builds of a recipe give file systems that behave alike (directory hashing).
_UUID = "5b3c9e0e-7d0e-4a52-9d55-6869e1a7c0de"
_HASH_SEED = "0c1f3f0a-86a4-4a5d-9f0e-6869a1b2c3d4"


def make_skeleton(tree: Path) -> None:
    """Create the merged-/usr folders that packages are unpacked into."""
    for name in ("bin", "sbin", "lib"):
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")


def _append(path: Path, lines: Iterable[str]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(line + "\n" for line in lines)


def _write(path: Path, data: bytes | str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # may be a link out of the tree
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(mode)


def write_accounts(tree: Path, client_key: str) -> None:
    """Write passwd, group, shadow and the keys that may log in. No account has a password."""
    etc = tree / "etc"
    passwd = (tree / "usr/share/base-passwd/passwd.master").read_text(encoding="utf-8")
    passwd = re.sub(r"(?m)^root:.*$", "root:x:0:0:root:/root:/bin/bash", passwd)
    _write(etc / "passwd", passwd)
    _write(etc / "group", (tree / "usr/share/base-passwd/group.master").read_bytes())
    shell = "/bin/bash"
    _append(
        etc / "passwd",
        [
            "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin",
            f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:{shell}",
        ],
    )
    _append(etc / "group", [f"{USER}:x:{USER_ID}:"])
    shadow = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", "sshd", USER))
    _write(etc / "shadow", shadow, 0o640)
    for home in (tree / "root", tree / "home" / USER):
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        _write(home / ".ssh/authorized_keys", client_key, 0o600)


def write_configuration(tree: Path, host_key: Path) -> None:
    """Write host name, host key, init and the guest files."""
    _write(tree / "etc/hostname", HOSTNAME + "\n")
    _write(tree / "etc/hosts", f"127.0.0.1 localhost {HOSTNAME}\n")
    _write(tree / "etc/ssh/ssh_host_ed25519_key", host_key.read_bytes(), 0o600)
    for name in ("proc", "sys", "dev", "run", "tmp", "var/tmp", "var/log", "mnt"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (tree / name).chmod(0o1777)
    for name, (target, mode) in GUEST_FILES.items():
        if target:
            _write(tree / target, read_guest_file(name), mode)
    for link, target in (("usr/bin/awk", "mawk"), ("usr/sbin/init", "/bin/busybox")):
        (tree / link).unlink(missing_ok=True)
        (tree / link).symlink_to(target)


def kernel_version(kernel: Path) -> str:
    """Return the version of the one kernel unpacked in `kernel`."""
    found = sorted((kernel / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        raise HostSetupError(f"expected one kernel in its package, found {len(found)}", where=WHERE)
    return found[0].name.removeprefix("vmlinuz-")


def _module_files(kernel: Path, version: str, names: Iterable[str]) -> list[Path]:
    """Return the files of modules with all they depend on, in loading order, each once."""
    ordered: dict[Path, None] = {}
    for name in names:
        argv = ["modprobe", "-d", str(kernel), "-S", version, "--show-depends", name]
        for line in run_tool(argv, timeout_s=60).decode().splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "insmod":  # "builtin" needs no file
                ordered[Path(rest.split()[0])] = None
    return list(ordered)


def install_modules(tree: Path, kernel: Path, version: str, names: Iterable[str]) -> None:
    """Copy the named kernel modules and what they depend on into the tree, and index them."""
    run_tool(["depmod", "-b", str(kernel), version], timeout_s=120)
    target = tree / "usr/lib/modules" / version
    target.mkdir(parents=True)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy2(kernel / "lib/modules" / version / name, target / name)
    for path in _module_files(kernel, version, names):
        copy = target / path.relative_to(kernel / "lib/modules" / version)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    run_tool(["depmod", "-b", str(tree), version], timeout_s=60)


def compile_python(tree: Path) -> bool:
    """Compile the guest's standard library, where this interpreter writes the same byte code.

    Returns whether it did; without it the guest only starts Python more slowly.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" != sources.PYTHON:
        return False
    library = tree / "usr/lib" / f"python{sources.PYTHON}"
    magic = importlib.util.MAGIC_NUMBER
    argv = [sys.executable, "-m", "compileall", "-q", "-j", "0", "-s", str(tree), "-p", "/", str(library)]
    # Debian ships no file of its own that fails to compile but lib2to3's test data, which isn't in the image
    run_tool([*argv, "-x", r"/(test|tests|lib2to3|idlelib|ensurepip)/"], timeout_s=600)
    compiled = next(library.glob(f"__pycache__/*.{sys.implementation.cache_tag}.pyc"))
    return compiled.read_bytes()[:4] == magic


def open_folders(tree: Path) -> None:
    """Undo what a strict umask of the host did to what we created: user `pi` must be able to read it."""
    private = {tree / "root", tree / "home" / USER}
    for name, folders, files in os.walk(tree):
        folder = Path(name)
        if folder in private:
            folders.clear()
            continue
        folder.chmod(folder.stat().st_mode | 0o755)
        for file in files:
            if file.endswith(".pyc"):
                (folder / file).chmod(0o644)


def _cpio_entry(name: str, mode: int, data: bytes, inode: int) -> bytes:
    # "newc" format: kernel, driver-api/early-userspace/buffer-format
    encoded = name.encode() + b"\0"
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % n for n in numbers) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def _cpio(members: Iterable[tuple[str, int, bytes]]) -> Iterator[bytes]:
    for inode, (name, mode, data) in enumerate(members, start=1):
        yield _cpio_entry(name, mode, data, inode)
    yield _cpio_entry("TRAILER!!!", 0, b"", 0)


def make_initrd(tree: Path, kernel: Path, version: str, modules: Iterable[str], target: Path) -> None:
    """Write the initrd: busybox, the modules that the root disk needs, and a first process."""
    members: list[tuple[str, int, bytes]] = [
        (name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "modules", "dev", "new")
    ]
    members.append(("bin/busybox", stat.S_IFREG | 0o755, (tree / "bin/busybox").read_bytes()))
    members.append(("init", stat.S_IFREG | 0o755, read_guest_file("initrd-init")))
    for number, path in enumerate(_module_files(kernel, version, modules)):
        members.append((f"modules/{number:02d}-{path.name}", stat.S_IFREG | 0o644, path.read_bytes()))
    with target.open("wb") as stream:
        stream.writelines(_cpio(members))


def make_disk(tree: Path, recipe: Recipe, target: Path) -> None:
    """Write the tree as a sparse ext4 file system owned by root, with a journal as on a real board."""
    size_mib = recipe.disk_bytes >> 20
    script = (
        'chown -hR 0:0 "$1" && chown -hR "$2:$2" "$1/home/$3" && chgrp "$4" "$1/etc/shadow" && shift 4 && '
        'exec "$@"'
    )
    mke2fs = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^metadata_csum,^64bit"]
    mke2fs += ["-J", "size=16", "-m", "1", "-U", _UUID, "-d", str(tree)]
    mke2fs += ["-E", f"lazy_itable_init=0,lazy_journal_init=0,hash_seed={_HASH_SEED}"]
    mke2fs += [str(target), f"{size_mib}M"]
    argv = ["fakeroot", "sh", "-c", script, "sh", str(tree), str(USER_ID), USER, str(_SHADOW_GROUP), *mke2fs]
    run_tool(argv, timeout_s=600, next_step=f"Is there room at {target.parent}?")
