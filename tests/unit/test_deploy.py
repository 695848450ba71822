"""Deployment's own decisions: against a device that is scripted, and damage on this host's own agent.

The rest is in tests/device.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import deploy
from harness.connect.local import LocalConnection
from harness.errors import DeviceFull, WireError
from harness.model import Artifact, DeviceType, RuntimeSpec
from harness.model import Device as KnownDevice
from harness.remote import AgentClient
from harness.runtimes import Environment

MB = 1_000_000


class Device:
    """A connection and a client in one: it notes what it is sent and asked."""

    device_name = "pi"

    def __init__(self, free_bytes: int = 1000 * MB, **replies: Any) -> None:
        self.sent: list[tuple[str, float]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._replies: dict[str, Any] = {
            "store_status": {"free_bytes": free_bytes, "objects": [], "active": {}},
            "env_status": {"envs": []},
            "store_activate": {"previous": "old", "path": "/home/active/door"},
            "store_path": {"path": "/home/objects/abc"},
            "store_commit": {"already": False},
            "store_verify": {"size_bytes": MB},
            "env_install": {},
            **replies,
        }

    def home(self) -> str:
        return "/home"

    def push(self, source: Path, target: str, *, timeout_s: float, progress: Any = None) -> None:
        self.sent.append((target, timeout_s))

    def request(self, op: str, args: dict[str, Any] | None = None, **_: Any) -> Any:
        self.asked.append((op, args or {}))
        reply = self._replies[op]
        if isinstance(reply, Exception):
            raise reply
        return SimpleNamespace(args=reply)


def door(size_bytes: int = MB) -> Artifact:
    return Artifact("door", Path("door.onnx"), "abc", size_bytes, "onnx")


def env(size_bytes: int) -> Environment:
    return Environment("e5", Path("env.tar.gz"), size_bytes, "onnxruntime", RuntimeSpec("onnxruntime"), ())


def test_verified_first_then_switched():
    device = Device()
    done = deploy.deploy(device, device, door())
    assert (done.pushed, done.previous_sha256, done.path) == (True, "old", "/home/objects/abc")
    assert [op for op, _ in device.asked] == ["store_status", "store_commit", "store_activate", "store_path"]
    (target, _), commit = device.sent[0], device.asked[1][1]
    assert target == f"/home/incoming/{commit['incoming']}"
    assert (commit["sha256"], commit["size_bytes"]) == ("abc", MB)
    assert device.asked[2][1] == {"name": "door", "sha256": "abc", "suffix": ".onnx"}


def test_what_is_there_is_switched_to_without_sending():
    there = {"free_bytes": 0, "objects": [{"sha256": "abc", "size_bytes": MB}], "active": {}}
    device = Device(store_status=there)
    assert not deploy.deploy(device, device, door()).pushed
    assert device.sent == []
    assert "store_activate" in [op for op, _ in device.asked]


def test_bytes_that_are_refused_are_not_switched_to():
    device = Device(store_commit=WireError("sha256 x, expected abc."))
    with pytest.raises(WireError):
        deploy.deploy(device, device, door())
    assert "store_activate" not in [op for op, _ in device.asked]


@pytest.mark.parametrize(("spare_bytes", "fits"), [(0, True), (-1, False)])
def test_room_is_needed_for_the_file_and_some_to_spare(spare_bytes, fits):
    device = Device(free_bytes=MB + deploy.HEADROOM_BYTES + spare_bytes)
    if fits:
        assert deploy.deploy(device, device, door()).pushed
        return
    with pytest.raises(DeviceFull, match=r"door\.onnx needs 1\.00 MB and 67\.1 MB must stay free") as full:
        deploy.deploy(device, device, door())
    assert "harness deploy gc pi" in full.value.next_step
    assert device.sent == []


def bundle() -> Artifact:
    return replace(door(), path=Path("net.param"), files=("net.param", "net.bin"))


def test_a_bundle_is_unpacked_there_and_its_own_file_is_what_a_runtime_gets():
    device = Device(store_path={"path": "/home/unpacked/abc"})
    assert deploy.deploy(device, device, bundle()).path == "/home/unpacked/abc/net.param"
    assert device.asked[-1] == ("store_path", {"sha256": "abc", "unpack": True})


def test_a_bundle_needs_room_for_its_files_too():
    enough, short = (Device(free_bytes=2 * MB + deploy.HEADROOM_BYTES - less) for less in (0, 1))
    assert deploy.deploy(enough, enough, bundle()).pushed
    with pytest.raises(DeviceFull, match=r"net\.param needs 2\.00 MB"):
        deploy.deploy(short, short, bundle())


def test_an_environment_needs_room_for_its_tar_and_what_is_in_it():
    needed = 10 * MB * (1 + deploy.UNPACKED_RATIO) + deploy.HEADROOM_BYTES
    enough, short = Device(free_bytes=needed), Device(free_bytes=needed - 1)
    assert deploy.push_environment(enough, enough, env(10 * MB))
    with pytest.raises(DeviceFull, match=r"onnxruntime needs 50\.0 MB"):
        deploy.push_environment(short, short, env(10 * MB))
    assert short.sent == []


def test_an_environment_that_is_there_is_not_sent():
    device = Device(env_status={"envs": ["e5"]})
    assert not deploy.push_environment(device, device, env(MB))
    assert device.sent == []


def test_a_transfer_may_take_as_long_as_the_slowest_link():
    assert deploy.transfer_timeout_s(0) == 60.0
    assert deploy.transfer_timeout_s(256 << 20) == 60.0 + 1024.0
    device = Device()
    deploy.deploy(device, device, door(256 << 20))
    assert device.sent[0][1] == 60.0 + 1024.0


def test_versions_rollback_and_garbage_as_the_device_says():
    versions = {"versions": [{"sha256": "b", "activated_at_ns": 2, "active": True}]}
    collected = {"removed": ["a"], "freed_bytes": 7}
    device = Device(store_versions=versions, store_rollback={"sha256": "a"}, store_gc=collected)
    assert deploy.versions(device, "door") == (deploy.Version("b", 2, True),)
    assert deploy.roll_back(device, "door") == "a"
    assert deploy.collect_garbage(device, keep_versions=1, keep=["c"]) == (("a",), 7)
    assert device.asked[-1] == ("store_gc", {"keep_versions": 1, "keep": ["c"]})


# --- bytes that a disk changed, through the agent -------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalConnection]:
    home = str(tmp_path / "home")
    opened = LocalConnection(KnownDevice("here", DeviceType("host"), "local", home=home))
    yield opened
    opened.close()


@pytest.fixture
def client(local: LocalConnection) -> Iterator[AgentClient]:
    with AgentClient.start(local, python=sys.executable, timeout_s=60.0) as started:
        yield started


def model(folder: Path, content: bytes, name: str = "door") -> Artifact:
    path = folder / "door.onnx"
    path.write_bytes(content)
    return Artifact(name, path, hashlib.sha256(content).hexdigest(), len(content), "onnx")


def flip(path: Path) -> None:
    """Change one byte; the size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(path, 0o644)
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.chmod(path, 0o644)
    os.truncate(path, 1)


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_model_that_the_disk_changed_is_sent_again(local, client, tmp_path, damage):
    door = model(tmp_path, b"weights" * 100)
    first = deploy.deploy(local, client, door)
    damage(Path(first.path))
    again = deploy.deploy(local, client, door)
    assert (first.pushed, again.pushed) == (True, True)
    assert Path(again.path).read_bytes() == door.path.read_bytes()
    assert not deploy.deploy(local, client, door).pushed
    assert os.stat(again.path).st_mode & 0o777 == 0o444


def test_another_names_version_is_not_taken_over_changed(local, client, tmp_path):
    flip(Path(deploy.deploy(local, client, model(tmp_path, b"weights")).path))
    gate = deploy.deploy(local, client, model(tmp_path, b"weights", "gate"))
    assert gate.pushed
    assert (Path(local.home()) / "active" / "gate").read_bytes() == b"weights"


def test_inputs_that_the_disk_changed_are_sent_again(local, client, tmp_path):
    door = model(tmp_path, b"inputs")
    put = (local, client, door.path, door.sha256, door.size_bytes)
    stored = Path(local.home()) / "objects" / door.sha256
    assert deploy.push_object(*put)
    assert not deploy.push_object(*put)
    flip(stored)
    assert deploy.push_object(*put)
    assert stored.read_bytes() == b"inputs"


def test_a_version_that_the_disk_changed_is_not_rolled_back_to(local, client, tmp_path):
    old = deploy.deploy(local, client, model(tmp_path, b"one"))
    new = deploy.deploy(local, client, model(tmp_path, b"two"))
    flip(Path(old.path))
    with pytest.raises(WireError, match=r"its content is [0-9a-f]{64}; it was removed"):
        deploy.roll_back(client, "door")
    assert client.request("store_status").args["active"] == {"door": new.sha256}


def test_a_disk_that_keeps_changing_bytes_fails_after_the_second_try():
    device = Device(store_activate=WireError("objects/abc: its content is x."))
    with pytest.raises(WireError, match="its content is x"):
        deploy.deploy(device, device, door())
    assert len(device.sent) == 2


def test_an_error_that_removed_nothing_is_not_answered_by_sending():
    there = {"free_bytes": 1000 * MB, "objects": [{"sha256": "abc", "size_bytes": MB}], "active": {}}
    broken = WireError("the agent's stream is broken.")
    device = Device(store_status=there, store_activate=broken, store_verify=broken)
    with pytest.raises(WireError, match="stream"):
        deploy.deploy(device, device, door())
    with pytest.raises(WireError, match="stream"):
        deploy.push_object(device, device, Path("x"), "abc", MB)
    assert device.sent == []


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_an_environment_with_missing_bytes_is_installed_again(local, client, tmp_path, damage):
    path = tmp_path / "env.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("site/pkg/__init__.py")
        info.size = 6
        tar.addfile(info, io.BytesIO(b"x = 1\n"))
    tarred = path.read_bytes()
    sha256 = hashlib.sha256(tarred).hexdigest()
    own = Environment(sha256, path, len(tarred), "own", RuntimeSpec("own"), ())
    module = Path(local.home()) / "envs" / sha256 / "site" / "pkg" / "__init__.py"
    assert deploy.push_environment(local, client, own)
    (module.parent / "__pycache__").mkdir()
    (module.parent / "__pycache__" / "__init__.pyc").write_bytes(b"Python's own")
    assert not deploy.push_environment(local, client, own)
    damage(module)
    assert deploy.push_environment(local, client, own)
    assert module.read_bytes() == b"x = 1\n"
    assert not deploy.push_environment(local, client, own)
