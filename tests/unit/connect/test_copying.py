"""Replacing a file whole, and what failures of copying are called. Scripted: full disks, shrinking files."""

from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path
from typing import Any

import paramiko
import pytest

from harness.connect import files
from harness.connect.sftp import SftpFiles
from harness.connect.streams import Deadline
from harness.errors import DeadlineExceeded, DeviceError, DeviceFull, HostSetupError


def test_replacing_publishes_only_what_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_half(target)
    assert target.read_bytes() == b"old"
    with files.replacing(target) as out:
        out.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def write_half(target: Path) -> None:
    with files.replacing(target) as out:
        out.write(b"half")
        raise ZeroDivisionError


def test_copy_writes_what_a_short_write_left() -> None:
    out = bytearray()

    def write_three(data: memoryview) -> int:
        out.extend(data[:3])
        return len(data[:3])

    files.copy(io.BytesIO(b"12345678"), write_three, 8, Deadline(5), None, "dev")
    assert bytes(out) == b"12345678"


def test_a_source_that_shrinks_is_an_error() -> None:
    with pytest.raises(DeviceError, match="changed while it was copied: 3 bytes, expected 5"):
        files.copy(io.BytesIO(b"123"), len, 5, Deadline(5), None, "dev")


def test_copy_past_its_deadline() -> None:
    with pytest.raises(DeadlineExceeded, match="0 of 3 bytes"):
        files.copy(io.BytesIO(b"123"), len, 3, Deadline(0), None, "dev")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOSPC, DeviceFull, "needs 9 bytes"),
        (errno.EDQUOT, DeviceFull, "needs 9 bytes"),
        (errno.ENOENT, DeviceError, "folder doesn't exist"),
        (errno.EACCES, DeviceError, "Permission denied"),
        (errno.EROFS, DeviceError, "Read-only"),
    ],
)
def test_what_a_failed_write_is_called(code: int, kind: type[DeviceError], words: str) -> None:
    error = files.device_write_error("dev", "/x", OSError(code, os.strerror(code)), 9)
    assert type(error) is kind
    assert words in str(error)


def test_this_hosts_disk_is_not_the_devices() -> None:
    error = files.host_write_error("dev", "/x", OSError(errno.ENOSPC, "No space left on device"), 9)
    assert isinstance(error, HostSetupError)


class _Attributes:
    st_mode = 0o100644


class ScriptedSftp:
    """A server that says `Failure`, and how much room it has."""

    def __init__(self, free_blocks: int) -> None:
        self.free_blocks = free_blocks

    def stat(self, path: bytes) -> _Attributes:
        return _Attributes()

    def _request(self, *args: Any) -> Any:
        class Reply:
            def get_bytes(self, size: int, free: int = self.free_blocks) -> bytes:
                return struct.pack(">11Q", 512, 4096, 1000, free + 50, free, 0, 0, 0, 0, 0, 0)

        return 201, Reply()


class _Link:
    def lost(self) -> None:
        return None


@pytest.mark.parametrize(("free_blocks", "kind"), [(1, DeviceFull), (1000, DeviceError)])
def test_sftp_says_failure_of_a_full_disk(free_blocks: int, kind: type[DeviceError]) -> None:
    link: Any = _Link()
    sftp: Any = ScriptedSftp(free_blocks)
    error = SftpFiles(link, "dev")._describe_write(sftp, "/d/x", "/d", 9000, OSError("Failure"))
    assert type(error) is kind


class CutFile:
    """A remote file whose reading passes the deadline in the middle of a packet: what follows is garbage."""

    def stat(self) -> Any:
        return type("Attributes", (), {"st_mode": 0o100644, "st_size": 9000})()

    def readv(self, requests: Any) -> Any:
        raise TimeoutError

    def close(self) -> None:
        raise paramiko.SFTPError("Garbage packet received")


class CutSftp:
    """A server with that one file; notes that its session was dropped."""

    closed = False

    def open(self, path: bytes, mode: str) -> CutFile:
        return CutFile()

    def get_channel(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def test_garbage_after_a_deadline_does_not_hide_it(tmp_path: Path) -> None:
    link: Any = _Link()
    it, sftp = SftpFiles(link, "dev"), CutSftp()
    it._client = sftp  # type: ignore[assignment]
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DeadlineExceeded, match="has not finished"):
        it.pull("/d/file", tmp_path / "file", Deadline(0.005), None)
    assert sftp.closed
    assert (tmp_path / "file").read_bytes() == b"old"
