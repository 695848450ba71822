"""Which cgroup a child gets, and what a device that has none for it says. A real kernel: tests/device."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.agent.busyloop import BusyLoop
from harness.agent.cgroups import Cgroup, Cgroups, Limits, parse_limits
from harness.agent.faults import Fault
from harness.agent.probes import Probes
from harness.agent.processes import ChildProcess, Pending, read_cgroup
from harness.agent.wire import Frame

MEMORY = Limits(64 << 20, None, 2000)
BOTH = Limits(64 << 20, 1000, 2000)
FILES = ("cgroup.procs", "cgroup.kill", "memory.max", "memory.swap.max", "memory.oom.group", "cpu.max")


class Kernel:
    """A tree of groups: making one makes its files, as the kernel does."""

    def __init__(self, root: Path, controllers: str = "cpu io memory pids") -> None:
        self.root = root
        self.probes = Probes(str(root))
        self.busy = 0  # how often a removal is refused
        self.controllers = controllers
        for pid in (os.getpid(), "self"):
            (root / f"proc/{pid}").mkdir(parents=True)
        fields = " ".join(str(number) for number in range(3, 53))  # the 22nd says 22
        (root / f"proc/{os.getpid()}/stat").write_text(f"{os.getpid()} (a ) name) {fields}")
        self.make(str(root / "sys/fs/cgroup"))

    def make(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(path)
        for name in (*FILES, "cgroup.subtree_control"):
            (Path(path) / name).write_text("")
        (Path(path) / "cgroup.controllers").write_text(self.controllers)

    def remove(self, path: str) -> None:
        if self.busy:
            self.busy -= 1
            raise OSError(errno.EBUSY, "busy", path)
        shutil.rmtree(path)

    def delegate(self, name: str, enabled: str = "cpu memory") -> Path:
        path = self.root / "sys/fs/cgroup" / name
        self.make(str(path))
        (path / "cgroup.subtree_control").write_text(enabled)
        return path

    def cgroups(self) -> Cgroups:
        return Cgroups(self.probes, self.make, self.remove)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


@pytest.fixture
def plain_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)


def test_a_group_of_the_delegated_one(kernel: Kernel) -> None:
    shared = kernel.delegate("harness")
    group = kernel.cgroups().create(BOTH)
    path = Path(group.path)
    assert path.parent == shared
    assert path.name == f"hil-{os.getpid()}-22-1"
    assert (path / "memory.max").read_text() == str(64 << 20)
    assert (path / "memory.swap.max").read_text() == "0"
    assert (path / "memory.oom.group").read_text() == "1"
    assert (path / "cpu.max").read_text() == "1000 2000"
    group.remove()
    assert not path.exists()


def test_an_older_kernel_without_swap_and_group_kill(kernel: Kernel) -> None:
    kernel.delegate("harness")
    path = Path(kernel.cgroups().create(MEMORY).path)
    for name in ("memory.swap.max", "memory.oom.group", "cgroup.kill"):
        (path / name).unlink()
    group = Cgroup(str(path), kernel.remove)
    group.set_limits(MEMORY)
    assert (group.peak_bytes(), group.oom_kills()) == (None, None)
    group.remove()


def test_what_a_group_says(kernel: Kernel) -> None:
    path = kernel.delegate("harness")
    (path / "memory.peak").write_text("4096\n")
    (path / "memory.max").write_text("max\n")
    (path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 1\n")
    group = Cgroup(str(path))
    assert (group.peak_bytes(), group.max_bytes(), group.oom_kills()) == (4096, None, 3)
    assert read_cgroup(None) == {"cgroup_peak_bytes": None, "cgroup_max_bytes": None}


def test_a_controller_that_is_not_enabled_yet_is(kernel: Kernel) -> None:
    shared = kernel.delegate("harness", enabled="memory")
    kernel.cgroups().create(BOTH)
    assert (shared / "cgroup.subtree_control").read_text().startswith("+cpu")  # a plain file, not emptied


def test_root_makes_the_delegated_group_itself(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    group = kernel.cgroups().create(MEMORY)
    assert Path(group.path).parent == kernel.root / "sys/fs/cgroup/harness"
    assert (kernel.root / "sys/fs/cgroup/cgroup.subtree_control").read_text() == "+memory"


@pytest.mark.usefixtures("plain_user")
def test_the_agents_own_group_where_it_is_alone(kernel: Kernel) -> None:
    own = kernel.delegate("user.slice/run-1.scope", enabled="")
    (kernel.root / "proc/self/cgroup").write_text("1:name=systemd:/\n0::/user.slice/run-1.scope\n")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    cgroups = kernel.cgroups()
    groups = [cgroups.create(MEMORY), cgroups.create(MEMORY)]
    assert [Path(group.path).parent for group in groups] == [own, own]
    assert groups[0].path != groups[1].path
    assert (own / "hil-agent/cgroup.procs").read_text() == str(os.getpid())


def not_mounted(kernel: Kernel) -> None:
    (kernel.root / "sys/fs/cgroup/cgroup.controllers").unlink()


def no_memory(kernel: Kernel) -> None:
    (kernel.root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu io pids\n")


def shared_with_others(kernel: Kernel) -> None:
    own = kernel.delegate("user.slice")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    (kernel.root / "proc/self/cgroup").write_text("0::/user.slice\n")
    (kernel.root / "proc/1").mkdir()
    (kernel.root / "proc/1/status").write_text("PPid:\t0\n")


def old_hierarchy(kernel: Kernel) -> None:
    (kernel.root / "proc/self/cgroup").write_text("4:memory:/\n")


@pytest.mark.usefixtures("plain_user")
@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (not_mounted, ["cgroup v2 is not mounted", "boot with"]),
        (no_memory, ["`memory` controller is off", "cgroup_enable=memory"]),
        (shared_with_others, ["harness: not there", "others live in it (process 1)", "Delegate one"]),
        (old_hierarchy, ["no line of cgroup v2", "systemd-run --user --scope -p Delegate=yes"]),
    ],
)
def test_no_group_says_what_is_missing_and_what_to_do(
    kernel: Kernel, make: Callable[[Kernel], None], texts: list[str]
) -> None:
    make(kernel)
    with pytest.raises(Fault) as caught:
        kernel.cgroups().create(MEMORY)
    assert caught.value.kind == "unsupported"
    for text in texts:
        assert text in caught.value.message


def test_limits_that_the_kernel_refuses_leave_no_group(kernel: Kernel) -> None:
    shared = kernel.delegate("harness")

    def make(path: str) -> None:
        kernel.make(path)
        os.unlink(os.path.join(path, "cpu.max"))

    with pytest.raises(Fault, match=r"can't be set: .*cpu\.max"):
        Cgroups(kernel.probes, make, kernel.remove).create(BOTH)
    assert [entry for entry in os.listdir(shared) if entry.startswith("hil-")] == []


def test_a_group_that_still_empties_is_waited_for(kernel: Kernel) -> None:
    kernel.delegate("harness")
    group = kernel.cgroups().create(MEMORY)
    kernel.busy = 2
    group.remove()
    assert not Path(group.path).exists()
    group.remove()  # twice is no error


def test_leftovers_of_agents_that_are_gone(kernel: Kernel) -> None:
    shared = kernel.delegate("harness")
    alive, reused, gone = f"hil-{os.getpid()}-22-7", f"hil-{os.getpid()}-21-1", "hil-999999-5-1"
    for name in (alive, reused, gone, "sessions"):
        kernel.make(str(shared / name))
    kernel.cgroups().remove_leftovers()
    assert {path.name for path in shared.iterdir() if path.is_dir()} == {alive, "sessions"}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"memory_max": 1}, "`memory_max` is unknown; valid: cpu_period_us, cpu_quota_us, memory_max_bytes"),
        ({"memory_max_bytes": 0}, "`memory_max_bytes` is 0, expected a whole number from 1"),
        ({"memory_max_bytes": "64M"}, "`memory_max_bytes` is '64M'"),
        ({"cpu_quota_us": 999}, "`cpu_quota_us` is 999, expected a whole number from 1000"),
        ({"cpu_quota_us": 1000, "cpu_period_us": 2_000_000}, "`cpu_period_us` is 2000000"),
        ({"cpu_period_us": 2000}, "give `memory_max_bytes`, `cpu_quota_us` or both"),
    ],
)
def test_limits_that_make_no_sense(values: dict[str, object], text: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_limits(values)
    assert caught.value.kind == "bad_request"
    assert text in caught.value.message


def test_limits_that_do() -> None:
    assert parse_limits({}) is None
    assert parse_limits({"cpu_quota_us": 1000}) == Limits(None, 1000, 2000)
    assert parse_limits({"memory_max_bytes": 5, "cpu_quota_us": None}) == Limits(5, None, 2000)


# why a child with a group died


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(("kills", "oom"), [(1, True), (0, False)])
def test_its_own_group_tells_whether_it_was_out_of_memory(
    kernel: Kernel, sleeper: subprocess.Popen[bytes], kills: int, oom: bool
) -> None:
    path = kernel.delegate("harness")
    (path / "memory.events").write_text(f"oom_kill {kills}\n")
    (path / "memory.max").write_text("1000\n")
    (path / "memory.peak").write_text("999\n")
    child = ChildProcess("c", sleeper, 5, Cgroup(str(path), kernel.remove))
    (kernel.root / "proc/vmstat").write_text("oom_kill 6\n")  # another process may have been that
    sleeper.kill()
    fault = child.death(kernel.probes)
    assert fault.details["oom"] is oom
    assert (fault.details["cgroup_max_bytes"], fault.details["cgroup_peak_bytes"]) == (1000, 999)
    assert ("its limit is 1000 bytes (memory.max), its peak was 999" in fault.message) is oom
    child.close()
    assert not path.exists()


# the busy loop of an emulated board


def state(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def becomes(process: subprocess.Popen[bytes], *wanted: str, within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if state(process) in wanted:
            return True
    return False


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that the file of the busy loop names."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        (tmp_path / "run/hil").mkdir(parents=True)
        (tmp_path / "run/hil/spin.pid").write_text(f"{process.pid}\n")
        yield process
        process.kill()


def pending(op: str) -> Pending:
    return Pending(Frame(1, "request", "child", {}, b""), op, 5.0)


def test_the_busy_loop_stands_still_while_a_child_with_a_quota_works(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], loop: subprocess.Popen[bytes]
) -> None:
    busy_loop = BusyLoop(Probes(str(tmp_path)))
    child = ChildProcess("c", sleeper, None, None, busy_loop, has_quota=True)
    for op in ("load", "measure"):
        child.pending = pending(op)
        assert becomes(loop, "T")
        child.pending = None
        assert becomes(loop, "S", "R")
    child.pending = pending("measure")
    assert becomes(loop, "T")
    sleeper.kill()
    sleeper.wait()
    child.close()  # it died at work
    assert becomes(loop, "S", "R")
    loop.send_signal(signal.SIGSTOP)
    busy_loop.reset()  # as an agent does that finds it so
    assert becomes(loop, "S", "R")


def test_the_busy_loop_stands_still_while_a_child_calls_its_model_over_and_over(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], loop: subprocess.Popen[bytes]
) -> None:
    child = ChildProcess("c", sleeper, None, None, BusyLoop(Probes(str(tmp_path))))
    child.pending = pending("measure")  # of a command: the child waits for it
    assert not becomes(loop, "T", within_s=0.1)
    child.pending = None
    child.in_process = True
    for op in ("measure", "count", "duet"):
        child.pending = pending(op)
        assert becomes(loop, "T")
        child.pending = None
        assert becomes(loop, "S", "R")
    for op in ("load", "paced"):  # a wait for the disk, or for a call that is due
        child.pending = pending(op)
        assert not becomes(loop, "T", within_s=0.1)
        child.pending = None
