"""The store: what a name points at is whole and verified, wherever a step is cut."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest

from harness.agent import store as store_module
from harness.agent.args import Args
from harness.agent.faults import Fault
from harness.agent.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def put(store: Store, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    Path(store.path("incoming", "x")).write_bytes(data)
    store.commit("x", sha256, len(data))
    return sha256


def rot(store: Store, sha256: str) -> None:
    """Change an object's bytes, as a worn card does; its size stays."""
    path = Path(store.object_path(sha256))
    path.chmod(0o644)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def content(store: Store, name: str) -> bytes:
    return Path(store.active_path(name)).read_bytes()


def test_commit_moves_a_verified_file(store: Store) -> None:
    sha256 = put(store, b"model")
    assert Path(store.object_path(sha256)).read_bytes() == b"model"
    assert os.listdir(store.path("incoming")) == []
    assert store.status()["objects"] == [{"sha256": sha256, "size_bytes": 5}]


def test_commit_of_what_is_there_needs_no_file(store: Store) -> None:
    sha256 = put(store, b"model")
    assert store.commit("never-pushed", sha256, 5) is True


@pytest.mark.parametrize(("size", "flip"), [(4, False), (5, True)])
def test_a_changed_file_is_refused_and_removed(store: Store, size: int, flip: bool) -> None:
    sha256 = hashlib.sha256(b"wrong" if flip else b"model").hexdigest()
    Path(store.path("incoming", "x")).write_bytes(b"model")
    with pytest.raises(Fault) as caught:
        store.commit("x", sha256, size)
    assert caught.value.kind == "checksum"
    assert os.listdir(store.path("incoming")) == []
    assert store.status()["objects"] == []


def test_a_symlink_in_incoming_is_no_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"model")
    os.symlink(tmp_path / "secret", store.path("incoming", "x"))
    with pytest.raises(Fault) as caught:
        store.commit("x", hashlib.sha256(b"model").hexdigest(), 5)
    assert caught.value.kind == "not_found"


def test_a_half_object_is_replaced(store: Store) -> None:
    sha256 = hashlib.sha256(b"model").hexdigest()
    Path(store.path("objects", sha256)).write_bytes(b"mod")
    assert put(store, b"model") == sha256
    assert store.verify(sha256) == 5


def test_an_object_that_rotted_is_noticed(store: Store) -> None:
    sha256 = put(store, b"model")
    rot(store, sha256)
    with pytest.raises(Fault, match="push it again") as caught:
        store.verify(sha256)
    assert caught.value.kind == "checksum"
    assert store.status()["objects"] == []


def test_an_object_that_rotted_is_not_activated(store: Store) -> None:
    first, second = put(store, b"one"), put(store, b"two")
    store.activate("m", first, "")
    rot(store, second)
    with pytest.raises(Fault, match=r"its content is [0-9a-f]{64}; it was removed"):
        store.activate("m", second, "")
    assert content(store, "m") == b"one"
    assert [v["sha256"] for v in store.versions("m")] == [first]


def test_an_object_on_a_bad_block_is_removed_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = put(store, b"model")

    def unreadable(path: str, sync: bool = False) -> str:
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(store_module, "hash_file", unreadable)
    with pytest.raises(Fault, match=r"can't be read \(Input/output error\); it was removed") as caught:
        store.verify(sha256)
    assert caught.value.kind == "checksum"
    assert store.status()["objects"] == []


def test_a_commit_replaces_an_object_that_rotted(store: Store) -> None:
    sha256 = put(store, b"model")
    rot(store, sha256)
    Path(store.path("incoming", "x")).write_bytes(b"model")
    assert store.commit("x", sha256, 5) is False
    assert store.verify(sha256) == 5


def test_objects_are_read_only(store: Store) -> None:
    assert os.stat(store.object_path(put(store, b"model"))).st_mode & 0o777 == 0o444


def test_activate_switches_and_lists_versions_newest_first(store: Store) -> None:
    first, second = put(store, b"one"), put(store, b"two")
    assert store.activate("m", first, ".onnx") is None
    assert store.activate("m", second, ".tflite") == first
    assert content(store, "m") == b"two"
    assert os.path.realpath(store.active_path("m")) == store.object_path(second)
    assert os.readlink(store.active_path("m")).endswith(".tflite")
    assert [(v["sha256"], v["active"]) for v in store.versions("m")] == [(second, True), (first, False)]


def test_rollback_goes_back_step_by_step(store: Store) -> None:
    hashes = [put(store, data) for data in (b"one", b"two", b"three")]
    for sha256 in hashes:
        store.activate("m", sha256, "")
    assert [store.rollback("m"), store.rollback("m")] == [hashes[1], hashes[0]]
    assert content(store, "m") == b"one"
    with pytest.raises(Fault, match="no version before"):
        store.rollback("m")
    assert [v["active"] for v in store.versions("m")] == [False, False, True]


def test_activating_an_old_version_makes_it_the_newest(store: Store) -> None:
    first, second = put(store, b"one"), put(store, b"two")
    for sha256 in (first, second, first):
        store.activate("m", sha256, "")
    assert [v["sha256"] for v in store.versions("m")] == [first, second]


@pytest.mark.parametrize("cut", ["fsync", "symlink", "replace"])
def test_a_cut_during_the_switch_leaves_the_old_version(
    store: Store, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    first, second = put(store, b"one"), put(store, b"two")
    store.activate("m", first, ".onnx")

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "power cut")

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, cut, fail)
        with pytest.raises(OSError, match="power cut"):
            store.activate("m", second, ".onnx")
    again = Store(store.home)
    assert content(again, "m") == b"one"
    assert [v["sha256"] for v in again.versions("m")] == [first]
    again.activate("m", second, ".onnx")
    assert content(again, "m") == b"two"


def test_a_cut_between_switch_and_history_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put(store, b"one"), put(store, b"two")
    store.activate("m", first, "")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_write_history", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.activate("m", second, ".onnx")
    again = Store(store.home)
    assert [(v["sha256"], v["active"]) for v in again.versions("m")] == [(second, True), (first, False)]
    assert again.rollback("m") == first


def test_a_damaged_history_says_so(store: Store) -> None:
    store.activate("m", put(store, b"one"), "")
    Path(store.path("history", "m.json")).write_text("[{")
    with pytest.raises(Fault, match="remove it to start afresh"):
        store.versions("m")
    assert content(store, "m") == b"one"


def test_garbage_collection_keeps_what_is_wanted(store: Store) -> None:
    hashes = [put(store, data) for data in (b"one", b"two", b"three", b"four")]
    for sha256 in hashes[:3]:
        store.activate("m", sha256, ".onnx")
    loose = put(store, b"loose")
    for _ in range(2):
        store.rollback("m")  # "one" is active and the oldest
    stale = Path(store.path("incoming", "stale"))
    stale.write_bytes(b"12345")
    os.utime(stale, (time.time() - 7200, time.time() - 7200))
    Path(store.path("incoming", "fresh")).write_bytes(b"1")
    done = store.collect_garbage(1, {loose})
    assert done["removed"] == sorted([hashes[1], hashes[3]])
    assert done["freed_bytes"] == len(b"two") + len(b"four") + 5
    assert os.listdir(store.path("incoming")) == ["fresh"]
    assert {v["sha256"] for v in store.versions("m")} == {hashes[0], hashes[2]}
    assert all(os.path.exists(store.path("links", name)) for name in os.listdir(store.path("links")))
    assert content(store, "m") == b"one"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\nb", "a\0b", "x" * 129])
def test_names_with_path_tricks_are_refused(name: str) -> None:
    with pytest.raises(Fault) as caught:
        Args("store_activate", {"name": name}).name("name")
    assert caught.value.kind == "bad_request"


@pytest.mark.parametrize("name", ["digits fp32", "modèle-ü", "a..b", "x" * 128])
def test_odd_but_harmless_names_work(store: Store, name: str) -> None:
    assert Args("store_activate", {"name": name}).name("name") == name
    store.activate(name, put(store, b"one"), "")
    assert store.status()["active"] == {name: hashlib.sha256(b"one").hexdigest()}


@pytest.mark.parametrize("suffix", ["onnx", "/x", ".a/b", ".", "..", "." + "x" * 40])
def test_bad_suffixes_are_refused(store: Store, suffix: str) -> None:
    with pytest.raises(Fault, match="suffix"):
        store.activate("m", put(store, b"one"), suffix)


@pytest.mark.parametrize("value", ["", "A" * 64, "0" * 63, "../" + "0" * 61, "0" * 64 + "\n"])
def test_bad_hashes_are_refused(value: str) -> None:
    with pytest.raises(Fault, match="hex"):
        Args("store_path", {"sha256": value}).sha256("sha256")


def test_unknown_and_missing_args_are_named() -> None:
    args = Args("store_gc", {"keep_version": 3})
    args.integer("keep_versions", 3)
    with pytest.raises(Fault, match="`keep_version` is unknown; valid: keep_versions"):
        args.done()
    with pytest.raises(Fault, match="`size_bytes` is missing"):
        Args("store_commit", {}).integer("size_bytes")
