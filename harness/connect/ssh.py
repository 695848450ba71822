"""A board reached over SSH: commands on channels, files over SFTP, a dead peer noticed in seconds."""

from __future__ import annotations

import contextlib
import posixpath
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.connect import files
from harness.connect.base import Completed, Progress
from harness.connect.sftp import SftpFiles
from harness.connect.ssh_open import Link, open_link
from harness.connect.ssh_process import SshProcess, connection_lost
from harness.connect.streams import STDERR_TAIL_BYTES, Deadline, check_argv, run_to_end
from harness.errors import HarnessError
from harness.model import SshAddress

_HOME_TIMEOUT_S = 30.0


class SshConnection:
    """The contract of `base.Connection`, over one SSH connection that is open from the start.

    `home` is the device's folder for the harness; None stands for `.harness` in the login folder.
    `hermetic` leaves the user's own SSH configuration, agent and known_hosts aside (emulated boards);
    without `keep_alive` a peer that goes silent is noticed by deadlines alone.
    """

    def __init__(
        self,
        device_name: str,
        address: SshAddress,
        *,
        home: str | None = None,
        hermetic: bool = False,
        keep_alive: bool = True,
    ) -> None:
        self._device_name = device_name
        self._configured_home = home
        self._home: str | None = None
        self._link: Link = open_link(device_name, address, hermetic=hermetic)
        self._files = SftpFiles(self._link, device_name)
        self._processes: weakref.WeakSet[SshProcess] = weakref.WeakSet()
        if not keep_alive:
            self._link.watch.mute()

    @property
    def device_name(self) -> str:
        return self._device_name

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        command = check_argv(argv, env, self.device_name)
        deadline = Deadline(timeout_s)
        process = self._start(command, env, stderr_limit_bytes=None)
        return run_to_end(
            process, command, stdin=stdin, deadline=deadline, where=self.device_name, check=check
        )

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> SshProcess:
        return self._start(check_argv(argv, env, self.device_name), env, stderr_limit_bytes=STDERR_TAIL_BYTES)

    def _start(
        self, argv: tuple[str, ...], env: Mapping[str, str] | None, *, stderr_limit_bytes: int | None
    ) -> SshProcess:
        if self._link.lost() is not None:
            raise connection_lost(self._link, self.device_name)
        process = SshProcess(
            self._link, argv, where=self.device_name, env=env, stderr_limit_bytes=stderr_limit_bytes
        )
        self._processes.add(process)
        return process

    def push(self, source: Path, target: str, *, timeout_s: float, progress: Progress | None = None) -> None:
        files.check_absolute(target, self.device_name)
        self._files.push(source, target, Deadline(timeout_s), progress)

    def pull(self, source: str, target: Path, *, timeout_s: float, progress: Progress | None = None) -> None:
        files.check_absolute(source, self.device_name)
        self._files.pull(source, target, Deadline(timeout_s), progress)

    def home(self) -> str:
        if self._home is None:
            configured = self._configured_home or "~/.harness"
            if configured == "~" or configured.startswith("~/"):
                login_folder = self._files.home_folder(Deadline(_HOME_TIMEOUT_S))
                configured = posixpath.join(login_folder, configured.removeprefix("~").removeprefix("/"))
            files.check_absolute(configured, self.device_name)
            self.run(["mkdir", "-p", "--", configured], timeout_s=_HOME_TIMEOUT_S)
            self._home = posixpath.normpath(configured)
        return self._home

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Send no keep-alives inside the block, where they would wake a CPU that is being measured.

        Whoever waits inside must rely on deadlines: a dead peer goes unnoticed until the block ends.
        """
        with self._link.watch.quiet():
            yield

    def close(self) -> None:
        """End every process that is still open, then the connection, also when an end fails."""
        first: HarnessError | None = None
        for process in list(self._processes):
            try:
                process.close()
            except HarnessError as error:
                first = first or error
        self._files.close()
        self._link.close()
        if first is not None:
            raise first
