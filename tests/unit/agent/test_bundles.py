"""A bundle on the device: its files whole or not at all, made anew where a disk changed them."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from harness.agent import bundles
from harness.agent.faults import Fault
from harness.agent.soak import keeping
from harness.agent.store import UNPACKED, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "home"))


def put(store: Store, **files: bytes) -> str:
    """Commit a tar of `files` (their dots written as _); return its hash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return put_bytes(store, buffer.getvalue())


def put_bytes(store: Store, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    Path(store.path("incoming", "x")).write_bytes(data)
    store.commit("x", sha256, len(data))
    return sha256


def test_its_files_lie_side_by_side(store: Store) -> None:
    sha256 = put(store, net_param=b"graph", net_bin=b"weights", empty_bin=b"")
    folder = Path(bundles.unpacked(store, sha256))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        "net.param": b"graph",
        "net.bin": b"weights",
        "empty.bin": b"",
    }
    assert os.listdir(store.path(UNPACKED)) == [sha256]


def test_what_is_whole_is_left_alone(store: Store) -> None:
    sha256 = put(store, net_param=b"graph")
    file = Path(bundles.unpacked(store, sha256)) / "net.param"
    before = file.stat().st_ino
    bundles.unpacked(store, sha256)
    assert file.stat().st_ino == before


@pytest.mark.parametrize("damage", [b"weighty", b"weights and more", b"weigh", None])
def test_what_was_changed_is_made_anew(store: Store, damage: bytes | None) -> None:
    sha256 = put(store, net_param=b"graph", net_bin=b"weights")
    file = Path(bundles.unpacked(store, sha256)) / "net.bin"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    bundles.unpacked(store, sha256)
    assert file.read_bytes() == b"weights"


def test_what_does_not_belong_there_goes(store: Store) -> None:
    sha256 = put(store, net_param=b"graph")
    folder = Path(bundles.unpacked(store, sha256))
    (folder / "net.bin").write_bytes(b"of another model")
    bundles.unpacked(store, sha256)
    assert os.listdir(folder) == ["net.param"]


def test_an_object_that_is_no_tar_is_refused(store: Store) -> None:
    with pytest.raises(Fault, match="not a tar that can be unpacked") as caught:
        bundles.unpacked(store, put_bytes(store, b"no tar"))
    assert caught.value.kind == "bad_request"
    assert os.listdir(store.path(UNPACKED)) == []


def test_a_member_can_not_leave_its_folder(store: Store) -> None:
    with pytest.raises(Fault, match="leaves its folder"):
        bundles.unpacked(store, put(store, **{"../x": b"x"}))
    assert os.listdir(store.path(UNPACKED)) == []


def test_one_that_is_not_there(store: Store) -> None:
    with pytest.raises(Fault, match="commit it first"):
        bundles.unpacked(store, "ab" * 32)


def test_its_files_go_with_it(store: Store) -> None:
    gone, kept = put(store, net_param=b"old"), put(store, net_param=b"new")
    for sha256 in (gone, kept):
        bundles.unpacked(store, sha256)
    os.mkdir(
        store.path(UNPACKED, f".{kept}.{2**22 + 1}")
    )  # of an agent that was killed: no process has this id
    store.collect_garbage(0, {kept})
    assert os.listdir(store.path(UNPACKED)) == [kept]


def test_a_soak_keeps_the_bundle_that_it_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = put(store, net_param=b"graph")
    path = os.path.join(bundles.unpacked(store, sha256), "net.param")
    spec = {"streams": [{"variants": [{"model_path": path, "npz_path": "", "env": ""}]}]}

    class Folder:
        def __init__(self, home: str, soak_id: str) -> None:
            pass

        def living_runner(self) -> int:
            return 1

        def read_object(self, name: str) -> object:
            return spec

    monkeypatch.setattr(keeping, "list_ids", lambda home: ["s"])
    monkeypatch.setattr(keeping, "SoakFolder", Folder)
    assert keeping.needed_hashes(store.home) == {sha256}
