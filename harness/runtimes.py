"""Runtimes: which there are, and the environment that carries one to a device.

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from harness import cache, model_files
from harness.errors import ConfigError, HostSetupError, RuntimeUnavailable, nearest
from harness.model import CommandRuntime, OptionValue, PlanModel, RuntimeSpec

ENTRY_POINT_GROUP = "harness.runtimes"
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
class RuntimeDescriptor:
    """A runtime as the host knows it.

    `requirements` maps (version, python) to pip requirements, complete: nothing else is resolved.
    `adapter` names a built-in adapter, or is the path of a module that travels with the environment.
    `options` are passed to the adapter's `load`; `settable` names those that a user may set, with their types
    (bool, int, float or str). `excludes` are path parts left out of the environment. `files`, of a format of
    several files, maps the model's own and the options that the user set to all files that go to the device
    side by side; it may raise ConfigError.
    """

    name: str
    formats: tuple[str, ...]
    default_version: str | None
    requirements: Callable[[str, str], Sequence[str]]
    adapter: str | Path
    options: Mapping[str, Any] = field(default_factory=dict)
    excludes: tuple[str, ...] = ("tests", "test")
    settable: Mapping[str, type] = field(default_factory=dict)
    files: Callable[[Path, Mapping[str, OptionValue]], Sequence[Path]] | None = None


@dataclass(frozen=True)
class Environment:
    """A packed environment. `adapter` is what the agent is told: a built-in's name, or "env"."""

    sha256: str
    path: Path
    size_bytes: int
    adapter: str
    runtime: RuntimeSpec
    packages: tuple[str, ...]  # "onnxruntime==1.31.1", sorted


def _numpy_2(python: str) -> str:
    # numpy 2.4 needs Python 3.11; 2.0.2 is the last with 3.9 wheels
    return "numpy==2.4.6" if tuple(map(int, python.split("."))) >= (3, 11) else "numpy==2.0.2"


def _onnxruntime(version: str, python: str) -> Sequence[str]:
    # builds before 1.19 were compiled against numpy 1 (their release notes)
    old = tuple(int(x) for x in re.findall(r"\d+", version)[:2]) < (1, 19)
    return (f"onnxruntime=={version}", "numpy==1.26.4" if old else _numpy_2(python))


def _litert(version: str, python: str) -> Sequence[str]:
    # the interpreter imports these three beside itself; the rest of its requirements serve converters
    return (f"ai-edge-litert=={version}", _numpy_2(python), "flatbuffers", "backports.strenum")


def _tflite_runtime(version: str, python: str) -> Sequence[str]:
    # compiled against numpy 1 but declares no upper bound
    return (f"tflite-runtime=={version}", "numpy==1.26.4")


def _nothing(version: str, python: str) -> Sequence[str]:
    return ()


BUILT_IN: dict[str, RuntimeDescriptor] = {
    d.name: d
    for d in (
        RuntimeDescriptor(
            "onnxruntime",
            ("onnx",),
            "1.31.1",
            _onnxruntime,
            "onnxruntime",
            excludes=("tests", "test", "transformers", "quantization", "tools", "datasets"),
            settable={"graph_optimization_level": str},
        ),
        RuntimeDescriptor("litert", ("tflite",), "2.3.0", _litert, "litert"),
        RuntimeDescriptor("tflite-runtime", ("tflite",), "2.14.0", _tflite_runtime, "tflite_runtime"),
        RuntimeDescriptor("command", ("onnx", "tflite", "other"), None, _nothing, "command"),
    )
}


def descriptors(own: Sequence[CommandRuntime] = ()) -> dict[str, RuntimeDescriptor]:
    """Return every known runtime by name: built in, then by entry point, then the plan's `own`.

    None replaces one before it. Raises ConfigError for an entry point that doesn't give one.
    """
    known = dict(BUILT_IN)
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if point.name not in known:
            known[point.name] = _installed(point)
    for command in own:
        known.setdefault(command.name, _command_descriptor(command))
    return known


def _installed(point: metadata.EntryPoint) -> RuntimeDescriptor:
    """Return the descriptor that an installed package has at its entry point. Raises ConfigError."""
    package = point.dist.name if point.dist else point.value
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 (whatever a foreign module raises while it is imported)
        problem = f"can't be imported: {type(error).__name__}: {error}"
    else:
        if isinstance(found, RuntimeDescriptor) and found.name == point.name:
            return found
        named = f" called `{found.name}`" if isinstance(found, RuntimeDescriptor) else ""
        problem = f"is a {type(found).__name__}{named}, expected a RuntimeDescriptor called `{point.name}`"
    raise ConfigError(
        f"runtime `{point.name}` of the installed package {package} can't be used: {point.value} {problem}.",
        next_step=f"Mend the package or remove it: pip uninstall {package}.",
    )


def _command_descriptor(command: CommandRuntime) -> RuntimeDescriptor:
    options: dict[str, Any] = {"argv": list(command.argv), "protocol": command.protocol}
    if command.timeout_s is not None:
        options["timeout_s"] = command.timeout_s
    formats = command.formats or BUILT_IN["command"].formats
    return RuntimeDescriptor(command.name, formats, None, _nothing, "command", options)


def descriptor(spec: RuntimeSpec, model_format: str, own: Sequence[CommandRuntime] = ()) -> RuntimeDescriptor:
    """Return the runtime called `spec.name`. Raises ConfigError: unknown, or not for this format."""
    known = descriptors(own)
    found = known.get(spec.name)
    if found is None:
        raise ConfigError(f"unknown runtime `{spec.name}`{nearest(spec.name, known)}")
    if spec.name == "command":
        raise ConfigError(
            "runtime `command` doesn't say which executable to run.",
            next_step="Give it a name and an `argv` in the plan: [runtimes.NAME] (docs/configuration.md).",
        )
    if found.adapter == "command" and spec.version:
        raise ConfigError(f"runtime `{spec.name}` is an executable on the device; it takes no version")
    if not runs_format(found, model_format):
        able = sorted(n for n, d in known.items() if n != "command" and runs_format(d, model_format))
        raise ConfigError(
            f"runtime `{spec.name}` runs {' and '.join(found.formats)}, not {model_format}; "
            f"runtimes for it: {', '.join(able) or 'none'}"
        )
    return found


def settled(model: PlanModel) -> PlanModel:
    """Return `model` with its runtime where it names none and its format is one installed runtime's alone.

    What we ship has defaults by format (`model_files`); this is for formats that others bring.
    """
    if model.runtime is not None:
        return model
    format = model_files.format_of(model.path)
    if format in model_files.DEFAULT_RUNTIMES:
        return model
    fitting = [name for name, found in descriptors().items() if format in found.formats]
    return replace(model, runtime=RuntimeSpec(fitting[0])) if len(fitting) == 1 else model


def runs_format(found: RuntimeDescriptor, model_format: str) -> bool:
    """Return whether this runtime is for files of this format."""
    return model_format in found.formats or "other" in found.formats


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
