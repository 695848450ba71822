import json
import threading

import pytest

from harness.emulation import cache, image, packages, rootfs
from harness.errors import ConfigError, DataError, HostSetupError
from harness.model import QemuBoard


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image, "check_host", lambda build: None)


def _manifest() -> dict[str, object]:
    return {"host_public_key": "ssh-ed25519 AAAA", "user": "pi", "python": "3.11"}


def test_builders_at_once_make_one_image(monkeypatch):
    builds: list[int] = []
    together = threading.Barrier(4)

    def build_in(work, recipe, progress):
        builds.append(1)
        (work / "tree").mkdir()
        return _manifest()

    monkeypatch.setattr(image, "_build_in", build_in)
    images: list[image.Image] = []

    def build() -> None:
        together.wait(timeout=240)
        images.append(image.build_image(QemuBoard()))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert len({i.folder for i in images}) == 1
    assert len(images) == 4
    assert not (images[0].folder / "tree").exists()


def test_a_build_that_fails_leaves_nothing_and_the_next_one_works(monkeypatch):
    def fail(work, recipe, progress):
        (work / "tree").mkdir(mode=0o500)
        raise KeyboardInterrupt

    monkeypatch.setattr(image, "_build_in", fail)
    with pytest.raises(KeyboardInterrupt):
        image.build_image(QemuBoard())
    folders = [p for p in (cache.cache_folder() / "images").iterdir() if p.is_dir()]
    assert folders == []
    monkeypatch.setattr(image, "_build_in", lambda work, recipe, progress: _manifest())
    assert image.build_image(QemuBoard()).user == "pi"


def test_what_a_killed_build_left_is_cleared_away(monkeypatch):
    left = image.image_folder(image.read_recipe(QemuBoard()))
    left = left.with_name(f".{left.name}.building")
    (left / "tree").mkdir(parents=True)
    (left / "tree/file").touch()
    seen: list[list[str]] = []

    def build_in(work, recipe, progress):
        seen.append([p.name for p in work.iterdir()])
        return _manifest()

    monkeypatch.setattr(image, "_build_in", build_in)
    image.build_image(QemuBoard())
    assert seen == [[]]
    assert not left.exists()


def test_a_missing_package_stops_before_anything_is_written(monkeypatch):
    def refuse(build: bool) -> None:
        raise HostSetupError("1 host package(s) missing: fakeroot.")

    monkeypatch.setattr(image, "check_host", refuse)
    with pytest.raises(HostSetupError):
        image.build_image(QemuBoard())
    assert not (cache.cache_folder() / "images").exists()


@pytest.mark.parametrize("size", [1 << 30, (2 << 30) + 1])
def test_a_disk_without_room_for_models_is_refused(size):
    with pytest.raises(ConfigError, match=f"disk_bytes is {size}, expected whole MiB and at least"):
        image.build_image(QemuBoard(disk_bytes=size))


def test_a_broken_manifest_is_named(monkeypatch):
    monkeypatch.setattr(image, "_build_in", lambda work, recipe, progress: _manifest())
    built = image.build_image(QemuBoard())
    (built.folder / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json can't be read.*Remove that folder"):
        image.build_image(QemuBoard())
    (built.folder / "manifest.json").write_text(json.dumps({"user": "pi"}))
    with pytest.raises(DataError, match="host_public_key"):
        image.open_image(built.recipe_hash, QemuBoard())
    with pytest.raises(ConfigError, match="no image 0000 in the cache"):
        image.open_image("0000", QemuBoard())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dlstatus:12:45.5:Retrieving file 12 of 62", 0.455),
        ("dlstatus:62:100.0:Done\n", 1.0),
        ("pmstatus:x:20:y", 0.2),
        ("Get:1 http://deb.debian.org bookworm InRelease", None),
        ("", None),
    ],
)
def test_apt_progress(line, expected):
    assert packages.parse_status_line(line) == expected


def test_the_initrd_is_what_the_kernel_unpacks():
    blob = b"".join(rootfs._cpio([("bin", 0o040755, b""), ("init", 0o100755, b"#!/bin/sh\n")]))
    assert blob[:6] == b"070701"
    assert len(blob) % 4 == 0
    # newc: 13 fields of 8 hexadecimal digits after the magic; size is the 7th, name length the 12th
    second = blob.index(b"070701", 6)
    fields = [int(blob[second + 6 + 8 * i : second + 14 + 8 * i], 16) for i in range(13)]
    assert (fields[1], fields[6], fields[11]) == (0o100755, 10, 5)
    assert blob[second + 110 : second + 115] == b"init\0"
    assert b"TRAILER!!!\0" in blob


def test_a_strict_umask_does_not_lock_the_guests_user_out(tmp_path):
    for name in ("usr/lib", "home/pi/.ssh", "root"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "usr/lib/x.pyc").touch(mode=0o600)
    for name in ("usr", "usr/lib", "home", "home/pi", "home/pi/.ssh", "root"):
        (tmp_path / name).chmod(0o700)
    rootfs.open_folders(tmp_path)
    modes = {n: (tmp_path / n).stat().st_mode & 0o777 for n in ("usr", "usr/lib", "usr/lib/x.pyc", "home")}
    assert modes == {"usr": 0o755, "usr/lib": 0o755, "usr/lib/x.pyc": 0o644, "home": 0o755}
    assert (tmp_path / "home/pi/.ssh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
