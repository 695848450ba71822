"""Files over SFTP: pipelined, under a temporary name first, sizes verified, a full disk told apart.

One client per connection is kept; after a failure it is dropped, because answers to requests sent ahead
may still be on their way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.sftp import CMD_EXTENDED

from harness.connect import files
from harness.connect.base import Progress
from harness.connect.shield import shielded
from harness.connect.ssh_open import Link
from harness.connect.ssh_process import connection_lost, open_channel
from harness.connect.streams import Deadline
from harness.errors import ConnectionLost, DeadlineExceeded, DeviceError, HarnessError

_REQUEST_BYTES = 32 << 10  # what every server takes in one request (SFTP version 3, section 3)
_CHECK_SPACE_ABOVE_BYTES = 1 << 20  # a smaller file isn't worth a round trip before it is sent
_UNLINK_TIMEOUT_S = 10.0
_SETTLE_S = 0.1  # a transport ends a moment after its channels
# OpenSSH PROTOCOL, 4.4: eleven uint64 follow a statvfs reply's id; the second is f_frsize, the fifth f_bavail
_STATVFS = struct.Struct(">11Q")


class SftpFiles:
    """Push and pull for one connection."""

    def __init__(self, link: Link, where: str) -> None:
        self._link, self._where = link, where
        self._lock = threading.Lock()
        self._client: paramiko.SFTPClient | None = None

    def push(self, source: Path, target: str, deadline: Deadline, progress: Progress | None) -> None:
        shielded(lambda report: self._push(source, target, deadline, report), progress)

    def pull(self, source: str, target: Path, deadline: Deadline, progress: Progress | None) -> None:
        shielded(lambda report: self._pull(source, target, deadline, report), progress)

    def _push(self, source: Path, target: str, deadline: Deadline, progress: Progress) -> None:
        with files.open_source(source) as stream, self._lock:
            size_bytes = os.fstat(stream.fileno()).st_size
            folder = posixpath.dirname(target)
            temporary = _encode(posixpath.join(folder, files.temporary_name()))
            try:
                with self._session(target, deadline) as sftp:
                    self._check_space(sftp, target, folder, size_bytes)
                    try:
                        self._upload(sftp, stream, temporary, size_bytes, deadline, progress)
                        sftp.posix_rename(temporary, _encode(target))
                    except TimeoutError:  # an OSError too, but of the deadline: `_session` tells it
                        raise
                    except OSError as error:
                        raise self._describe_write(sftp, target, folder, size_bytes, error) from error
            except BaseException as error:
                self._remove(temporary, error)
                raise

    def _pull(self, source: str, target: Path, deadline: Deadline, progress: Progress) -> None:
        with self._lock, self._session(source, deadline) as sftp:
            path = _encode(source)
            try:
                remote = sftp.open(path, "rb")
            except TimeoutError:
                raise
            except OSError as error:
                raise files.device_read_error(self._where, source, error) from error
            with _closing(remote):
                attributes = remote.stat()
                if not stat.S_ISREG(attributes.st_mode or stat.S_IFREG):
                    irregular = OSError(errno.EINVAL, "not a regular file")
                    raise files.device_read_error(self._where, source, irregular)
                size_bytes = attributes.st_size or 0
                reader = _RemoteReader(remote, sftp, deadline, self, source, size_bytes)
                try:
                    with files.replacing(target) as out:
                        files.copy(reader, out.write, size_bytes, deadline, progress, self._where)
                except TimeoutError:
                    raise
                except OSError as error:
                    raise files.host_write_error(self._where, str(target), error, size_bytes) from error

    def home_folder(self, deadline: Deadline) -> str:
        """Return the absolute path of the login folder."""
        with self._lock, self._session(".", deadline) as sftp:
            return sftp.normalize(".")

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            # closing writes to the peer, which may be gone: that is told by whoever needed it
            with contextlib.suppress(paramiko.SSHException, paramiko.SFTPError, EOFError, OSError):
                client.close()

    @contextlib.contextmanager
    def _session(self, path: str, deadline: Deadline) -> Iterator[paramiko.SFTPClient]:
        """Yield the client with its channel under `deadline`; any error but the device's refusal drops it."""
        try:
            if self._client is None:
                channel = open_channel(self._link, self._where)
                channel.settimeout(max(0.01, deadline.remaining_s()))
                channel.invoke_subsystem("sftp")
                self._client = paramiko.SFTPClient(channel)
            _set_timeout(self._client, deadline)
            yield self._client
        except TimeoutError as error:
            self.close()
            raise self._no_headway(path, deadline) from error
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            self.close()
            raise self._describe_end(error) from error
        except BaseException:
            self.close()
            raise

    def _describe_end(self, error: BaseException) -> ConnectionLost | DeviceError:
        self._link.transport.join(_SETTLE_S)
        if self._link.lost() is not None:
            return connection_lost(self._link, self._where, error)
        return DeviceError(
            f"{self._link.address}: SFTP failed: {str(error) or type(error).__name__}.",
            where=self._where,
            next_step="Check that its sshd_config has a working `Subsystem sftp`.",
        )

    def _upload(
        self,
        sftp: paramiko.SFTPClient,
        stream: files.Readable,
        temporary: bytes,
        size_bytes: int,
        deadline: Deadline,
        progress: Progress | None,
    ) -> None:
        with _closing(sftp.open(temporary, "wx")) as out:
            sent_bytes = 0

            def write(data: memoryview) -> None:
                nonlocal sent_bytes
                _set_timeout(sftp, deadline)
                sent_bytes += len(data)
                # paramiko looks at the answers to pipelined writes only in a write that isn't; the last is
                tail = min(len(data), _REQUEST_BYTES) if sent_bytes >= size_bytes else 0
                out.set_pipelined(True)
                out.write(bytes(data[: len(data) - tail]))
                out.set_pipelined(False)
                out.write(bytes(data[len(data) - tail :]))

            files.copy(stream, write, size_bytes, deadline, progress, self._where)
            _sync(sftp, out.handle)
        stored = sftp.stat(temporary).st_size
        if stored != size_bytes:
            raise OSError(f"{stored} bytes arrived, expected {size_bytes}")

    def _check_space(self, sftp: paramiko.SFTPClient, target: str, folder: str, size_bytes: int) -> None:
        if size_bytes > _CHECK_SPACE_ABOVE_BYTES:
            free_bytes = _read_free_bytes(sftp, folder)
            if free_bytes is not None and free_bytes < size_bytes:
                raise files.device_full(self._where, target, size_bytes, free_bytes)

    def _describe_write(
        self, sftp: paramiko.SFTPClient, target: str, folder: str, size_bytes: int, error: OSError
    ) -> DeviceError | OSError:
        """Return what a failed write means. SFTP version 3 says no more than `Failure` of a full disk."""
        if isinstance(error, TimeoutError) or self._link.lost() is not None:
            return error
        if error.errno is None:
            free_bytes = _read_free_bytes(sftp, folder)
            if free_bytes is not None and free_bytes < size_bytes:
                return files.device_full(self._where, target, size_bytes, free_bytes)
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISDIR(sftp.stat(_encode(target)).st_mode or 0):
                    return files.device_write_error(
                        self._where, target, IsADirectoryError(errno.EISDIR, "it is a folder"), size_bytes
                    )
        return files.device_write_error(self._where, target, error, size_bytes)

    def describe_read(self, source: str, error: OSError, deadline: Deadline) -> HarnessError:
        """Return what a failed read of the remote file means."""
        if isinstance(error, TimeoutError):
            return self._no_headway(source, deadline)
        self._link.transport.join(_SETTLE_S)
        if self._link.lost() is not None:
            return connection_lost(self._link, self._where, error)
        return files.device_read_error(self._where, source, error)

    def _no_headway(self, path: str, deadline: Deadline) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{path!r}: SFTP has not finished after {deadline.limit_s:g} s "
            f"(timeout_s = {deadline.limit_s:g}).",
            where=self._where,
            next_step="Check the link, or allow more time.",
        )

    def _remove(self, temporary: bytes, error: BaseException) -> None:
        """Remove what a failed push left, over a fresh session. Never hides the push's own error."""
        if self._link.lost() is not None:
            return
        try:
            with (
                self._session("temporary file", Deadline(_UNLINK_TIMEOUT_S)) as sftp,
                contextlib.suppress(FileNotFoundError),  # the push failed before it was made
            ):
                sftp.remove(temporary)
        except HarnessError as second:
            error.add_note(f"the partial copy {temporary!r} stays on the device: {second}")


class _RemoteReader:
    """Reads a remote file front to back, with whatever is left of the deadline as the limit of each wait,
    and tells the device's errors from the host's, which are both OSError."""

    def __init__(
        self,
        remote: paramiko.SFTPFile,
        sftp: paramiko.SFTPClient,
        deadline: Deadline,
        owner: SftpFiles,
        source: str,
        size_bytes: int,
    ) -> None:
        self._remote, self._sftp, self._deadline = remote, sftp, deadline
        self._owner, self._source = owner, source
        self._offset, self._size_bytes = 0, size_bytes

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes or what is left, all requested at once.

        paramiko's prefetch of a whole file can't be stopped: its thread dies noisily when a pull is
        abandoned.
        """
        end = min(self._size_bytes, self._offset + size)
        requests = [
            (offset, min(_REQUEST_BYTES, end - offset)) for offset in range(self._offset, end, _REQUEST_BYTES)
        ]
        _set_timeout(self._sftp, self._deadline)
        try:
            data = b"".join(self._remote.readv(requests)) if requests else b""
        except OSError as error:
            raise self._owner.describe_read(self._source, error, self._deadline) from error
        self._offset += len(data)
        return data


@contextlib.contextmanager
def _closing(remote: paramiko.SFTPFile) -> Iterator[paramiko.SFTPFile]:
    """Close a remote file in the end; what goes wrong in that never hides the error that came first.

    After a deadline in the middle of a packet the rest of the stream reads as garbage; the session is
    dropped then anyway.
    """
    try:
        yield remote
    except BaseException:
        with contextlib.suppress(paramiko.SSHException, paramiko.SFTPError, EOFError, OSError):
            remote.close()
        raise
    remote.close()


def _set_timeout(sftp: paramiko.SFTPClient, deadline: Deadline) -> None:
    channel = sftp.get_channel()
    if channel is not None:
        channel.settimeout(max(0.01, deadline.remaining_s()))


def _encode(path: str) -> bytes:
    """Return a path's bytes. Linux names are bytes; Python carries the odd ones as surrogates."""
    return path.encode("utf-8", "surrogateescape")


def _read_free_bytes(sftp: paramiko.SFTPClient, folder: str) -> int | None:
    """Return what an unprivileged user may still write there, None if the server can't say."""
    try:
        _, reply = _request(sftp, "statvfs@openssh.com", _encode(folder or "/"))
    except TimeoutError:
        raise
    except OSError:
        return None  # unsupported, or no such folder, which the write itself reports
    fields = _STATVFS.unpack(reply.get_bytes(_STATVFS.size))
    return int(fields[1]) * int(fields[4])


def _sync(sftp: paramiko.SFTPClient, handle: Any) -> None:
    """Have the server write a file to disk, where it can: only OpenSSH's own server knows how."""
    try:
        _request(sftp, "fsync@openssh.com", handle)
    except OSError as error:
        # version 3 of the protocol gives the reason as text alone
        if "unsupported" not in str(error).lower():
            raise


def _request(sftp: Any, extension: str, argument: Any) -> Any:
    """Return the reply to one of OpenSSH's extensions, which paramiko has no public call for."""
    return sftp._request(CMD_EXTENDED, extension, argument)
