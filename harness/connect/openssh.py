"""The command line of OpenSSH's client for a unit, with the same host keys trusted as in `ssh.py`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness.connect import hostkeys
from harness.errors import ConfigError
from harness.model import SshAddress


def ssh_argv(address: SshAddress, command: Sequence[str] = ()) -> list[str]:
    """Return the arguments that enter `address` by ssh, or run `command` there.

    A key pinned as `type base64` is handed over by KnownHostsCommand (OpenSSH 8.5), so that no file is
    written. Raises ConfigError for a pin that is only a fingerprint, which ssh has no option for.
    """
    argv = ["ssh", *_options(address)]
    if address.jump is not None:
        hop = [word.replace("%", "%%") for word in ssh_argv(address.jump)]
        argv += ["-o", f"ProxyCommand={shlex.join([*hop[:-1], '-W', '[%h]:%p', hop[-1]])}"]
    argv.append(f"{address.user}@{address.host}" if address.user else address.host)
    return [*argv, shlex.join(command)] if command else argv


def _options(address: SshAddress) -> list[str]:
    options = ["-o", "StrictHostKeyChecking=yes"]
    if address.port != hostkeys.DEFAULT_PORT:
        options += ["-p", str(address.port)]
    if address.identity_path is not None:
        options += ["-o", "IdentitiesOnly=yes", "-i", str(address.identity_path.expanduser())]
    if address.host_key is not None:
        options += _pin(address, address.host_key)
    elif address.known_hosts_path is not None:
        options += ["-o", f"UserKnownHostsFile={address.known_hosts_path.expanduser()}"]
    return options


def _pin(address: SshAddress, host_key: str) -> list[str]:
    key = hostkeys.parse_pin(host_key, address.host)
    if key.key_type is None:
        raise ConfigError(
            f"host_key = {host_key!r} is a fingerprint, and ssh takes none.",
            where=address.host,
            next_step="Pin the whole key: the line of /etc/ssh/ssh_host_ed25519_key.pub on the board.",
        )
    name = hostkeys.compute_host_name(address.host, address.port).replace("%", "%%")
    line = " ".join([name, *host_key.split()[:2]])
    return [
        *("-o", f"KnownHostsCommand=/bin/echo {line}"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "UpdateHostKeys=no"),
    ]
