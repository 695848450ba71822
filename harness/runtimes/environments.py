"""The environment that carries a runtime to a device.

An environment is a tar of unpacked wheels (`site/`) and, for a third party's runtime, its adapter. It is
made once per platform on the host, named by its SHA-256, pushed once per device, and needs no network there.
What runs the model on the device is the adapter (docs/agent-protocol.md); this module never imports one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from harness import cache
from harness.errors import ConfigError, HostSetupError, RuntimeUnavailable
from harness.model import RuntimeSpec
from harness.runtimes.known import RuntimeDescriptor

ENV_FORMAT = 2  # part of every environment's key: raise it when the layout changes
PIP_TIMEOUT_S = 900.0

# e_machine of the ELF header (System V ABI, gABI chapter 4)
_ELF_MACHINE = {"x86_64": 62, "aarch64": 183, "armv7l": 40}


@dataclass(frozen=True)
class Platform:
    """What a wheel must fit: `machine` as in uname -m, `python` as "3.11", `libc` as "2.36" (glibc)."""

    machine: str
    python: str
    libc: str

    def __str__(self) -> str:
        return f"linux {self.machine}, CPython {self.python}, glibc {self.libc}"

    def pip_tags(self) -> tuple[str, ...]:
        """Return the platform tags this system accepts, newest first (PEP 600)."""
        minor = int(self.libc.split(".")[1])
        tags = [f"manylinux_2_{n}_{self.machine}" for n in range(minor, 16, -1)]
        return (*tags, f"manylinux2014_{self.machine}")


@dataclass(frozen=True)
class Environment:
    """A packed environment. `adapter` is what the agent is told: a built-in's name, or "env"."""

    sha256: str
    path: Path
    size_bytes: int
    adapter: str
    runtime: RuntimeSpec
    packages: tuple[str, ...]  # "onnxruntime==1.31.1", sorted


def environment(
    spec: RuntimeSpec,
    found: RuntimeDescriptor,
    platform: Platform,
    progress: Callable[[str], None] | None = None,
) -> Environment:
    """Return the environment of `spec` for `platform`, made and cached at first use.

    Raises RuntimeUnavailable when no wheel fits the platform, HostSetupError without pip.
    """
    version = spec.version or found.default_version or ""
    wanted = tuple(found.requirements(version, platform.python))
    source = Path(found.adapter).read_bytes() if isinstance(found.adapter, Path) else b""
    key = hashlib.sha256(
        json.dumps(
            [ENV_FORMAT, wanted, str(platform), list(found.excludes), hashlib.sha256(source).hexdigest()]
        ).encode()
    ).hexdigest()[:24]
    folder = cache.folder(cache.ENVIRONMENTS) / key
    with cache.lock(f"environment-{key}"):
        if not cache.use(folder) or not (folder / "meta.json").exists():
            if progress and wanted:
                progress(f"fetching {', '.join(wanted)} for {platform.machine}")
            cache.prune()
            _make(folder, found, wanted, platform, source)
        meta = json.loads((folder / "meta.json").read_text())
        cache.use(folder)
    return Environment(
        sha256=meta["sha256"],
        path=folder / "env.tar.gz",
        size_bytes=meta["size_bytes"],
        adapter="env" if source else str(found.adapter),
        runtime=RuntimeSpec(spec.name, version or None),
        packages=tuple(meta["packages"]),
    )


def _make(
    folder: Path, found: RuntimeDescriptor, wanted: Sequence[str], platform: Platform, adapter: bytes
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        root = work / "root"
        site = root / "site"
        site.mkdir(parents=True)
        if wanted:
            _pip_install(site, wanted, platform)
            _check_architecture(site, platform, wanted)
        if adapter:
            (root / "adapter.py").write_bytes(adapter)
        _compile(root, platform)
        packages = sorted(
            f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions(path=[str(site)])
        )
        out = work / "out"
        out.mkdir()
        digest, size = _pack(root, out / "env.tar.gz", found.excludes)
        (out / "meta.json").write_text(
            json.dumps(
                {"sha256": digest, "size_bytes": size, "packages": packages, "platform": str(platform)}
            )
        )
        cache.sync_tree(out)
        out.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pip_install(site: Path, wanted: Sequence[str], platform: Platform) -> None:
    tags = [x for tag in platform.pip_tags() for x in ("--platform", tag)]
    abi = "cp" + platform.python.replace(".", "")
    argv = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--no-deps",
        "--disable-pip-version-check", "--target", str(site), *tags,
        "--implementation", "cp", "--python-version", platform.python,
        "--abi", abi, "--abi", "abi3", "--abi", "none", "--only-binary=:all:", *wanted,
    ]  # fmt: skip
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PIP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise RuntimeUnavailable(
            f"pip did not finish fetching {', '.join(wanted)} within {PIP_TIMEOUT_S:.0f} s.",
            where=str(platform),
            next_step="Check the network and try again.",
        ) from None
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise HostSetupError(
            f"{sys.executable} has no pip, which fetches the runtimes.",
            next_step="Install it: python -m ensurepip.",
        )
    known = re.search(r"from versions: ([^)]*)\)", done.stderr)
    if known and known[1] != "none":
        newest = ", ".join(known[1].split(", ")[-6:])
        raise ConfigError(
            f"no wheels of {', '.join(wanted)} for {platform}; newest builds there: {newest}.",
            next_step="Ask for one of these: --runtime NAME==VERSION.",
        )
    raise RuntimeUnavailable(
        f"pip found no wheels of {', '.join(wanted)}: {_pip_reason(done.stderr)}.",
        where=str(platform),
        next_step="Check that the package index answers, then try again.",
    )


def _pip_reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.startswith("ERROR")]
    return (lines[0] if lines else stderr.strip()[-300:] or "pip said nothing").removeprefix("ERROR: ")


def _check_architecture(site: Path, platform: Platform, wanted: Sequence[str]) -> None:
    """Refuse compiled files of another architecture than the device's. Raises RuntimeUnavailable."""
    expected = _ELF_MACHINE.get(platform.machine)
    if expected is None:
        return
    for path in sorted(site.rglob("*.so*")):
        with path.open("rb") as f:
            head = f.read(20)
        if head[:4] == b"\x7fELF" and int.from_bytes(head[18:20], "little") != expected:
            names = {v: k for k, v in _ELF_MACHINE.items()}
            seen = names.get(int.from_bytes(head[18:20], "little"), "another architecture")
            raise RuntimeUnavailable(
                f"{path.relative_to(site)} is built for {seen}, expected {platform.machine} "
                f"(from {', '.join(wanted)}).",
                where=str(platform),
                next_step="Use a wheel of the device's architecture.",
            )


def _compile(root: Path, platform: Platform) -> None:
    """Byte-compile for the device where the host's Python has the same magic number."""
    if platform.python != f"{sys.version_info.major}.{sys.version_info.minor}":
        return
    # -s and -p: no path of this host in the files, so that the same wheels give the same bytes
    subprocess.run(
        [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
            "-s",
            str(root),
            "-p",
            "env",
            str(root),
        ],
        capture_output=True,
        timeout=PIP_TIMEOUT_S,
    )


def _pack(root: Path, target: Path, excludes: Sequence[str]) -> tuple[str, int]:
    """Write a tar of `root`, the same bytes for the same files; return its SHA-256 and size."""
    skip = set(excludes)
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            name = path.relative_to(root)
            if (
                skip.intersection(name.parts[:-1])
                or name.suffix == ".pyi"
                or name.parts[:2] == ("site", "bin")
            ):
                continue
            info = tarfile.TarInfo(name.as_posix())
            data = path.read_bytes()
            info.size = len(data)
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(data))
    with target.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    return digest, os.path.getsize(target)
