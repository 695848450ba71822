import os

import pytest

from harness.emulation import runs, supervise
from harness.errors import ConfigError, UnknownDevice


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))


def test_a_folder_lives_as_long_as_its_lock_is_held_then_it_is_swept():
    folder, lock_fd = runs.new_folder("rpi4", supervised=False)
    (folder / "disk.qcow2").write_bytes(b"x")
    other, other_fd = runs.new_folder("rpi4", supervised=False)  # the same name, another machine
    assert other != folder
    assert runs.sweep() == []
    os.close(lock_fd)  # as when its keeper is killed
    assert runs.sweep() == [folder.name]
    assert not folder.exists()
    assert runs.is_alive(other)
    os.close(other_fd)


def test_a_supervised_name_is_taken_once():
    folder, lock_fd = runs.new_folder("rpi4-01", supervised=True)
    with pytest.raises(ConfigError, match=r"`rpi4-01` is already up\. Use it, or end it"):
        runs.new_folder("rpi4-01", supervised=True)
    os.close(lock_fd)
    again, lock_fd = runs.new_folder("rpi4-01", supervised=True)  # the dead one was swept
    assert again == folder
    os.close(lock_fd)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a,b", "x" * 64, "a b"])
def test_odd_names_are_refused(name):
    with pytest.raises(ConfigError, match="can't name a machine"):
        runs.new_folder(name, supervised=False)


def test_a_machine_that_is_not_up_is_named_with_those_that_are():
    _, lock_fd = runs.new_folder("rpi4-01", supervised=True)
    calls = (supervise.find_machine, supervise.stop_machine, lambda n: supervise.extend_lease(n, 1.0))
    for call in calls:
        with pytest.raises(UnknownDevice, match=r"no supervised machine `rpi4-02` .*; up: rpi4-01\. Start"):
            call("rpi4-02")
    assert [(m.name, m.state) for m in supervise.list_machines()] == [("rpi4-01", "starting")]
    os.close(lock_fd)
    assert supervise.list_machines() == ()
