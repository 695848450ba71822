"""Starting a runner: detached, its output in the log, within systemd's scope where that lasts."""

from __future__ import annotations

import errno
import io
import os
import pwd
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bench import LONG_S

from harness.agent.faults import Fault
from harness.agent.soak import launch
from harness.agent.soak.folder import LOG_BYTES, SoakFolder

ID = "20260102-030405-abcd"
ROOT = Path(__file__).parents[4]
# stands for the agent's archive: takes the lock, writes what it finds out about itself, and waits
RUNNER = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from harness.agent.soak.folder import SoakFolder
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder = SoakFolder(options["--home"], options["--id"])
mode = open(folder.file("mode")).read()
print("runner says", mode, flush=True)
if mode == "die":
    sys.exit("no model today")
lock = folder.take_lock()
if mode == "ended":
    spool = folder.open_spool()
    spool.write([{{"k": "end", "t_ns": 5, "reason": "duration"}}])
    sys.exit()
names = sorted(os.listdir("/proc/self/fd"), key=int)
links = [os.readlink("/proc/self/fd/" + n) for n in names if os.path.exists("/proc/self/fd/" + n)]
facts = [os.getsid(0), os.getpgid(0), os.getcwd(), os.environ.get("VIA", ""), *links[:3], len(names)]
with open(folder.file("facts.tmp"), "w") as file:
    file.write("|".join(map(str, facts)))
os.rename(folder.file("facts.tmp"), folder.file("facts"))
time.sleep(600)
"""


@pytest.fixture
def location(tmp_path: Path) -> str:
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "__main__.py").write_text(RUNNER)
    return str(folder)


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[SoakFolder]:
    folder = SoakFolder(str(tmp_path / "home"), ID)
    os.makedirs(folder.path)
    folder.write_object("spec.json", {"max_spool_bytes": 1 << 20, "reserve_bytes": 0})
    Path(folder.file("mode")).write_text("wait")
    yield folder
    pid = folder.living_runner()
    if pid:
        os.kill(pid, signal.SIGKILL)


def facts(folder: SoakFolder) -> list[str]:
    path, due_s = Path(folder.file("facts")), time.monotonic() + LONG_S
    while not path.exists() and time.monotonic() < due_s:
        time.sleep(0.01)
    return path.read_text().split("|")


def test_a_runner_is_on_its_own(soak: SoakFolder, location: str) -> None:
    pid = launch.start_runner(soak, location)
    assert soak.living_runner() == pid
    session, group, folder, _, stdin, stdout, stderr, descriptors = facts(soak)
    assert int(session) != os.getsid(0)
    assert int(group) != os.getpgid(0)
    assert os.stat(f"/proc/{pid}").st_uid == os.getuid()
    parent = next(s for s in Path(f"/proc/{pid}/status").read_text().splitlines() if s.startswith("PPid:"))
    assert int(parent.split()[1]) != os.getpid()
    assert folder == "/"
    assert stdin == "/dev/null"
    assert stdout == stderr == soak.file("runner.log")
    assert int(descriptors) <= 5  # its lock, and the folder it lists: nothing of ours
    assert "runner says wait" in soak.log_tail()


def test_one_that_ends_at_once_is_told_with_its_words(soak: SoakFolder, location: str) -> None:
    Path(soak.file("mode")).write_text("die")
    with pytest.raises(Fault, match=r"(?s)its runner ended at once: .*no model today") as caught:
        launch.start_runner(soak, location)
    assert caught.value.kind == "internal"


def test_a_soak_that_only_lacked_its_end_has_it(soak: SoakFolder, location: str) -> None:
    Path(soak.file("mode")).write_text("ended")
    assert launch.start_runner(soak, location) > 0
    due_s = time.monotonic() + LONG_S
    while soak.end().ended is None and time.monotonic() < due_s:
        time.sleep(0.01)
    assert soak.end().ended == "duration"


def test_a_runner_that_never_takes_its_lock(
    soak: SoakFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "__main__.py").write_text("import time\ntime.sleep(20)\n")
    monkeypatch.setattr(launch, "START_TIMEOUT_S", 0.2)
    with pytest.raises(Fault, match="didn't take its lock within"):
        launch.start_runner(soak, str(tmp_path / "slow"))


# systemd


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that stand for systemd's, and the folder of those who linger."""
    programs = {
        "systemctl": '#!/bin/sh\n[ "$1" = --user ] && exit "$(cat "$0.code")"\n',
        "systemd-run": '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nVIA=scope exec "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "systemctl.code").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / pwd.getpwuid(os.getuid()).pw_name).write_text("")
    return tmp_path


def test_a_scope_needs_lingering_and_a_running_manager(systemd: Path) -> None:
    linger = str(systemd / "linger")
    assert launch.find_scope(linger)[:3] == ["systemd-run", "--user", "--scope"]
    assert launch.find_scope(str(systemd / "nobody")) == []
    (systemd / "bin" / "systemctl.code").write_text("1")
    assert launch.find_scope(linger) == []
    (systemd / "bin" / "systemctl").unlink()
    assert launch.find_scope(linger) == [] or os.path.exists("/usr/bin/systemctl")


def test_the_runner_is_started_in_the_scope(
    soak: SoakFolder, location: str, systemd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = launch.find_scope(str(systemd / "linger"))
    monkeypatch.setattr(launch, "find_scope", lambda: scope)
    launch.start_runner(soak, location)
    assert facts(soak)[3] == "scope"


def test_without_the_scope_where_systemd_refuses(
    soak: SoakFolder, location: str, systemd: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    scope = launch.find_scope(str(systemd / "linger"))
    monkeypatch.setattr(launch, "find_scope", lambda: scope)
    (systemd / "bin" / "systemd-run").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    launch.start_runner(soak, location)
    assert facts(soak)[3] == ""
    assert "no scope of systemd's" in capsys.readouterr().err


def test_the_archive_that_a_folder_came_from(tmp_path: Path) -> None:
    archive = tmp_path / "agent-1.pyz"
    assert launch.archive_of(f"{archive}.d") == f"{archive}.d"
    archive.write_bytes(b"")
    assert launch.archive_of(f"{archive}.d") == str(archive)
    assert launch.archive_of("/src/agent") == "/src/agent"


# the log


@pytest.fixture
def output() -> Iterator[None]:
    kept = os.dup(1), os.dup(2)
    yield
    for number, descriptor in zip((1, 2), kept, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def test_the_log_begins_anew_at_its_size_and_one_older_is_kept(soak: SoakFolder, output: None) -> None:
    log = Path(soak.file("runner.log"))
    soak.keep_log_small()
    for text in (b"first", b"second", b"third"):
        os.write(2, text + b"x" * LOG_BYTES)
        soak.keep_log_small()
        assert log.read_bytes() == b""
        assert Path(f"{log}.1").read_bytes().startswith(text)
    os.write(1, b"more")
    soak.keep_log_small()
    assert log.read_bytes() == b"more"


def test_a_log_that_was_removed_is_made_again(soak: SoakFolder, output: None) -> None:
    soak.keep_log_small()
    os.unlink(soak.file("runner.log"))
    soak.keep_log_small()
    os.write(2, b"here")
    assert soak.log_tail() == "here"


class Unflushed(io.StringIO):
    """A stream whose flush fails."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def flush(self) -> None:
        raise OSError(self._number, os.strerror(self._number))


def test_a_flush_that_fails_leaks_no_descriptor(
    soak: SoakFolder, output: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Unflushed(errno.EIO))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):  # as the runner does each second
        with pytest.raises(OSError, match="Input/output"):
            soak.keep_log_small()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_full_disk_that_takes_no_more_output_doesnt_keep_the_log_from_beginning_anew(
    soak: SoakFolder, output: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Unflushed(errno.ENOSPC))
    soak.keep_log_small()
    os.write(2, b"here")
    assert soak.log_tail() == "here"
