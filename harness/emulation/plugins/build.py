"""Builds the counting plugin for the QEMU that is installed; keeps it in the cache. It takes a C compiler."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import cache
from harness.emulation.cache import write_atomically
from harness.emulation.command import qemu_version
from harness.emulation.plugins.compiler import WHERE, compile_library, find_compiler
from harness.emulation.plugins.interface import read_interface_version
from harness.errors import HostSetupError

SOURCE = Path(__file__).with_name("count.c")
HEADER = Path(__file__).with_name("interface.h")
FLAGS = ("-std=gnu11", "-O2")


def build_plugin() -> Path:
    """Return the plugin's library, built on first use for this QEMU, this source and this compiler.

    Raises HostSetupError where there is no compiler, it refuses, or QEMU's interface isn't known.
    """
    compiler = find_compiler()
    name = _fingerprint(compiler)
    folder = cache.folder("plugins") / name
    library = folder / "count.so"
    if not library.exists():
        with cache.file_lock(folder.with_name(f".{name}.lock")):
            if not library.exists():
                folder.mkdir(parents=True, exist_ok=True)
                compile_plugin(compiler, read_interface_version(compiler), library)
    return library


def compile_plugin(compiler: str, interface: int, library: Path) -> None:
    """Compile the plugin for a version of QEMU's interface into `library`. Raises HostSetupError."""
    with tempfile.TemporaryDirectory(prefix=".build-", dir=library.parent) as name:
        made = Path(name) / library.name
        compile_library(compiler, [*FLAGS, f"-DINTERFACE={interface}", str(SOURCE), "-o", str(made)])
        write_atomically(library, made.read_bytes(), 0o755)


def plugin_arguments(
    library: Path, out: Path, *, caches: Sequence[tuple[int, int]], tlb: tuple[int, int]
) -> list[str]:
    """Return QEMU's arguments that load the plugin. `caches`: (bytes, ways) by level; `tlb`: (entries, ways).

    Raises HostSetupError for a path that QEMU's option syntax can't take.
    """
    for path in (library, out):
        if "," in str(path):
            raise HostSetupError(f"the path {str(path)!r} holds a comma, which QEMU can't take", where=WHERE)
    levels = [f"cache={size_bytes}:{ways}" for size_bytes, ways in caches]
    return ["-plugin", ",".join([str(library), f"out={out}", *levels, f"tlb={tlb[0]}:{tlb[1]}"])]


def _fingerprint(compiler: str) -> str:
    """Return a name for what decides the library: QEMU, the source, the compiler and its flags.

    The compiler is known by its file: not every one has an option that only tells its version.
    """
    path = Path(compiler).resolve()
    found = path.stat()
    settings = [qemu_version(), str(path), str(found.st_size), str(found.st_mtime_ns), *FLAGS]
    parts = [SOURCE.read_bytes(), HEADER.read_bytes(), *(part.encode() for part in settings)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
