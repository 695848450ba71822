"""The keeper with something else in QEMU's place: what must end, ends, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.emulation import keeper

DEADLINE_S = 240.0  # only ends what hangs


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def _ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"  # nobody reaps orphans in some containers


def _status(folder: Path) -> dict[str, object]:
    return keeper.read_json(str(folder / "status.json"))


# stands for the harness: starts a keeper as launch.py does, then waits
HARNESS = """
import os, subprocess, sys
read_fd, write_fd = os.pipe()
subprocess.run([sys.executable, "-I", "-S", sys.argv[1], sys.argv[2], str(os.getpid())],
               stdin=read_fd, start_new_session=True, check=True)
os.close(read_fd)
if sys.argv[3] == "fork" and os.fork() == 0:
    os.setsid()  # keeps the pipe open after the harness is gone
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


@pytest.fixture
def kept(tmp_path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Path]]]:
    """Start a stand-in harness with a keeper whose machine is `argv`; returns (the harness, the folder)."""
    harnesses: list[subprocess.Popen[bytes]] = []
    folder = tmp_path / "run"

    def start(argv: list[str], mode: str = "") -> tuple[subprocess.Popen[bytes], Path]:
        folder.mkdir()
        (folder / "spec.json").write_text(json.dumps({"argv": argv}))
        (folder / "lease.json").write_text(json.dumps({"expires_at_s": time.time() + 3600}))
        command = [sys.executable, "-c", HARNESS, keeper.__file__, str(folder), mode]
        harnesses.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        _until(lambda: isinstance(_status(folder).get("qemu_pid"), int))
        return harnesses[0], folder

    yield start
    status = _status(folder)
    for harness in harnesses:
        harness.kill()
        harness.communicate()
    if isinstance(status.get("keeper_pid"), int) and not _ended(status["keeper_pid"]):
        os.kill(status["keeper_pid"], signal.SIGTERM)


SLEEPER = ["sleep", "600"]


@pytest.mark.parametrize("mode", ["", "fork"])
def test_killing_the_harness_ends_the_machine_and_removes_its_folder(kept, mode):
    harness, folder = kept(SLEEPER, mode)
    status = _status(folder)
    harness.send_signal(signal.SIGKILL)
    _until(lambda: _ended(status["qemu_pid"]) and _ended(status["keeper_pid"]))
    assert not folder.exists()


def test_killing_the_keeper_ends_the_machine(kept):
    _, folder = kept(SLEEPER)
    status = _status(folder)
    os.kill(status["keeper_pid"], signal.SIGKILL)
    _until(lambda: _ended(status["qemu_pid"]))
    assert folder.exists()  # swept by the next start


def test_ctrl_c_in_the_terminal_does_not_reach_the_machine(kept):
    _, folder = kept(SLEEPER)
    status = _status(folder)
    assert os.getsid(status["qemu_pid"]) not in (os.getsid(0), 0)
    os.kill(status["keeper_pid"], signal.SIGINT)
    os.kill(status["keeper_pid"], signal.SIGHUP)
    assert not _ended(status["qemu_pid"])
    os.kill(status["keeper_pid"], signal.SIGTERM)
    _until(lambda: not folder.exists() and _ended(status["qemu_pid"]))


def test_a_machine_that_ended_is_noted_and_can_be_started_again(kept):
    _, folder = kept(["sh", "-c", "exit 3"])
    _until(lambda: _status(folder).get("exit_code") == 3)
    (folder / "spec.json").write_text(json.dumps({"argv": SLEEPER}))
    os.kill(_status(folder)["keeper_pid"], signal.SIGUSR1)
    _until(lambda: _status(folder).get("exit_code") is None)
    assert not _ended(_status(folder)["qemu_pid"])


def test_a_supervised_machine_outlives_the_harness_and_ends_with_its_lease(kept):
    harness, folder = kept(SLEEPER)
    status = _status(folder)
    os.kill(status["keeper_pid"], signal.SIGUSR2)
    _until(lambda: _status(folder).get("supervised") is True)
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    assert not _ended(status["qemu_pid"])
    (folder / "lease.json").write_text(json.dumps({"expires_at_s": time.time() - 1}))
    os.kill(status["keeper_pid"], keeper.WAKE)
    _until(lambda: not folder.exists() and _ended(status["qemu_pid"]))


def test_a_lease_runs_out_when_its_time_has_come():
    lease = {"expires_at_s": 1000.0}
    assert keeper.lease_seconds_left(lease, 999.5) == 0.5
    assert keeper.lease_seconds_left(lease, 1000.0) == 0.0
    assert keeper.lease_seconds_left(lease, 1001.0) < 0
    assert keeper.lease_seconds_left({}, 0.0) == 0.0  # no lease is no permission to stay
    assert keeper.lease_seconds_left({"expires_at_s": "soon"}, 0.0) == 0.0


def test_broken_json_reads_as_nothing(tmp_path):
    path = tmp_path / "x.json"
    assert keeper.read_json(str(path)) == {}
    path.write_text('{"half": ')
    assert keeper.read_json(str(path)) == {}
    path.write_text("[1]")
    assert keeper.read_json(str(path)) == {}
    keeper.write_json(str(path), {"a": 1})
    assert keeper.read_json(str(path)) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_qemu_read_is_let_go_before_the_folder_tells_that_the_machine_is_gone(tmp_path, monkeypatch):
    held = os.open(tmp_path / "use.lock", os.O_CREAT | os.O_RDWR)
    seen: list[bool] = []
    monkeypatch.setattr(
        keeper.shutil, "rmtree", lambda *_, **__: seen.append(Path(f"/proc/self/fd/{held}").exists())
    )
    ended = SimpleNamespace(process=None, end_companion=lambda: None, held_fds=[held], folder=str(tmp_path))
    keeper.Keeper.end(ended)
    assert seen == [False]
