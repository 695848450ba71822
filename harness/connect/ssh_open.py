"""Opens an authenticated SSH transport through fabric: host keys verified, no passwords, clear errors."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.config import SSHConfig

from harness.connect import hostkeys
from harness.connect.liveness import ListeningSocket, PeerWatch
from harness.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLost,
    DeviceError,
    HarnessError,
    HostKeyError,
    Unsupported,
)
from harness.model import SshAddress

# paramiko logs tracebacks of failures that are reported as errors here
logging.getLogger("paramiko").addHandler(logging.NullHandler())


@dataclass
class Link:
    """An open SSH connection to one host, with the one that it goes through, if any."""

    client: paramiko.SSHClient
    transport: paramiko.Transport
    watch: PeerWatch
    address: str  # "user@host:port", for messages
    reopen: Callable[[], Link]  # makes another connection like this one
    jump: Link | None = None

    def lost(self) -> str | None:
        """Return why the connection counts as lost, None while it works."""
        if self.watch.verdict is not None:
            return self.watch.verdict
        if self.transport.is_active():
            return None
        if self.jump is not None and (reason := self.jump.lost()) is not None:
            return f"the connection to its jump host {self.jump.address} is lost: {reason}"
        error = self.transport.get_exception()
        return f"the peer closed the connection ({error})" if error else "the peer closed the connection"

    def close(self) -> None:
        self.watch.stop()
        self.client.close()
        if self.jump is not None:
            self.jump.close()


class _Policy(paramiko.MissingHostKeyPolicy):
    """Hands every host key to our own check: the client itself is given no known keys at all."""

    def __init__(self, check: hostkeys.HostKeyCheck) -> None:
        self._check = check

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        self._check.verify(key.get_name(), key.asbytes())


def open_link(device_name: str, address: SshAddress, *, hermetic: bool = False) -> Link:
    """Return an open connection.

    `hermetic` leaves the user's own SSH set-up (config, agent, default identities, known_hosts) out of it.
    Raises HostKeyError, AuthenticationError, ConnectionLost, Unsupported or ConfigError.
    """
    jump = open_link(device_name, address.jump, hermetic=hermetic) if address.jump is not None else None
    try:
        return _open_host(device_name, address, jump, hermetic)
    except BaseException:
        if jump is not None:
            jump.close()
        raise


def _open_host(device_name: str, address: SshAddress, jump: Link | None, hermetic: bool) -> Link:
    connection = _prepare(device_name, address, hermetic)
    name = f"{connection.user}@{connection.host}:{connection.port}"
    check = _host_key_check(device_name, address, connection.host, connection.port, hermetic)
    connection.client.set_missing_host_key_policy(_Policy(check))
    sock: ListeningSocket | None = None
    try:
        if jump is None and isinstance(connection.gateway, fabric.Connection):
            jump = _open_configured_jump(device_name, connection.gateway, address, hermetic)
        sock = ListeningSocket(_open_socket(connection, jump, address.connect_timeout_s))
        connection.gateway = None  # the socket already goes through it
        connection.connect_kwargs.update(
            sock=sock,
            transport_factory=_transport_factory(check),
            allow_agent=not hermetic,
            look_for_keys=not hermetic and address.identity_path is None,
            banner_timeout=address.connect_timeout_s,
            auth_timeout=address.connect_timeout_s,
            channel_timeout=address.connect_timeout_s,
        )
        connection.open()
    except BaseException as error:
        connection.client.close()
        if sock is not None:
            sock.close()
        if isinstance(error, (OSError, EOFError, paramiko.SSHException)):
            raise _describe(error, device_name, name, connection, address) from error
        raise
    watch = PeerWatch(connection.transport, sock)
    watch.start()

    def reopen() -> Link:
        return open_link(device_name, address, hermetic=hermetic)

    return Link(connection.client, connection.transport, watch, name, reopen, jump)


def _prepare(device_name: str, address: SshAddress, hermetic: bool) -> fabric.Connection:
    """Return an unopened fabric connection; fabric's own configuration files are left out."""
    identity = address.identity_path.expanduser() if address.identity_path is not None else None
    if identity is not None and not identity.is_file():
        raise ConfigError(
            f"no identity file {identity}.",
            where=device_name,
            next_step="Correct `identity_path`, or leave it out: the keys of ssh-agent and ~/.ssh serve.",
        )
    try:
        config = fabric.Config(lazy=True, ssh_config=SSHConfig()) if hermetic else fabric.Config(lazy=True)
        if not hermetic:
            config.load_ssh_config()  # ~/.ssh/config and /etc/ssh/ssh_config
        return fabric.Connection(
            address.host,
            user=address.user,
            port=None if address.port == paramiko.config.SSH_PORT else address.port,
            config=config,
            gateway=False if address.jump is not None else None,
            connect_timeout=address.connect_timeout_s,
            connect_kwargs={"key_filename": [str(identity)]} if identity is not None else {},
        )
    except paramiko.ConfigParseError as error:
        raise ConfigError(f"can't read the SSH configuration: {error}", where=device_name) from error


def _open_configured_jump(
    device_name: str, gateway: fabric.Connection, address: SshAddress, hermetic: bool
) -> Link:
    """Open the ProxyJump of the user's ssh_config. Fabric itself would accept any host key there."""
    hop = SshAddress(
        host=gateway.original_host,
        port=gateway.port,
        user=gateway.user,
        known_hosts_path=address.known_hosts_path,
        connect_timeout_s=address.connect_timeout_s,
    )
    return open_link(device_name, hop, hermetic=hermetic)


def _host_key_check(
    device_name: str, address: SshAddress, host: str, port: int, hermetic: bool
) -> hostkeys.HostKeyCheck:
    name = hostkeys.compute_host_name(host, port)
    user_file = address.known_hosts_path or Path("~/.ssh/known_hosts")
    if address.host_key is not None:
        known = [hostkeys.parse_pin(address.host_key, device_name)]
    elif address.known_hosts_path is not None or hermetic:
        paths = [] if address.known_hosts_path is None else [address.known_hosts_path.expanduser()]
        known = hostkeys.read_known_keys(paths, name)
    else:
        known = hostkeys.read_known_keys([hostkeys.SYSTEM_KNOWN_HOSTS, user_file.expanduser()], name)
    pinned = address.host_key is not None
    return hostkeys.HostKeyCheck(device_name, name, tuple(known), pinned, user_file.expanduser())


def _transport_factory(check: hostkeys.HostKeyCheck) -> Any:
    def make(sock: Any, disabled_algorithms: Any = None) -> paramiko.Transport:
        transport = paramiko.Transport(sock, disabled_algorithms=disabled_algorithms)
        options = transport.get_security_options()
        options.key_types = hostkeys.order_key_types(options.key_types, check.known)
        return transport

    return make


def _open_socket(connection: fabric.Connection, jump: Link | None, timeout_s: float) -> Any:
    if jump is not None:
        return jump.transport.open_channel(
            "direct-tcpip", (connection.host, connection.port), ("", 0), timeout=timeout_s
        )
    if connection.gateway:
        return connection.open_gateway()  # a ProxyCommand of the user's ssh_config
    sock = socket.create_connection((connection.host, connection.port), timeout=timeout_s)
    # small frames go out at once; Nagle would hold the second of two back for up to 40 ms (as ssh does)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _describe(
    error: Exception, device_name: str, name: str, connection: fabric.Connection, address: SshAddress
) -> HarnessError:
    """Return the error of ours that says what went wrong while connecting."""
    if isinstance(error, paramiko.BadHostKeyException):
        return HostKeyError(f"{name}: {error}", where=device_name)
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error):
        return _describe_refusal(error, device_name, name, connection, address)
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return Unsupported(
            f"{name} shares no SSH algorithm with this host: {error}",
            where=device_name,
            next_step="Update the sshd on the board.",
        )
    reason, next_step = _explain(error, connection, address)
    return ConnectionLost(f"can't connect to {name}: {reason}.", where=device_name, next_step=next_step)


def _describe_refusal(
    error: Exception, device_name: str, name: str, connection: fabric.Connection, address: SshAddress
) -> DeviceError:
    files = connection.connect_kwargs.get("key_filename") or []
    tried = [str(file) for file in files]
    if connection.connect_kwargs.get("allow_agent"):
        tried.append("ssh-agent" if os.environ.get("SSH_AUTH_SOCK") else "no ssh-agent is running")
    if connection.connect_kwargs.get("look_for_keys"):
        tried.append("~/.ssh/id_*")
    what = f"{name} refuses us as `{connection.user}`; tried: {', '.join(tried)}. {error}"
    if isinstance(error, paramiko.PasswordRequiredException):
        key = files[0] if files else "the key"
        return AuthenticationError(
            f"{what.rstrip('.')}.", where=device_name, next_step=f"Unlock it in an agent: ssh-add {key}"
        )
    target = f"-p {connection.port} {connection.user}@{connection.host}"
    key = f"-i {files[0]} " if files else ""
    return AuthenticationError(
        f"{what.rstrip('.')}.",
        where=device_name,
        next_step="Set `user` and `identity_path` for this device, or install the key: "
        f"ssh-copy-id {key}{target}",
    )


_EXPLANATIONS = {
    errno.ECONNREFUSED: ("nothing listens on that port", "Check that sshd runs there, and the port."),
    errno.EHOSTUNREACH: ("there is no route to it", "Check its power, cable and address."),
    errno.ENETUNREACH: ("its network can't be reached", "Check this host's network."),
    errno.ECONNRESET: ("it reset the connection", "Check its sshd's log; it may still be booting."),
}


def _explain(error: Exception, connection: fabric.Connection, address: SshAddress) -> tuple[str, str]:
    """Return the reason and the next step of a failure to connect."""
    if isinstance(error, socket.gaierror):
        return f"its name can't be resolved ({error.strerror})", "Check the spelling, or use its IP address."
    if isinstance(error, paramiko.ChannelException):
        return f"its jump host can't reach it ({error.text})", "Try `ssh` from the jump host."
    if isinstance(error, TimeoutError):
        limit = f"{address.connect_timeout_s:g} s (connect_timeout_s)"
        return f"no answer within {limit}", "Check its power, cable and address."
    if isinstance(error, OSError) and error.errno in _EXPLANATIONS:
        return _EXPLANATIONS[error.errno]
    if isinstance(error, OSError):
        return error.strerror or str(error), "Check its power, cable and address."
    text = str(error) or type(error).__name__
    return f"it gave no usable SSH answer ({text})", "Check that sshd listens on that port and has booted."
