"""Building the emulated board's image without root, once per recipe, into the cache."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.cache import file_lock, sync_tree
from harness.cache import root as cache_folder
from harness.emulation import packages, rootfs, sources
from harness.emulation.cache import held, prune_cache, remove_tree, write_atomically
from harness.emulation.host import check_host
from harness.emulation.recipe import Recipe, read_recipe
from harness.emulation.tools import run_tool
from harness.errors import ConfigError, DataError
from harness.model import QemuBoard

Progress = Callable[[str, float], None]
MIN_DISK_BYTES = 1536 << 20  # the system takes about 300 MB; a gigabyte stays free for models


@dataclass(frozen=True)
class Image:
    """A built image in the cache. `board` is what it was asked for with."""

    folder: Path
    recipe_hash: str
    ssh_key_path: Path  # mode 0600
    host_public_key: str  # "ssh-ed25519 AAAA…"
    user: str  # unprivileged; root takes the same key
    board: QemuBoard
    python: str  # "3.11": what wheels must fit

    @property
    def disk_path(self) -> Path:
        return self.folder / "disk.ext4"

    @property
    def kernel_path(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd_path(self) -> Path:
        return self.folder / "initrd.img"


def _ignore(step: str, done: float) -> None:
    """Stand in where nobody watches."""


def image_folder(recipe: Recipe) -> Path:
    """Return where the image of `recipe` is, or will be."""
    return cache_folder() / "images" / recipe.hash


def _open_image(folder: Path, recipe_hash: str, board: QemuBoard) -> Image:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return Image(
            folder=folder,
            recipe_hash=recipe_hash,
            ssh_key_path=folder / "ssh/client_ed25519",
            host_public_key=manifest["host_public_key"],
            user=manifest["user"],
            board=board,
            python=manifest["python"],
        )
    except (ValueError, KeyError) as error:
        raise DataError(
            f"manifest.json can't be read: {error!r}.",
            where=str(folder),
            next_step="Remove that folder; the image is then built anew.",
        ) from error


def open_image(recipe_hash: str, board: QemuBoard) -> Image:
    """Return an image that the cache holds. Raises ConfigError if it doesn't."""
    folder = cache_folder() / "images" / recipe_hash
    if not (folder / "manifest.json").exists():
        raise ConfigError(f"no image {recipe_hash} in the cache", where="emulated device")
    return _open_image(folder, recipe_hash, board)


def build_image(board: QemuBoard, progress: Progress | None = None) -> Image:
    """Return the image for `board`, building it when the cache doesn't hold it.

    Two processes that ask at once make one image: the second waits for the first. Raises HostSetupError
    when the host lacks something or a build step fails; nothing half-built stays.
    """
    if board.disk_bytes < MIN_DISK_BYTES or board.disk_bytes % (1 << 20):
        raise ConfigError(
            f"disk_bytes is {board.disk_bytes}, expected whole MiB and at least {MIN_DISK_BYTES}",
            where="emulated device",
        )
    recipe = read_recipe(board)
    folder = image_folder(recipe)
    if not (folder / "manifest.json").exists():
        check_host(build=True)
        with file_lock(folder.with_name(f".{recipe.hash}.lock")):
            if not (folder / "manifest.json").exists():
                _build(recipe, folder, progress or _ignore)
                prune_cache(keep=(folder,))
    return _open_image(folder, recipe.hash, board)


def _build(recipe: Recipe, folder: Path, progress: Progress) -> None:
    work = folder.with_name(f".{recipe.hash}.building")
    remove_tree(work)  # left by a build that was killed; we hold the lock
    work.mkdir(parents=True)
    try:
        manifest = _build_in(work, recipe, progress)
        for name in ("tree", "kernel"):
            remove_tree(work / name)
        write_atomically(work / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())
        sync_tree(work)
        os.rename(work, folder)
    except BaseException:
        remove_tree(work)
        raise
    progress("built", 1.0)


def _make_keys(folder: Path) -> tuple[str, str]:
    """Make the client's and the host's key pairs; return their public lines."""
    folder.mkdir(mode=0o700)
    lines = []
    for name, comment in (("client_ed25519", "harness"), ("host_ed25519", "emulated-board")):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(folder / name)]
        run_tool(argv, timeout_s=60)
        (folder / name).chmod(0o600)
        lines.append((folder / f"{name}.pub").read_text(encoding="utf-8"))
    return lines[0], lines[1]


def _skipped(recipe: Recipe, deb: Path) -> bool:
    return deb.name.startswith(recipe.skipped_packages)


def _unpack_all(debs: list[Path], kernel_deb: Path, work: Path, progress: Progress) -> None:
    tree = work / "tree"
    rootfs.make_skeleton(tree)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        kernel = pool.submit(packages.unpack, kernel_deb, work / "kernel")
        for number, deb in enumerate(debs):
            progress("unpacking packages", number / len(debs))
            packages.unpack(deb, tree)
        kernel.result()


def _build_in(work: Path, recipe: Recipe, progress: Progress) -> dict[str, object]:
    """Run all steps inside `work`; return the manifest."""
    apt = cache_folder() / "apt"
    progress("downloading packages", 0.0)
    apt.mkdir(exist_ok=True)
    with held(apt), file_lock(apt / ".lock"):  # one apt at a time; another recipe's build may want it too
        debs, kernel_deb = packages.download(
            apt,
            recipe.packages,
            recipe.kernel_package,
            lambda done: progress("downloading packages", done),
        )
        (work / "kernel").mkdir()
        used = [deb for deb in debs if not _skipped(recipe, deb)]
        _unpack_all(used, kernel_deb, work, progress)
    tree, kernel = work / "tree", work / "kernel"
    version = rootfs.kernel_version(kernel)
    progress("configuring", 0.0)
    client_key, host_key = _make_keys(work / "ssh")
    rootfs.write_accounts(tree, client_key)
    rootfs.write_configuration(tree, work / "ssh/host_ed25519")
    progress("installing kernel modules", 0.0)
    rootfs.install_modules(tree, kernel, version, recipe.modules)
    shutil.copyfile(kernel / "boot" / f"vmlinuz-{version}", work / "vmlinuz")
    rootfs.make_initrd(tree, kernel, version, recipe.initrd_modules, work / "initrd.img")
    progress("compiling Python", 0.0)
    compiled = rootfs.compile_python(tree)
    progress("writing the disk", 0.0)
    rootfs.open_folders(tree)
    rootfs.make_disk(tree, recipe, work / "disk.ext4")
    return {
        "recipe": asdict(recipe),
        "host_public_key": " ".join(host_key.split()[:2]),
        "user": rootfs.USER,
        "python": sources.PYTHON,
        "python_compiled": compiled,
        "kernel": version,
        "packages": sorted(deb.name for deb in [*used, kernel_deb]),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
