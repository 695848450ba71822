"""Which SSH host keys are trusted for a host, and what to say when the one we met is not.

A key is trusted because devices.toml pins it or because known_hosts lists it (sshd(8), SSH_KNOWN_HOSTS
FILE FORMAT). Nothing is ever added here: an unknown key is refused with the line that would pin it.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, HostKeyError

SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")  # RFC 8332: how an `ssh-rsa` key is offered today
DEFAULT_PORT = 22
_SHOW_KEY = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"


@dataclass(frozen=True)
class KnownKey:
    """A key that a file or devices.toml lists. A pinned fingerprint has neither `key_type` nor `blob`."""

    key_type: str | None
    blob: bytes | None
    fingerprint: str
    origin: str  # for messages: "~/.ssh/known_hosts:12", "host_key in devices.toml"
    revoked: bool = False


def compute_fingerprint(blob: bytes) -> str:
    """Return OpenSSH's notation of a public key: SHA256: and unpadded base64 (ssh-keygen -l)."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def compute_host_name(host: str, port: int) -> str:
    """Return the name under which known_hosts lists a host."""
    return host.lower() if port == DEFAULT_PORT else f"[{host.lower()}]:{port}"


def parse_pin(text: str, where: str) -> KnownKey:
    """Return the key that devices.toml pins: `SHA256:…` or `ssh-ed25519 AAAA…`. Raises ConfigError."""
    fields = text.split()
    if len(fields) == 1 and fields[0].startswith("SHA256:"):
        digest = fields[0].removeprefix("SHA256:").rstrip("=")
        if len(_decode(digest) or b"") == hashlib.sha256().digest_size:
            return KnownKey(None, None, f"SHA256:{digest}", "host_key of this device")
    elif len(fields) >= 2 and (blob := _decode_key(fields[0], fields[1])) is not None:
        return KnownKey(fields[0], blob, compute_fingerprint(blob), "host_key of this device")
    raise ConfigError(
        f"host_key = {text!r} is neither `SHA256:<43 characters>` nor `<type> <base64>`.",
        where=where,
        next_step=f"On the board, `{_SHOW_KEY}` prints the fingerprint.",
    )


def parse_known_hosts(text: str, host_name: str, path: str) -> list[KnownKey]:
    """Return the keys that a known_hosts file lists for `host_name` (see `compute_host_name`).

    Certificate authorities and lines that aren't entries are left out, as ssh does.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        blob = _decode_key(fields[1], fields[2])
        if blob is not None and _names_match(fields[0], host_name):
            origin = f"{path}:{number}"
            keys.append(
                KnownKey(fields[1], blob, compute_fingerprint(blob), origin, revoked=marker == "@revoked")
            )
    return keys


def read_known_keys(paths: Iterable[Path], host_name: str) -> list[KnownKey]:
    """Return the keys that the known_hosts files list; a file that doesn't exist lists none."""
    keys = []
    for path in paths:
        try:
            text = path.read_text("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"can't read it: {error.strerror}", where=str(path)) from error
        keys += parse_known_hosts(text, host_name, str(path))
    return keys


def order_key_types(offered: Sequence[str], known: Iterable[KnownKey]) -> list[str]:
    """Return our host key algorithms with those of the known keys first, so that the server shows a key
    we can compare (as ssh does; ssh_config(5), HostKeyAlgorithms)."""
    wanted: list[str] = []
    for key in known:
        if key.key_type is not None and not key.revoked:
            wanted += _RSA_SIGNATURES if key.key_type == "ssh-rsa" else (key.key_type,)
    first = [name for name in dict.fromkeys(wanted) if name in offered]
    return first + [name for name in offered if name not in first]


@dataclass(frozen=True)
class HostKeyCheck:
    """What is known of one host, to judge the key it shows."""

    device_name: str
    host_name: str
    known: tuple[KnownKey, ...]
    pinned: bool
    known_hosts_path: Path  # where a user would add the key

    def verify(self, key_type: str, blob: bytes) -> None:
        """Return if the key is trusted. Raises HostKeyError."""
        fingerprint = compute_fingerprint(blob)
        matching = [key for key in self.known if hmac.compare_digest(key.fingerprint, fingerprint)]
        if any(key.revoked for key in matching):
            raise HostKeyError(
                f"{self.host_name} shows {key_type} {fingerprint}, revoked by {matching[0].origin}.",
                where=self.device_name,
                next_step="Don't connect; give the board a new host key.",
            )
        if matching:
            return
        trusted = [key for key in self.known if not key.revoked]
        raise self._changed(key_type, fingerprint, trusted) if trusted else self._unknown(key_type, blob)

    def _changed(self, key_type: str, fingerprint: str, trusted: Sequence[KnownKey]) -> HostKeyError:
        expected = ", ".join(f"{key.key_type or ''} {key.fingerprint}".strip() for key in trusted)
        origin = trusted[0].origin
        what = "is not the pinned one" if self.pinned else "has changed"
        return HostKeyError(
            f"the SSH host key of {self.host_name} {what}: observed {key_type} {fingerprint}, "
            f"expected {expected} ({origin}). Either the board was set up anew, or another machine answers "
            "in its place.",
            where=self.device_name,
            next_step=f"Compare with `{_SHOW_KEY}` on the board's own console before you edit {origin}.",
        )

    def _unknown(self, key_type: str, blob: bytes) -> HostKeyError:
        key = f"{key_type} {base64.b64encode(blob).decode()}"
        line, path = shlex.quote(f"{self.host_name} {key}"), shlex.quote(str(self.known_hosts_path))
        observed = f"{key_type} {compute_fingerprint(blob)}"
        return HostKeyError(
            f"the SSH host key of {self.host_name} is unknown: observed {observed}.",
            where=self.device_name,
            next_step=f"If `{_SHOW_KEY}` on the board's own console shows the same, pin it in devices.toml:\n"
            f"  host_key = \"{key}\"\nor with:\n  printf '%s\\n' {line} >> {path}",
        )


def _names_match(patterns: str, host_name: str) -> bool:
    if patterns.startswith("|1|"):
        salt, _, expected = patterns.removeprefix("|1|").partition("|")
        digest = hmac.new(_decode(salt) or b"", host_name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(digest, _decode(expected) or b"")
    matched = False
    for pattern in patterns.lower().split(","):
        # in these files only * and ? are wild; a bracket is part of "[host]:port"
        plain = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(host_name, plain):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


def _decode_key(key_type: str, text: str) -> bytes | None:
    """Return the key's bytes, or None unless they start with the type they claim (RFC 4253, 6.6)."""
    blob = _decode(text)
    name = key_type.encode()
    return blob if blob is not None and blob.startswith(len(name).to_bytes(4, "big") + name) else None
