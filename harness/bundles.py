"""Models of several files: packed into one on the host, so that all else knows one file with one hash.

Which files belong to a model, the descriptor of its runtime says. A bundle is a tar of them, the model's own
file first, the same bytes for the same files; it keeps that file's name, and with it the model's format. The
device unpacks it (harness/agent/bundles.py). A model that is a bundle already is taken as it is: that is how
a recorded baseline keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import cache
from harness.errors import ConfigError
from harness.model import Artifact, ModelCase, OptionValue
from harness.runtimes import RuntimeDescriptor
from harness.store.atomic import disk_errors

# "ustar" of a tar's first header (POSIX.1-1988, pax: ustar Interchange Format)
_MAGIC = (257, b"ustar")
_CHUNK_BYTES = 1 << 20


def with_all_files(case: ModelCase, found: RuntimeDescriptor) -> ModelCase:
    """Return `case` with an artifact of all the files that its runtime reads. Raises ConfigError."""
    artifact = case.artifact
    if found.files is None:
        return case
    if is_bundle(artifact.path):
        return replace(case, artifact=_opened(artifact))
    paths = files_of(artifact.path, case.options, found)
    if len(paths) == 1:
        return case
    return replace(case, artifact=pack(artifact, paths))


def files_of(path: Path, options: Mapping[str, OptionValue], found: RuntimeDescriptor) -> tuple[Path, ...]:
    """Return all files of the model at `path`, that one first. Raises ConfigError where one can't be read."""
    if found.files is None or is_bundle(path):
        return (path,)
    others = [other for other in found.files(path, options) if other != path]
    for other in others:
        if not os.access(other, os.R_OK) or not other.is_file():
            raise ConfigError(
                f"runtime `{found.name}` needs it beside {path.name}, and it can't be read.", where=str(other)
            )
    names = [other.name for other in (path, *others)]
    if len(set(names)) != len(names):
        raise ConfigError(f"two files of the model are called the same: {', '.join(names)}", where=str(path))
    return (path, *others)


def is_bundle(path: Path) -> bool:
    """Return whether a file is a tar; False for one that can't be read."""
    offset, magic = _MAGIC
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(len(magic)) == magic
    except OSError:
        return False


def pack(artifact: Artifact, paths: Sequence[Path]) -> Artifact:
    """Return `artifact` as a bundle of `paths`, kept in the host's cache. Raises ConfigError."""
    folder = cache.folder(cache.BUNDLES)
    staging = folder / f".making-{os.getpid()}"
    try:
        _write_tar(staging, paths)
        with staging.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = staging.stat().st_size
        target = folder / sha256 / artifact.path.name
        with disk_errors(target), cache.lock(f"bundle-{sha256[:24]}"):
            while not cache.use(target.parent):
                target.parent.mkdir(exist_ok=True)
            if not target.is_file() or target.stat().st_size != size_bytes:
                staging.rename(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            staging.unlink()
    return replace(
        artifact,
        path=target,
        sha256=sha256,
        size_bytes=size_bytes,
        files=tuple(path.name for path in paths),
        sources=tuple(paths),
        files_bytes=sum(path.stat().st_size for path in paths),
    )


def _write_tar(target: Path, paths: Sequence[Path]) -> None:
    with disk_errors(target), target.open("wb") as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in paths:
                info = tarfile.TarInfo(path.name)
                info.mode = 0o644  # and no owner or date: the same bytes for the same files
                with path.open("rb") as file:
                    info.size = os.fstat(file.fileno()).st_size
                    tar.addfile(info, file)
        raw.flush()
        os.fsync(raw.fileno())


def _opened(artifact: Artifact) -> Artifact:
    """Return the artifact of a bundle that was given as one. Raises ConfigError."""
    try:
        with tarfile.open(artifact.path, "r:") as tar:
            members = [member for member in tar if member.isfile()]
    except (tarfile.TarError, EOFError) as error:
        raise ConfigError(
            f"it looks like a tar and can't be read as one: {error}.", where=str(artifact.path)
        ) from error
    if not members:
        raise ConfigError(
            "it is a tar without files, expected the model's own first.", where=str(artifact.path)
        )
    names = tuple(member.name for member in members)
    return replace(artifact, files=names, files_bytes=sum(member.size for member in members))


def artifact_settings(artifact: Artifact) -> dict[str, Any]:
    """Return what a run's settings say of where its model was; of a bundle, of what it was made too."""
    told: dict[str, Any] = {"artifact_path": str(artifact.path)}
    if artifact.files:
        told["artifact_files"] = [str(path) for path in artifact.sources] or list(artifact.files)
    return told
