"""Builds the counting plugin against the header of the QEMU that is installed; keeps it in the cache.

Distributions ship QEMU with plugins switched on but without their header, so that it comes out of the
package's source: downloaded by an apt of our own, as the image's packages are, nothing installed, no root
needed.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import cache
from harness.emulation import sources
from harness.emulation.cache import write_atomically
from harness.emulation.command import qemu_version
from harness.emulation.host import tool_environment
from harness.emulation.packages import write_apt_folder
from harness.emulation.tools import run_tool
from harness.errors import HostSetupError

SOURCE = Path(__file__).with_name("count.c")
ENV_HEADER = "HIL_HARNESS_QEMU_PLUGIN_HEADER"
HEADER = "qemu-plugin.h"
_INSTALLED = (Path("/usr/include/qemu-plugin.h"), Path("/usr/include/qemu/qemu-plugin.h"))
_PACKAGE = "qemu-system-arm"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-shared", "-fPIC")
_WITHOUT = "Without it, estimates rest on the number of instructions alone, and say so."
APT_TIMEOUT_S = 900.0  # chosen: 25 MB and the lists of sources over a slow line
WHERE = "counting plugin"


def build_plugin() -> Path:
    """Return the plugin's library, built on first use for this QEMU and this source.

    Raises HostSetupError where there is no compiler, no header can be had, or the compiler refuses.
    """
    compiler = shutil.which("cc", path=tool_environment()["PATH"])
    if compiler is None:
        raise HostSetupError(
            "no C compiler: `cc` is not on PATH.", where=WHERE, next_step=f"Install gcc. {_WITHOUT}"
        )
    text = SOURCE.read_bytes()
    name = hashlib.sha256(text + qemu_version().encode() + " ".join(_FLAGS).encode()).hexdigest()[:16]
    folder = cache.folder("plugins") / name
    library = folder / "count.so"
    if not library.exists():
        with cache.file_lock(folder.with_name(f".{name}.lock")):
            if not library.exists():
                folder.mkdir(parents=True, exist_ok=True)
                _compile(compiler, find_header(folder), library)
    return library


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


def find_header(folder: Path) -> Path:
    """Return the folder that holds the header: the user's, an installed one, else the package's into
    `folder`.
    """
    if set_by_user := os.environ.get(ENV_HEADER):
        path = Path(set_by_user).expanduser()
        if not path.is_file() or path.name != HEADER:
            raise HostSetupError(f"{ENV_HEADER} is {set_by_user!r}, expected a file {HEADER}", where=WHERE)
        return path.resolve().parent
    for path in _INSTALLED:
        if path.is_file():
            return path.parent
    write_atomically(folder / HEADER, _download_header())
    return folder


def source_stanzas(entries: Sequence[sources.Entry]) -> str:
    """Return the host's archives with a component main as sources of source packages (deb822)."""
    stanzas = []
    for entry in entries:
        if "main" in entry.components:
            lines = ["Types: deb-src", f"URIs: {entry.uri}", f"Suites: {entry.suite}", "Components: main"]
            lines += [
                f"{key.title()}: {value}" for key, value in entry.options if key in ("signed-by", "trusted")
            ]
            stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def _download_header() -> bytes:
    """Return the header out of the source of the installed QEMU package."""
    asked = ["dpkg-query", "-W", "-f", "${source:Package}=${source:Version}", _PACKAGE]
    package = run_tool(asked, timeout_s=60, next_step=_hint()).decode()
    folder = cache.folder("apt-source")
    with cache.file_lock(folder / ".lock"):
        env = write_apt_folder(folder)
        listed = folder / "etc/apt/sources.list.d/guest.sources"
        listed.write_text(source_stanzas(sources.read_host_entries()), encoding="utf-8")
        run_tool(["apt-get", "-q", "update"], timeout_s=APT_TIMEOUT_S, env=env, next_step=_hint())
        with tempfile.TemporaryDirectory(prefix="qemu-source-", dir=folder) as name:
            fetch = ["apt-get", "-q", "source", "--download-only", "--tar-only", package]
            run_tool(fetch, timeout_s=APT_TIMEOUT_S, cwd=Path(name), env=env, next_step=_hint())
            archives = sorted(Path(name).glob("*.orig.tar.*"))
            for archive in archives:
                if (found := header_in(archive)) is not None:
                    return found
    raise HostSetupError(
        f"the source of {package} holds no {HEADER}: {[a.name for a in archives]}",
        where=WHERE,
        next_step=_hint(),
    )


def header_in(archive: Path) -> bytes | None:
    """Return the plugins' header out of QEMU's source archive, None where it has none."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(f"/include/qemu/{HEADER}"):
                stream = tar.extractfile(member)
                return stream.read() if stream is not None else None
    return None


def _hint() -> str:
    return f"Name the header of your QEMU with {ENV_HEADER}. {_WITHOUT}"


def _compile(compiler: str, include: Path, library: Path) -> None:
    flags = [*_FLAGS, "-I", str(include)]
    if b"<glib.h>" in (include / HEADER).read_bytes():  # since QEMU 9.0
        found = run_tool(
            ["pkg-config", "--cflags", "glib-2.0"], timeout_s=60, next_step="Install libglib2.0-dev."
        )
        flags += shlex.split(found.decode())
    with tempfile.TemporaryDirectory(prefix=".build-", dir=library.parent) as name:
        made = Path(name) / library.name
        run_tool([compiler, *flags, str(SOURCE), "-o", str(made)], timeout_s=300)
        write_atomically(library, made.read_bytes(), 0o755)
