"""What `harness init` writes is what this repository uses, and it is whole or nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import harness.starter
from harness.cli.main import main
from harness.plan import load_plan
from harness.registry import load_registry
from harness.store import atomic

ROOT = Path(__file__).resolve().parents[2]
STARTER = Path(harness.starter.__file__).parent


@pytest.mark.parametrize(
    "name", ["devices.toml", *(f"suites/{p.name}" for p in sorted((ROOT / "suites").glob("*.py")))]
)
def test_the_starters_files_are_this_repositorys(name):
    assert (STARTER / name).read_text() == (ROOT / name).read_text(), f"cp {name} harness/starter/{name}"


def test_init_writes_a_repository_that_reads(tmp_path, capsys):
    assert main(["init", str(tmp_path)]) == 0
    assert "rpi4-emulated" in load_registry(tmp_path / "devices.toml").devices
    assert load_plan(tmp_path / "suites" / "release.toml").models == ()
    assert "pytest" in capsys.readouterr().out


def test_init_touches_nothing_that_exists(tmp_path, capsys):
    (tmp_path / "devices.toml").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "devices.toml" in capsys.readouterr().err
    assert (tmp_path / "devices.toml").read_text() == "mine"
    assert not (tmp_path / "suites").exists()


def test_init_writes_a_pytest_ini_where_nothing_configures_pytest(tmp_path):
    assert main(["init", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "pytest.ini").read_text().startswith("[pytest]\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "pyproject.toml").write_text("")
    assert main(["init", str(tmp_path / "old")]) == 0
    assert not (tmp_path / "old" / "pytest.ini").exists()


def test_init_into_a_file_says_so(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["init", str(tmp_path / "notes.txt")]) == 2
    assert "is a file; expected a folder" in capsys.readouterr().err
    assert main(["init", str(tmp_path / "notes.txt" / "sub")]) == 75
    assert "can't be written" in capsys.readouterr().err


def test_init_that_fails_midway_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(path, text, **_):
        if path.name == "test_memory.py":
            with atomic.disk_errors(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_text(path, text)

    write_text = atomic.write_text
    monkeypatch.setattr(atomic, "write_text", full)
    assert main(["init", str(tmp_path / "deep" / "new")]) == 75
    told = capsys.readouterr()
    assert "test_memory.py: can't be written: No space left on device" in told.err
    assert told.out == ""
    assert list(tmp_path.iterdir()) == []
