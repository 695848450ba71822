"""Which keys known_hosts and pins stand for. Formats: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT."""

from __future__ import annotations

import pytest

from harness.connect import hostkeys
from harness.errors import ConfigError, HostKeyError

# keys and fingerprints as ssh-keygen -l prints them
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOztYUIltWazLfUDk0ckGS7l+8xfpeSB1QmYlvrUcHJa"
ED25519_FINGERPRINT = "SHA256:7wjb0fYTuwwBy6m1CvDurj0XPZd0fH0dlTxtEYtjkS8"
ED25519_BLOB = hostkeys.parse_pin(ED25519, "test").blob or b""
RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQ=="


def known(text: str, host: str = "board", port: int = 22) -> list[str]:
    name = hostkeys.compute_host_name(host, port)
    return [key.fingerprint for key in hostkeys.parse_known_hosts(text, name, "file")]


def check(*keys: hostkeys.KnownKey, pinned: bool = False) -> hostkeys.HostKeyCheck:
    from pathlib import Path

    return hostkeys.HostKeyCheck("rpi4", "board", keys, pinned, Path("/home/me/.ssh/known_hosts"))


def test_a_fingerprint_is_what_ssh_keygen_prints() -> None:
    assert hostkeys.compute_fingerprint(ED25519_BLOB) == ED25519_FINGERPRINT


@pytest.mark.parametrize(
    ("host", "port", "name"), [("Board", 22, "board"), ("board", 2222, "[board]:2222"), ("::1", 22, "::1")]
)
def test_the_name_in_known_hosts(host: str, port: int, name: str) -> None:
    assert hostkeys.compute_host_name(host, port) == name


@pytest.mark.parametrize(
    ("line", "host", "port", "found"),
    [
        (f"board {ED25519}", "board", 22, True),
        (f"board {ED25519} comment here", "BOARD", 22, True),
        (f"board,10.0.0.3 {ED25519}", "10.0.0.3", 22, True),
        (f"[board]:2222 {ED25519}", "board", 2222, True),
        (f"[board]:2222 {ED25519}", "board", 22, False),
        (f"board {ED25519}", "board", 2222, False),
        (f"*.lab {ED25519}", "rpi.lab", 22, True),
        (f"*.lab,!bad.lab {ED25519}", "bad.lab", 22, False),
        (f"boar? {ED25519}", "board", 22, True),
        (f"[boar]d {ED25519}", "board", 22, False),
        (f"# board {ED25519}", "board", 22, False),
        (f"@cert-authority board {ED25519}", "board", 22, False),
        ("board ssh-ed25519 not-base64!", "board", 22, False),
        (f"board ecdsa-sha2-nistp256 {ED25519.split()[1]}", "board", 22, False),
        ("board ssh-ed25519", "board", 22, False),
        ("", "board", 22, False),
    ],
)
def test_lines_of_known_hosts(line: str, host: str, port: int, found: bool) -> None:
    assert known(line, host, port) == ([ED25519_FINGERPRINT] if found else [])


def test_a_hashed_line() -> None:
    # made by ssh-keygen -H from "board ssh-ed25519 …"; HMAC-SHA1 of the name under the salt
    import base64
    import hashlib
    import hmac

    salt = bytes(range(20))
    digest = hmac.new(salt, b"board", hashlib.sha1).digest()
    name = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    assert known(f"{name} {ED25519}") == [ED25519_FINGERPRINT]
    assert known(f"{name} {ED25519}", "other") == []


def test_origins_count_lines_from_one() -> None:
    keys = hostkeys.parse_known_hosts(f"\n# x\nboard {ED25519}\n", "board", "/etc/known")
    assert [key.origin for key in keys] == ["/etc/known:3"]


@pytest.mark.parametrize("text", [ED25519, f"{ED25519} me@host", ED25519_FINGERPRINT])
def test_pins(text: str) -> None:
    assert hostkeys.parse_pin(text, "rpi4").fingerprint == ED25519_FINGERPRINT


@pytest.mark.parametrize(
    "text",
    ["", "SHA256:", "SHA256:abc", "MD5:00:11", "ssh-ed25519", "ssh-ed25519 AAAA", ED25519.split()[1], "a b"],
)
def test_what_is_no_pin(text: str) -> None:
    with pytest.raises(ConfigError, match="rpi4: host_key = "):
        hostkeys.parse_pin(text, "rpi4")


def test_a_trusted_key_passes() -> None:
    check(hostkeys.parse_pin(ED25519, "x")).verify("ssh-ed25519", ED25519_BLOB)


def test_any_of_several_keys_passes() -> None:
    keys = hostkeys.parse_known_hosts(f"board {RSA}\nboard {ED25519}\n", "board", "file")
    assert len(keys) == 2
    check(*keys).verify("ssh-ed25519", ED25519_BLOB)


def test_an_unknown_key() -> None:
    with pytest.raises(HostKeyError) as caught:
        check().verify("ssh-ed25519", ED25519_BLOB)
    text = str(caught.value)
    assert f"is unknown: observed ssh-ed25519 {ED25519_FINGERPRINT}" in text
    assert text.endswith(f"printf '%s\\n' 'board {ED25519}' >> /home/me/.ssh/known_hosts")


def test_a_changed_key_of_another_type_is_changed_too() -> None:
    keys = hostkeys.parse_known_hosts(f"board {RSA}", "board", "/etc/known")
    with pytest.raises(HostKeyError, match=r"has changed.*\(/etc/known:1\)"):
        check(*keys).verify("ssh-ed25519", ED25519_BLOB)


def test_a_revoked_key_never_passes() -> None:
    text = f"board {ED25519}\n@revoked * {ED25519}\n"
    keys = hostkeys.parse_known_hosts(text, "board", "/etc/known")
    with pytest.raises(HostKeyError, match="revoked"):
        check(*keys).verify("ssh-ed25519", ED25519_BLOB)


OFFERED = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"]


def test_the_server_is_asked_for_a_key_that_we_know() -> None:
    keys = hostkeys.parse_known_hosts(f"board {RSA}", "board", "file")
    expected = ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519", "ecdsa-sha2-nistp256"]
    assert hostkeys.order_key_types(OFFERED, keys) == expected


def test_a_pinned_fingerprint_asks_for_nothing() -> None:
    assert hostkeys.order_key_types(OFFERED, [hostkeys.parse_pin(ED25519_FINGERPRINT, "x")]) == OFFERED
