"""Who is let in over SSH, whom we trust, and what is said when it fails. Against real servers."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bench import eventually
from support.sshd import Sshd, make_key, running_sshd

from harness.connect import hostkeys
from harness.connect.openssh import ssh_argv
from harness.connect.ssh import SshConnection
from harness.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLost,
    DeviceError,
    HostKeyError,
    Unsupported,
)
from harness.model import SshAddress

LONG_S = 240.0  # only ends what hangs
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOztYUIltWazLfUDk0ckGS7l+8xfpeSB1QmYlvrUcHJa"
OTHER_FINGERPRINT = "SHA256:7wjb0fYTuwwBy6m1CvDurj0XPZd0fH0dlTxtEYtjkS8"


@pytest.fixture(
    scope="module", params=["sshd", pytest.param("qemu", marks=pytest.mark.device)], ids=["ssh", "qemu"]
)
def address(request: pytest.FixtureRequest) -> SshAddress:
    """A server whose key is pinned and which lets us in."""
    if request.param == "sshd":
        server: Sshd = request.getfixturevalue("sshd")
        return server.address()
    from harness.connect.qemu import compute_address

    return compute_address(request.getfixturevalue("emulated_machine"))


def connect(address: SshAddress, **changes: object) -> SshConnection:
    return SshConnection("board", dataclasses.replace(address, **changes))  # type: ignore[arg-type]


def known_hosts_name(address: SshAddress) -> str:
    return f"[{address.host}]:{address.port}"


def fingerprint(address: SshAddress) -> str:
    assert address.host_key is not None
    return hostkeys.parse_pin(address.host_key, "test").fingerprint


def works(connection: SshConnection) -> bool:
    try:
        return connection.run(["echo", "in"], timeout_s=LONG_S).stdout == b"in\n"
    finally:
        connection.close()


def test_pinned_key(address: SshAddress) -> None:
    assert works(connect(address))


def test_pinned_fingerprint(address: SshAddress) -> None:
    assert works(connect(address, host_key=fingerprint(address)))


def test_known_hosts(address: SshAddress, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"# mine\nother.example {OTHER_KEY}\n{known_hosts_name(address)} {address.host_key}\n")
    assert works(connect(address, host_key=None, known_hosts_path=path))


def test_hashed_known_hosts(address: SshAddress, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"{known_hosts_name(address)} {address.host_key}\n")
    subprocess.run(
        ["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True, timeout=LONG_S
    )
    assert address.host not in path.read_text()
    assert works(connect(address, host_key=None, known_hosts_path=path))


def test_an_unknown_key_is_refused_with_what_pins_it(address: SshAddress, tmp_path: Path) -> None:
    path = tmp_path / "known hosts"
    with pytest.raises(HostKeyError, match="is unknown") as caught:
        connect(address, host_key=None, known_hosts_path=path)
    text = str(caught.value)
    assert fingerprint(address) in text
    assert f'host_key = "{address.host_key}"' in text
    assert not path.exists()
    # the command that it prints does pin it
    subprocess.run(["sh", "-c", text.splitlines()[-1]], check=True, timeout=LONG_S)
    assert works(connect(address, host_key=None, known_hosts_path=path))


def test_the_users_own_known_hosts(
    address: SshAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(HostKeyError, match="is unknown"):
        connect(address, host_key=None)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(f"{known_hosts_name(address)} {address.host_key}\n")
    assert works(connect(address, host_key=None))


@pytest.mark.parametrize("pin", [OTHER_KEY, OTHER_FINGERPRINT], ids=["key", "fingerprint"])
def test_another_key_than_the_pinned_one(address: SshAddress, pin: str) -> None:
    with pytest.raises(HostKeyError, match="is not the pinned one") as caught:
        connect(address, host_key=pin)
    assert fingerprint(address) in str(caught.value)
    assert OTHER_FINGERPRINT in str(caught.value)


def test_a_changed_key_offers_no_way_around(address: SshAddress, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"\n{known_hosts_name(address)} {OTHER_KEY}\n")
    with pytest.raises(HostKeyError, match="has changed") as caught:
        connect(address, host_key=None, known_hosts_path=path)
    text = str(caught.value)
    assert fingerprint(address) in text
    assert OTHER_FINGERPRINT in text
    assert f"{path}:2" in text
    assert not any(word in text for word in ("ssh-keygen -R", ">>", "host_key ="))


def test_a_revoked_key(address: SshAddress, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    line = f"{known_hosts_name(address)} {address.host_key}\n"
    path.write_text(line + "@revoked " + line)
    with pytest.raises(HostKeyError, match="revoked"):
        connect(address, host_key=None, known_hosts_path=path)


def test_the_wrong_identity(address: SshAddress, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationError) as caught:
        connect(address, identity_path=tmp_path / "stranger")
    assert f"`{address.user}`" in str(caught.value)
    assert str(tmp_path / "stranger") in str(caught.value)
    assert "ssh-copy-id" in str(caught.value)


def test_an_identity_with_a_passphrase(address: SshAddress, tmp_path: Path) -> None:
    make_key(tmp_path / "locked", passphrase="correct horse")
    with pytest.raises(AuthenticationError, match="ssh-add"):
        connect(address, identity_path=tmp_path / "locked")


def test_no_identity_at_all(address: SshAddress) -> None:
    with pytest.raises(AuthenticationError, match="no ssh-agent is running"):
        connect(address, identity_path=None)


def test_a_missing_identity_file(address: SshAddress, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no identity file"):
        connect(address, identity_path=tmp_path / "none")


def test_openssh_trusts_the_same_key(address: SshAddress) -> None:
    argv = ssh_argv(address, ["echo", "a b"])
    done = subprocess.run(argv, capture_output=True, timeout=LONG_S, check=False)
    assert (done.returncode, done.stdout) == (0, b"a b\n"), done.stderr
    wrong = ssh_argv(dataclasses.replace(address, host_key=OTHER_KEY), ["true"])
    refused = subprocess.run(wrong, capture_output=True, timeout=LONG_S, check=False)
    assert refused.returncode == 255
    assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr


# -- what needs one server only


def test_a_closed_port(sshd: Sshd) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ConnectionLost, match=rf"127\.0\.0\.1:{port}: nothing listens") as caught:
            connect(sshd.address(), port=port)
    assert "Check that sshd runs" in str(caught.value)


def test_a_name_that_does_not_resolve(sshd: Sshd) -> None:
    with pytest.raises(ConnectionLost, match="can't be resolved"):
        connect(sshd.address(), host="no-such-board.invalid")


def _say_nothing(stream: socket.socket) -> None:
    stream.recv(1)


def _speak_http(stream: socket.socket) -> None:
    stream.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    stream.close()


@pytest.mark.parametrize("answer", [_say_nothing, _speak_http])
def test_a_port_that_does_not_speak_ssh(sshd: Sshd, answer: Callable[[socket.socket], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            stream, _ = server.accept()
            with stream:
                answer(stream)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(ConnectionLost, match="no usable SSH answer"):
            connect(sshd.address(), port=server.getsockname()[1], connect_timeout_s=0.5)
        thread.join(LONG_S)


def test_through_a_jump_host(sshd: Sshd, tmp_path: Path) -> None:
    with running_sshd(tmp_path) as inner:
        address = inner.address(jump=sshd.address())
        assert works(connect(address))
        argv = ssh_argv(address, ["echo", "through"])
        done = subprocess.run(argv, capture_output=True, timeout=LONG_S, check=False)
        assert (done.returncode, done.stdout) == (0, b"through\n"), done.stderr
        with pytest.raises(HostKeyError, match=f":{sshd.port}"):
            connect(address, jump=sshd.address(host_key=OTHER_KEY))
        with pytest.raises(ConnectionLost, match="jump host can't reach"):
            connect(address, port=1)


def test_the_users_ssh_config(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_sshd(tmp_path) as inner:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text(
            f"Host gateway\n HostName 127.0.0.1\n Port {sshd.port}\n IdentityFile {sshd.identity}\n"
            f"Host board\n HostName 127.0.0.1\n Port {inner.port}\n IdentityFile {inner.identity}\n"
            f" User {inner.user}\n ProxyJump gateway\n"
        )
        address = SshAddress("board")
        # the jump host's key counts too: fabric itself would accept any there
        known = tmp_path / ".ssh" / "known_hosts"
        known.write_text(f"[127.0.0.1]:{inner.port} {inner.host_key}\n")
        with pytest.raises(HostKeyError, match=f":{sshd.port} is unknown"):
            SshConnection("board", address)
        with known.open("a") as out:
            out.write(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
        assert works(SshConnection("board", address))


def test_an_account_that_runs_no_commands(tmp_path: Path) -> None:
    with running_sshd(tmp_path, extra=("ForceCommand echo no commands here",)) as server:
        connection = connect(server.address())
        try:
            with pytest.raises(DeviceError, match=r"doesn't run commands: no commands here"):
                connection.run(["true"], timeout_s=LONG_S)
        finally:
            connection.close()


def test_more_sessions_than_the_server_allows(tmp_path: Path) -> None:
    with running_sshd(tmp_path, extra=("MaxSessions 2",)) as server:
        connection = connect(server.address())
        try:
            first = connection.start(["cat"])
            second = connection.start(["sh", "-c", "echo $$; sleep 1000"])
            with pytest.raises(Unsupported, match="MaxSessions"):
                connection.start(["cat"])
            first.write(b"x", timeout_s=LONG_S)
            assert first.read(1, timeout_s=LONG_S) == b"x"
            pid = int(second.read(100, timeout_s=LONG_S))
        finally:
            connection.close()  # there is no session left to end them over, yet they end
        assert eventually(lambda: not Path(f"/proc/{pid}/fd/0").exists())
