"""What a process uses isn't removed under it: the locks, and the host's cache over them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import cache, in_use


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    yield
    in_use.let_go()


@contextlib.contextmanager
def another_process_uses(path: Path) -> Iterator[None]:
    code = "import sys; from pathlib import Path; from harness import in_use\n"
    code += "print(in_use.use(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield
        process.kill()  # however it ends


def is_unused(path: Path) -> bool:
    with in_use.unused(path) as unused:
        return unused


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_it_is_used_until_the_process_ends(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"") if kind == "file" else path.mkdir()
    assert is_unused(path)
    with another_process_uses(path):
        assert not is_unused(path)
        assert in_use.use(path)  # any number may
    assert not is_unused(path)
    in_use.let_go()
    assert is_unused(path)


def test_what_is_gone_or_was_made_anew_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "it"
    assert not in_use.use(path)
    path.write_bytes(b"old")
    descriptors = len(os.listdir("/proc/self/fd"))
    assert in_use.use(path)
    path.unlink()
    assert not in_use.use(path)
    path.write_bytes(b"new")
    assert in_use.use(path)
    assert not is_unused(path)
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1


@pytest.fixture
def two_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the older and the newer of two environments."""
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))
    made = tuple(cache.folder(cache.ENVIRONMENTS) / name for name in ("older", "newer"))
    for used_at_s, folder in enumerate(made, 1):
        folder.mkdir()
        (folder / "env.tar.gz").write_bytes(bytes(8192))
        os.utime(folder, (used_at_s, used_at_s))
    return made[0], made[1]


def test_pruning_leaves_what_a_running_session_uses(two_entries: tuple[Path, Path]) -> None:
    older, _ = two_entries
    with another_process_uses(older):
        assert [(e.name, e.in_use) for e in cache.entries()] == [
            ("environments/older", True),
            ("environments/newer", False),
        ]
        assert cache.prune(cap_bytes=0) == ("environments/newer",)
        assert (older / "env.tar.gz").is_file()
    assert cache.prune(cap_bytes=0) == ("environments/older",)


def test_using_an_entry_makes_it_the_last_to_go(two_entries: tuple[Path, Path]) -> None:
    older, newer = two_entries
    assert cache.use(older)
    in_use.let_go()
    assert cache.prune(cap_bytes=8192) == ("environments/newer",)
    assert not cache.use(newer)
