"""The command line of ssh: what it trusts and how it gets there. Real connections: tests/contract."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from harness.connect.openssh import ssh_argv
from harness.errors import ConfigError
from harness.model import SshAddress

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOztYUIltWazLfUDk0ckGS7l+8xfpeSB1QmYlvrUcHJa"


def test_the_plain_case_leaves_known_hosts_to_ssh() -> None:
    assert ssh_argv(SshAddress("board")) == ["ssh", "-o", "StrictHostKeyChecking=yes", "board"]


def test_everything_set() -> None:
    address = SshAddress("board", 2222, "pi", Path("/k/id"), KEY)
    argv = ssh_argv(address, ["echo", "a b"])
    assert argv[:2] == ["ssh", "-o"]
    assert "KnownHostsCommand=/bin/echo [board]:2222 " + KEY in argv
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-i") + 1] == "/k/id"
    assert argv[-2:] == ["pi@board", "echo 'a b'"]


def test_known_hosts_of_the_device() -> None:
    argv = ssh_argv(SshAddress("board", known_hosts_path=Path("/k/known")))
    assert "UserKnownHostsFile=/k/known" in argv


def test_a_jump_host_is_verified_too() -> None:
    address = SshAddress("board", jump=SshAddress("gate", 2200, "me", host_key=KEY))
    argv = ssh_argv(address)
    proxy = next(word for word in argv if word.startswith("ProxyCommand="))
    inner = shlex.split(proxy.removeprefix("ProxyCommand="))
    assert "StrictHostKeyChecking=yes" in inner
    assert f"KnownHostsCommand=/bin/echo [gate]:2200 {KEY}" in inner
    assert inner[-3:] == ["-W", "[%h]:%p", "me@gate"]


def test_a_percent_sign_is_no_token() -> None:
    argv = ssh_argv(SshAddress("fe80::1%eth0", host_key=KEY))
    assert f"KnownHostsCommand=/bin/echo fe80::1%%eth0 {KEY}" in argv


def test_a_fingerprint_is_not_enough_for_ssh() -> None:
    with pytest.raises(ConfigError, match="Pin the whole key"):
        ssh_argv(SshAddress("board", host_key="SHA256:7wjb0fYTuwwBy6m1CvDurj0XPZd0fH0dlTxtEYtjkS8"))
