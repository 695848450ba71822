"""A soak keeps what it needs: no clean-up of the store takes it away."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from harness.agent.args import Args
from harness.agent.faults import Fault
from harness.agent.ops import OPS, Device
from harness.agent.soak.folder import SoakFolder
from harness.agent.soak.spool import Spool

ENV = "e" * 64


@pytest.fixture
def device(tmp_path: Path) -> Device:
    made = Device(str(tmp_path), "/agent")
    os.mkdir(made.store.path("envs", ENV))
    return made


def put(device: Device, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    Path(device.store.path("incoming", "x")).write_bytes(data)
    device.store.commit("x", sha256, len(data))
    return sha256


def begin(device: Device, model_path: str, npz_path: str) -> SoakFolder:
    folder = SoakFolder(device.store.home, "20260102-030405-abcd")
    os.makedirs(folder.path)
    variant = {"model_path": model_path, "npz_path": npz_path, "env": ENV}
    folder.write_object("spec.json", {"streams": [{"variants": [variant]}]})
    return folder


def test_objects_and_environment_stay_until_the_soak_has_ended(device: Device) -> None:
    model, inputs, other = (put(device, data) for data in (b"model", b"inputs", b"other"))
    previous = put(device, b"newer")
    device.store.activate("m", model, ".onnx")
    path = os.path.realpath(device.store.active_path("m"))
    os.symlink(path, device.store.path("links", "by-name.onnx"))
    folder = begin(device, device.store.path("links", "by-name.onnx"), device.store.path("objects", inputs))
    device.store.activate("m", previous, ".onnx")
    removed = OPS["store_gc"](device, Args("store_gc", {"keep_versions": 0}))["removed"]
    assert removed == [other]
    with pytest.raises(Fault, match="a soak on this device uses it") as caught:
        OPS["env_remove"](device, Args("env_remove", {"sha256": ENV}))
    assert caught.value.kind == "busy"
    spool = Spool(folder.spool_path, 1 << 20, 0)
    spool.write([{"k": "end", "t_ns": 1, "reason": "duration"}])
    removed = OPS["store_gc"](device, Args("store_gc", {"keep_versions": 0}))["removed"]
    assert sorted(removed) == sorted([model, inputs])
    assert OPS["env_remove"](device, Args("env_remove", {"sha256": ENV})) == {}


def test_no_soaks_need_nothing(device: Device) -> None:
    assert OPS["store_gc"](device, Args("store_gc", {}))["removed"] == []
