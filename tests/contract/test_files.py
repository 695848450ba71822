"""Files over every connection: whole or not at all, any name, any size, and what failure leaves behind."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bench import Bench

from harness.connect.base import Connection
from harness.errors import ConfigError, DeadlineExceeded, DeviceError, DeviceFull, HostSetupError

LONG_S = 600.0  # only ends what hangs
MIB = 1 << 20
ODD_NAMES = [
    "two words",
    "quote' and \" and `",
    "$(touch x) $HOME ;&|",
    "line\nbreak",
    "-rf",
    "ünïcode ✓",
    "*?[a]",
    "back\\slash",
    "n" * 255,
]


def names(bench: Bench, folder: str) -> list[str]:
    """Return every name in a folder of the device."""
    found = bench.connection.run(["find", folder, "-mindepth", "1", "-printf", "%P\\0"], timeout_s=LONG_S)
    return sorted(os.fsdecode(name) for name in found.stdout.split(b"\0")[:-1])


def remote_sha256(bench: Bench, path: str) -> str:
    return bench.connection.run(["sha256sum", "-b", path], timeout_s=LONG_S).stdout.decode().split()[0]


def make_sparse(path: Path, size_bytes: int) -> str:
    """Write a file with random blocks in a sea of zeros, cheap to make and to keep; return its SHA-256."""
    source = random.Random(20)
    with open(path, "wb") as out:
        out.truncate(size_bytes)
        for offset in range(0, size_bytes - 8192, 8 * MIB - 5):
            out.seek(offset)
            out.write(source.randbytes(8192))
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.mark.parametrize("size", [0, 1, 32768, 32769, 3 * MIB + 7])
def test_there_and_back(bench: Bench, folder: str, tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (tmp_path / "out").write_bytes(content)
    bench.connection.push(tmp_path / "out", f"{folder}/file", timeout_s=LONG_S)
    bench.connection.pull(f"{folder}/file", tmp_path / "back", timeout_s=LONG_S)
    assert (tmp_path / "back").read_bytes() == content
    assert names(bench, folder) == ["file"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "out"]


def test_a_big_file(bench: Bench, folder: str, tmp_path: Path) -> None:
    # an emulated board takes a second for some MB: 16 MB are several of SSH's windows too (2 MiB, paramiko)
    size = 16_000_000 if bench.kind == "qemu" else 100_000_000
    digest = make_sparse(tmp_path / "out", size)
    seen: list[tuple[int, int]] = []
    bench.connection.push(
        tmp_path / "out", f"{folder}/big", timeout_s=LONG_S, progress=lambda *done: seen.append(done)
    )
    assert remote_sha256(bench, f"{folder}/big") == digest
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)
    seen.clear()
    bench.connection.pull(
        f"{folder}/big", tmp_path / "back", timeout_s=LONG_S, progress=lambda *done: seen.append(done)
    )
    with open(tmp_path / "back", "rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == digest
    assert seen[-1] == (size, size)


def test_odd_names(bench: Bench, folder: str, tmp_path: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        (tmp_path / "source").write_bytes(b"%d" % number)
        bench.connection.push(tmp_path / "source", f"{folder}/{name}", timeout_s=LONG_S)
    assert names(bench, folder) == sorted(ODD_NAMES)
    for number, name in enumerate(ODD_NAMES):
        bench.connection.pull(f"{folder}/{name}", tmp_path / name, timeout_s=LONG_S)
        assert (tmp_path / name).read_bytes() == b"%d" % number


def test_push_replaces_and_is_readable(bench: Bench, folder: str, tmp_path: Path) -> None:
    for content in (b"old, and longer", b"new"):
        (tmp_path / "source").write_bytes(content)
        bench.connection.push(tmp_path / "source", f"{folder}/file", timeout_s=LONG_S)
    assert bench.connection.run(["cat", f"{folder}/file"], timeout_s=LONG_S).stdout == b"new"
    assert names(bench, folder) == ["file"]


class _Stop(Exception):
    pass


def _stop(done: int, total: int) -> None:
    raise _Stop


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"timeout_s": LONG_S, "progress": _stop}, _Stop), ({"timeout_s": 0.005}, DeadlineExceeded)],
    ids=["interrupted", "deadline"],
)
def test_an_unfinished_push_leaves_the_old_file(
    bench: Bench, folder: str, tmp_path: Path, limits: dict[str, object], error: type[Exception]
) -> None:
    bench.connection.run(["tee", f"{folder}/file"], stdin=b"old", timeout_s=LONG_S)
    make_sparse(tmp_path / "source", 64 * MIB)
    with pytest.raises(error):
        bench.connection.push(tmp_path / "source", f"{folder}/file", **limits)  # type: ignore[arg-type]
    assert bench.connection.run(["cat", f"{folder}/file"], timeout_s=LONG_S).stdout == b"old"
    assert names(bench, folder) == ["file"]


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"timeout_s": LONG_S, "progress": _stop}, _Stop), ({"timeout_s": 0.005}, DeadlineExceeded)],
    ids=["interrupted", "deadline"],
)
def test_an_unfinished_pull_leaves_the_old_file(
    bench: Bench, folder: str, tmp_path: Path, limits: dict[str, object], error: type[Exception]
) -> None:
    bench.connection.run(["truncate", "-s", "64M", f"{folder}/file"], timeout_s=LONG_S)
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(error):
        bench.connection.pull(f"{folder}/file", tmp_path / "file", **limits)  # type: ignore[arg-type]
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    bench.connection.pull("/etc/hostname", tmp_path / "file", timeout_s=LONG_S)  # still usable


def test_push_into_a_missing_folder(bench: Bench, folder: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(DeviceError, match="folder doesn't exist") as caught:
        bench.connection.push(tmp_path / "source", f"{folder}/missing/file", timeout_s=LONG_S)
    assert not getattr(caught.value, "__notes__", None)


def test_push_onto_a_folder(bench: Bench, folder: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    bench.connection.run(["mkdir", f"{folder}/sub"], timeout_s=LONG_S)
    with pytest.raises(DeviceError, match=r"can't write .*(folder|directory)"):
        bench.connection.push(tmp_path / "source", f"{folder}/sub", timeout_s=LONG_S)
    assert names(bench, folder) == ["sub"]


@pytest.mark.parametrize("source", ["/no/such/file", "/etc"], ids=["missing", "a folder"])
def test_pull_of_what_is_no_file(bench: Bench, tmp_path: Path, source: str) -> None:
    with pytest.raises(DeviceError, match="can't read") as caught:
        bench.connection.pull(source, tmp_path / "back", timeout_s=LONG_S)
    assert caught.value.where == bench.connection.device_name
    assert list(tmp_path.iterdir()) == []


def test_push_of_a_missing_file(bench: Bench, folder: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't read"):
        bench.connection.push(tmp_path / "missing", f"{folder}/file", timeout_s=LONG_S)


def test_pull_into_a_missing_folder(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(HostSetupError, match="on this host"):
        bench.connection.pull("/etc/hostname", tmp_path / "missing" / "file", timeout_s=LONG_S)


@pytest.mark.parametrize("path", ["relative/file", "~/file", "", "/a\0b"])
def test_paths_on_the_device_are_absolute(bench: Bench, tmp_path: Path, path: str) -> None:
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(ConfigError, match="absolute"):
        bench.connection.push(tmp_path / "source", path, timeout_s=LONG_S)
    with pytest.raises(ConfigError, match="absolute"):
        bench.connection.pull(path, tmp_path / "back", timeout_s=LONG_S)


@contextmanager
def small_disk(bench: Bench, folder: str) -> Iterator[tuple[Connection, str]]:
    """Yield a connection and a folder of the device that is a file system of 2 MiB."""
    if bench.kind != "qemu" and os.geteuid() != 0:
        pytest.skip("only root can mount a small disk on this host; sftp's words are in the unit tests")
    root = bench.open(root=True)
    disk = f"{folder}/disk"
    try:
        root.run(["mkdir", disk], timeout_s=LONG_S)
        root.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=1777", "tmpfs", disk], timeout_s=LONG_S)
        try:
            yield bench.connection, disk
        finally:
            root.run(["umount", disk], timeout_s=LONG_S)
    finally:
        root.close()


def _too_big_from_the_start(connection: Connection, disk: str) -> int:
    return 3 * MIB


def _too_big_once_sent(connection: Connection, disk: str) -> int:
    filler = f"head -c {2 * MIB - 100_000} /dev/zero >{disk}/filler"
    connection.run(["sh", "-c", filler], timeout_s=LONG_S)
    return 512 * 1024


@pytest.mark.parametrize("prepare", [_too_big_from_the_start, _too_big_once_sent])
def test_a_full_disk(
    bench: Bench, folder: str, tmp_path: Path, prepare: Callable[[Connection, str], int]
) -> None:
    with small_disk(bench, folder) as (connection, disk):
        connection.run(["tee", f"{disk}/file"], stdin=b"old", timeout_s=LONG_S)
        size = prepare(connection, disk)
        (tmp_path / "source").write_bytes(bytes(size))
        before = names(bench, disk)
        with pytest.raises(DeviceFull, match=rf"needs {size} bytes"):
            connection.push(tmp_path / "source", f"{disk}/file", timeout_s=LONG_S)
        assert names(bench, disk) == before
        assert connection.run(["cat", f"{disk}/file"], timeout_s=LONG_S).stdout == b"old"
