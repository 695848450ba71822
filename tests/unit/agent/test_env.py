"""Environments: unpacked whole or not at all, and nothing leaves its folder."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from harness.agent import env
from harness.agent.faults import Fault
from harness.agent.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "home"))


def tar_of(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def file(name: str, data: bytes = b"x = 1\n") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def install(store: Store, data: bytes) -> tuple[str, bool]:
    Path(store.path("incoming", "t")).write_bytes(data)
    return env.install(store, "t", hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_files_arrive_with_their_folders(store: Store, mode: str) -> None:
    data = tar_of(file("./site/pkg/__init__.py"), file("adapter.py", b""), mode=mode)
    path, already = install(store, data)
    assert (Path(path) / "site" / "pkg" / "__init__.py").read_bytes() == b"x = 1\n"
    assert not already
    assert install(store, data) == (path, True)
    assert env.installed(store) == [os.path.basename(path)]
    assert os.listdir(store.path("incoming")) == []


@pytest.mark.parametrize(
    "member",
    [
        file("../evil.py"),
        file("site/../../evil.py"),
        file("/etc/evil"),
        file(".manifest"),
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard", tarfile.LNKTYPE, "site/a.py"),
        special("fifo", tarfile.FIFOTYPE),
        special("null", tarfile.CHRTYPE),
    ],
    ids=lambda member: member[0].name,
)
def test_members_that_leave_the_folder_are_refused(
    store: Store, tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    with pytest.raises(Fault) as caught:
        install(store, tar_of(file("site/a.py"), member))
    assert caught.value.kind == "bad_request"
    assert os.listdir(store.path("envs")) == []
    assert not (tmp_path / "evil.py").exists()
    assert not (tmp_path / "home" / "evil.py").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a tar",
        tar_of(file("site/a.py"))[:-40],
        tar_of(file("a"), file("a")),
        tar_of(file("a"), file("a/b")),
    ],
    ids=["empty", "garbage", "truncated", "twice", "file as folder"],
)
def test_broken_tars_leave_nothing(store: Store, data: bytes) -> None:
    with pytest.raises(Fault) as caught:
        install(store, data)
    assert caught.value.kind == "bad_request"
    assert os.listdir(store.path("envs")) == []
    assert os.listdir(store.path("incoming")) == []


def test_too_much_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(Fault, match="too much"):
        install(store, tar_of(file("site/zeros", bytes(1001))))


def test_a_wrong_hash_is_refused(store: Store) -> None:
    Path(store.path("incoming", "t")).write_bytes(tar_of(file("a")))
    with pytest.raises(Fault) as caught:
        env.install(store, "t", "0" * 64)
    assert caught.value.kind == "checksum"


def test_remove_and_leftovers(store: Store) -> None:
    path, _ = install(store, tar_of(file("site/a.py")))
    env.remove(store, os.path.basename(path))
    assert env.installed(store) == []
    with pytest.raises(Fault, match="no such environment"):
        env.remove(store, os.path.basename(path))
    left = Path(store.path("envs", f".{'0' * 64}.{2**22 + 1}"))  # no such pid
    left.mkdir()
    env.remove_leftovers(store)
    assert not left.exists()


def test_an_environment_without_a_readable_manifest_is_not_whole(store: Store) -> None:
    data = tar_of(file("site/a.py"))
    path, _ = install(store, data)
    assert env.is_whole(store, os.path.basename(path))
    Path(path, env.MANIFEST).write_text("{")
    assert not env.is_whole(store, os.path.basename(path))
    assert install(store, data) == (path, False)
    assert env.is_whole(store, os.path.basename(path))
    assert os.listdir(store.path("envs")) == [os.path.basename(path)]
    assert not env.is_whole(store, "0" * 64)
