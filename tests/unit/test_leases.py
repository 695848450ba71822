"""Leases: one holder at a time, none that is dead, and tokens that only grow."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from harness import leases
from harness.errors import DataError, DeviceBusy, HostSetupError
from harness.model import Device, DeviceType, QemuBoard

TYPE = DeviceType("t")
BOARD = Device("board", TYPE, "ssh")
OTHER = Device("other", TYPE, "ssh")
LOCAL = Device("local", TYPE, "local")
EMULATED = Device("emulated", TYPE, "qemu", qemu=QemuBoard())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "leases.sqlite"


HOLD = """
import sys, time
from pathlib import Path
from harness import leases
from harness.model import Device, DeviceType
board = Device("board", DeviceType("t"), "ssh")
with leases.lease(board, purpose="a nightly run", path=Path(sys.argv[1])) as held:
    print(held.token, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(path):
    """Another process that holds `board` until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "1"
    yield process
    process.kill()
    process.communicate(timeout=240)


def test_a_lease_is_for_the_block_alone(path):
    with leases.lease(BOARD, purpose="a test", path=path) as held:
        assert (held.device, held.token) == (BOARD, 1)
        assert leases.is_held(held, path)
        (holder,) = leases.holders(path).values()
        assert (holder.pid, holder.purpose) == (leases.this_process().pid, "a test")
    assert leases.holders(path) == {}
    assert not leases.is_held(held, path)


def test_a_held_unit_is_refused_with_its_holder(path, holder):
    with pytest.raises(DeviceBusy) as caught, leases.lease(BOARD, path=path):
        pytest.fail("held twice")
    assert f"board is held by process {holder.pid} since 2" in str(caught.value)
    assert "a nightly run" in str(caught.value)
    assert caught.value.exit_code == 75


def test_one_process_does_not_hold_a_unit_twice_either(path):
    with leases.lease(LOCAL, path=path), pytest.raises(DeviceBusy), leases.lease(LOCAL, path=path):
        pytest.fail("held twice")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_holder_holds_nothing(path, holder, ending):
    holder.send_signal(ending)
    holder.wait(timeout=240)
    with leases.lease(BOARD, path=path) as held:
        assert held.token == 2


def test_a_zombie_holds_nothing(path, holder):
    (before,) = leases.holders(path).values()
    holder.kill()
    # seen to have ended, not waited for: a zombie until the fixture reaps it
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    assert not leases.is_alive(before)


def test_the_end_of_a_block_by_an_error_releases_too(path):
    with pytest.raises(RuntimeError, match="first"), leases.lease(BOARD, path=path):
        raise RuntimeError("first")
    assert leases.holders(path) == {}


def test_a_failing_release_does_not_hide_the_first_error(path):
    def damage():
        path.write_bytes(b"x" * 4096)
        raise RuntimeError("first")

    with pytest.raises(RuntimeError, match="first") as caught, leases.lease(BOARD, path=path):
        damage()
    assert "Releasing board failed too" in caught.value.__notes__[0]


def test_tokens_grow_and_an_old_one_is_known(path):
    with leases.lease(BOARD, path=path) as old:
        pass
    with leases.lease(BOARD, path=path) as new:
        assert new.token > old.token
        assert leases.is_held(new, path)
        assert not leases.is_held(old, path)
        # releasing an old lease leaves the present one alone
        leases._release(old, path)
        assert leases.is_held(new, path)


def test_the_first_free_unit_is_taken(path, holder):
    with leases.lease([BOARD, OTHER], path=path) as held:
        assert held.device == OTHER
        with (
            pytest.raises(DeviceBusy, match=r"board is held by .*; other is held by"),
            leases.lease([BOARD, OTHER], path=path),
        ):
            pytest.fail("none is free")


def test_an_emulated_unit_needs_no_lease(path):
    assert not leases.needs_lease(EMULATED)
    assert leases.needs_lease(LOCAL)
    with leases.lease(EMULATED, path=path) as one, leases.lease(EMULATED, path=path) as two:
        assert (one.token, two.token) == (0, 0)
        assert leases.is_held(one, path)
    assert not path.exists()


def test_waiting_looks_again_until_it_is_free(path):
    now = 0.0
    held = leases.lease(BOARD, path=path)
    held.__enter__()

    def sleep(seconds):
        nonlocal now
        now += seconds
        if now >= 2:
            held.__exit__(None, None, None)

    with leases.lease(BOARD, path=path, wait_s=10, clock=lambda: now, sleep=sleep) as mine:
        assert mine.token == 2
    assert 2 <= now < 3


def test_waiting_ends(path, holder):
    now = 0.0

    def sleep(seconds):
        nonlocal now
        now += seconds

    with pytest.raises(DeviceBusy), leases.lease(BOARD, path=path, wait_s=10, clock=lambda: now, sleep=sleep):
        pytest.fail("held twice")
    assert now == pytest.approx(10)


# --- who is alive


def test_this_process_is_alive_and_what_it_is_not():
    me = leases.this_process()
    assert leases.is_alive(me)
    assert not leases.is_alive(replace(me, start_ticks=me.start_ticks - 1))  # the number was used again
    assert not leases.is_alive(replace(me, boot_id="an earlier boot"))
    assert not leases.is_alive(replace(me, pid=2**22 + 1))  # above the kernel's largest
    # another container's: its processes can't be seen from here
    assert leases.is_alive(replace(me, pid=2**22 + 1, pid_namespace="pid:[1]"))


def test_a_command_name_with_spaces_and_parentheses_is_read_past(monkeypatch, tmp_path):
    name = tmp_path / "odd) name (x"
    name.symlink_to(sys.executable)
    code = "import os; from harness import leases; print(leases._read_start_ticks(os.getpid()))"
    done = subprocess.run([str(name), "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert int(done.stdout) > 0


# --- the file


def test_the_file_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HIL_HARNESS_STATE", str(tmp_path))
    assert leases.default_path() == tmp_path / "leases.sqlite"
    monkeypatch.delenv("HIL_HARNESS_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert leases.default_path() == tmp_path / "xdg" / "hil-harness" / "leases.sqlite"


def test_no_file_no_holders(path):
    assert leases.holders(path) == {}
    assert not path.exists()


def test_a_damaged_file_says_what_to_do(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database, and longer than its header of a hundred bytes" * 10)
    with pytest.raises(DataError, match="delete it"), leases.lease(BOARD, path=path):
        pytest.fail("leased from a damaged file")


def test_a_folder_that_can_not_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(HostSetupError, match="HIL_HARNESS_STATE"),
        leases.lease(BOARD, path=tmp_path / "file" / "leases.sqlite"),
    ):
        pytest.fail("leased without a file")


def test_many_processes_never_hold_it_together(path):
    code = (
        "import sys; from pathlib import Path; from harness import leases; from harness.model import *\n"
        "from harness.errors import DeviceBusy\n"
        "d, p, tokens = Device('board', DeviceType('t'), 'ssh'), Path(sys.argv[1]), []\n"
        "flag = p.parent / 'inside'\n"
        "for _ in range(25):\n"
        "    try:\n"
        "        with leases.lease(d, path=p) as held:\n"
        "            flag.touch(exist_ok=False)\n"  # raises where another is inside
        "            tokens.append(held.token)\n"
        "            flag.unlink()\n"
        "    except DeviceBusy: pass\n"
        "print(*tokens)\n"
    )
    path.parent.mkdir()
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    tokens = [int(token) for output in outputs for token in output.split()]
    assert len(set(tokens)) == len(tokens)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT last FROM tokens").fetchone() == (max(tokens),)
