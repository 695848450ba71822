"""A real sshd on loopback with its own host key, for as long as a `with` block lasts.

Needs openssh-server's binary, but no service, no account and no right beyond the caller's own: it lets in
the user who runs the tests, by a key made for the purpose.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.model import SshAddress

_PRIVILEGE_SEPARATION_FOLDER = Path("/run/sshd")  # compiled into Debian's sshd; needed when root starts it
_START_TIMEOUT_S = 120.0  # only ends what hangs


@dataclass(frozen=True)
class Sshd:
    """A running server and what a client needs to reach it."""

    host: str
    port: int
    user: str
    identity: Path
    host_key: str  # "ssh-ed25519 AAAA…"
    folder: Path
    pid: int

    def address(self, **changes: object) -> SshAddress:
        """Return an address with the host key pinned; `changes` replace its fields."""
        fields: dict[str, object] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "identity_path": self.identity,
            "host_key": self.host_key,
            **changes,
        }
        return SshAddress(**fields)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def sessions_stopped(self) -> Iterator[None]:
        """Stop the server's side of every open connection; the listener goes on."""
        stopped = self._sessions()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def end_sessions(self) -> None:
        """Kill the server's side of every open connection; the listener goes on."""
        for pid in self._sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _sessions(self) -> list[int]:
        return [pid for pid in _descendants(self.pid) if _name(pid).startswith("sshd")]


def make_key(path: Path, passphrase: str = "") -> str:
    """Make an ed25519 key pair; return the public half as `type base64`."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", str(path)],
        check=True,
        timeout=_START_TIMEOUT_S,
    )
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


@contextlib.contextmanager
def running_sshd(folder: Path, *, extra: tuple[str, ...] = ()) -> Iterator[Sshd]:
    """Yield a server whose files live in `folder`; `extra` are lines for its sshd_config."""
    binary = find_sshd()
    identity, host_key_path = folder / "identity", folder / "host_key"
    make_key(identity)
    host_key = make_key(host_key_path)
    (folder / "authorized_keys").write_text((folder / "identity.pub").read_text())
    config = folder / "sshd_config"
    with _free_port() as port, open(folder / "log", "wb") as log:
        config.write_text("\n".join((*_CONFIG, *extra)).format(folder=folder, port=port) + "\n")
        process = subprocess.Popen([binary, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
        try:
            _wait_for_banner(process, port, folder / "log")
        except BaseException:
            process.kill()
            process.wait()
            raise
    try:
        yield Sshd("127.0.0.1", port, getpass.getuser(), identity, host_key, folder, process.pid)
    finally:
        children = _descendants(process.pid)
        process.terminate()
        process.wait(timeout=_START_TIMEOUT_S)
        for pid in children:  # open sessions outlive the listener
            with contextlib.suppress(ProcessLookupError):
                if _name(pid).startswith("sshd"):
                    os.kill(pid, signal.SIGKILL)


_CONFIG = (
    "Port {port}",
    "ListenAddress 127.0.0.1",
    "HostKey {folder}/host_key",
    "PidFile none",
    "AuthorizedKeysFile {folder}/authorized_keys",
    "StrictModes no",
    "PermitRootLogin prohibit-password",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "UsePAM no",
    "UseDNS no",
    "PrintMotd no",
    "SetEnv HOME={folder}",  # the user's own ~/.bashrc stays out of it
    "Subsystem sftp internal-sftp",
)


def find_sshd() -> str:
    """Return the server's absolute path, which sshd insists on being started by."""
    binary = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise FileNotFoundError("no sshd on this host: install it with `apt-get install openssh-server`")
    if os.geteuid() == 0:
        _PRIVILEGE_SEPARATION_FOLDER.mkdir(mode=0o755, exist_ok=True)
    return binary


def _wait_for_banner(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as probe:
                if probe.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"sshd did not start: {log.read_text()}")


@contextlib.contextmanager
def _free_port() -> Iterator[int]:
    """Yield a port that nobody else is given inside the block; whoever asks for it by SO_REUSEADDR, as sshd
    does, may listen there (socket(7))."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, queue = [], [pid]
    while queue:
        queue += (more := children.get(queue.pop(), []))
        found += more
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
