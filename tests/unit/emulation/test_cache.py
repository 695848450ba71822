import os
import threading
from pathlib import Path

import pytest

from harness.emulation import cache
from harness.errors import ConfigError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(cache.ENV_CACHE_LIMIT, raising=False)
    return cache.cache_folder()


def _image(root: Path, name: str, used_at_s: float, kib: int = 64) -> Path:
    folder = root / "images" / name
    folder.mkdir(parents=True)
    (folder / "disk.ext4").write_bytes(b"x" * (kib << 10))
    (folder / "manifest.json").write_text("{}")
    _used(folder, used_at_s)
    return folder


def _snapshot(image: Path, name: str, used_at_s: float, kib: int = 64) -> Path:
    folder = image / "snapshots" / "functional-0" / f"{name}.0"
    folder.mkdir(parents=True)
    (folder / "state").write_bytes(b"x" * (kib << 10))
    (folder / "meta.json").write_text("{}")
    (folder.parent / name).symlink_to(folder.name)
    _used(folder, used_at_s)
    return folder


def _used(folder: Path, at_s: float) -> None:
    (folder / cache.USE_LOCK).touch()
    os.utime(folder / cache.USE_LOCK, (at_s, at_s))


def test_entries_are_listed_least_recently_used_first_each_with_its_own_size(root):
    image = _image(root, "aa", 200.0, kib=256)
    _snapshot(image, "s1", 100.0, kib=128)
    (root / "images" / ".bb.building").mkdir()  # half-built: not an entry
    entries = cache.cache_entries()
    assert [(e.name, e.kind) for e in entries] == [
        ("images/aa/snapshots/functional-0/s1.0", "snapshot"),
        ("images/aa", "image"),
    ]
    assert entries[0].size_bytes >= 128 << 10
    assert 256 << 10 <= entries[1].size_bytes < 384 << 10  # without its snapshot
    assert not any(e.in_use for e in entries)


def test_what_a_machine_holds_is_not_removed(root):
    image = _image(root, "aa", 1.0)
    snapshot = _snapshot(image, "s1", 2.0)
    name = str(snapshot.relative_to(root))
    with cache.held(snapshot):
        assert {e.name for e in cache.cache_entries() if e.in_use} == {name}
        for wanted in (name, "images/aa"):  # an image takes its snapshots along
            with pytest.raises(ConfigError, match=r"in use by a running machine\. End it first"):
                cache.remove_cache_entry(wanted)
    assert cache.remove_cache_entry(name) > 0
    assert not snapshot.exists()
    assert cache.remove_cache_entry("images/aa") > 0
    assert cache.cache_entries() == ()
    assert list((root / "images").iterdir()) == []


def test_an_unknown_entry_is_refused_with_those_that_exist(root):
    _image(root, "aa", 1.0)
    with pytest.raises(ConfigError, match=r"no cache entry `images/zz`; there are: images/aa"):
        cache.remove_cache_entry("images/zz")


def test_holding_something_that_was_just_removed_says_so(root):
    image = _image(root, "aa", 1.0)
    cache.remove_cache_entry("images/aa")
    with pytest.raises(ConfigError, match=r"was removed from the cache meanwhile. Try again"):
        cache.hold(image)


def test_the_cap_takes_snapshots_before_images_and_spares_what_is_kept_or_used(root):
    old, new = _image(root, "old", 1.0), _image(root, "new", 50.0)
    gone = _snapshot(new, "s1", 10.0)
    held = _snapshot(new, "s2", 5.0)
    total = sum(e.size_bytes for e in cache.cache_entries())
    with cache.held(held):
        assert cache.prune_cache(total, keep=(new,)) == ()
        assert cache.prune_cache(total - 1, keep=(new,)) == (str(gone.relative_to(root)),)
        assert cache.prune_cache(0, keep=(new,)) == ("images/old",)
    assert held.exists()
    assert new.exists()
    assert not old.exists()


def test_what_killed_processes_left_is_swept_and_work_in_progress_is_not(root):
    image = _image(root, "aa", 1.0)
    snapshots = _snapshot(image, "s1", 2.0).parent
    gone = [
        root / "images/.bb.1.removed",
        root / "images/.cc.building",
        snapshots / ".s2.1.removed",
        snapshots / ".s3.0.tmp",
    ]
    busy = [root / "images/.dd.building", snapshots / ".s4.0.tmp"]
    for folder in (*gone, *busy):
        (folder / "inside").mkdir(parents=True)
    with cache.file_lock(root / "images/.dd.lock"), cache.held(busy[1]):
        cache.prune_cache()
    assert [f for f in gone if f.exists()] == []
    assert [f for f in busy if not f.exists()] == []
    assert len(cache.cache_entries()) == 2


def test_the_cap_is_a_number_of_gigabytes(monkeypatch):
    monkeypatch.setenv(cache.ENV_CACHE_LIMIT, "2.5")
    assert cache.limit_bytes() == 2_500_000_000
    monkeypatch.setenv(cache.ENV_CACHE_LIMIT, "much")
    with pytest.raises(ConfigError, match="HIL_HARNESS_CACHE_GB is `much`, expected a number of GB"):
        cache.limit_bytes()


def test_a_lock_lets_one_in_at_a_time(tmp_path):
    path, inside, seen = tmp_path / "lock", [0], []

    def work() -> None:
        for _ in range(50):
            with cache.file_lock(path):
                inside[0] += 1
                seen.append(inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 200
    assert set(seen) == {1}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "f"
    path.parent.mkdir()
    cache.write_atomically(path, b"old", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_of_the_cache_may_be_a_link_to_another_disk(root, tmp_path):
    image = _image(root, "aa", 1.0)
    (root / "images").rename(tmp_path / "large disk")
    (root / "images").symlink_to(tmp_path / "large disk")
    assert cache.prune_cache(0, keep=(image.resolve(),)) == ()
    assert cache.prune_cache(0) == ("images/aa",)
