"""What is left of a duet that doesn't come to its end: a process of it is killed, the session interrupted."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.bench import eventually
from support.candidates import AGAINST_LATENCY, HEAVY, make
from support.repository import TIMEOUT_S, Finished, Running

from harness.cli.main import main
from harness.model import Outcome
from harness.store import read_session

LASTING = """
from pathlib import Path

duet.MEASURED = dataclasses.replace(duet.MEASURED, pairs=20_000, max_duet_s=3600.0)
plain_run_duet = duet.run_duet


def run_duet(*args, **kwargs):
    Path("{mark}").touch()
    return plain_run_duet(*args, **kwargs)


duet.run_duet = run_duet
"""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
WORKED_S = 0.2  # of CPU time since they were asked to take turns: warming up takes less


@dataclass(frozen=True)
class Process:
    """One line of /proc. A process that is gone has no pid of its own any more, so its start tells it."""

    pid: int
    parent: int
    start_ticks: int
    cpu_s: float

    @classmethod
    def read(cls, stat: Path) -> Process:
        fields = stat.read_text().rpartition(")")[2].split()  # from the third on (proc_pid_stat(5))
        cpu_s = (int(fields[11]) + int(fields[12])) * TICK_S
        return cls(int(stat.parent.name), int(fields[1]), int(fields[19]), cpu_s)


def below(pid: int) -> list[Process]:
    """Return the processes that `pid` started, and those that they did, nearest first."""
    every = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            every.append(Process.read(stat))
        except OSError:
            continue  # it ended meanwhile
    found: list[Process] = []
    level = {pid}
    while level:
        children = [p for p in every if p.parent in level]
        found += children
        level = {p.pid for p in children}
    return found


def is_gone(process: Process) -> bool:
    try:
        return Process.read(Path("/proc") / str(process.pid) / "stat").start_ticks != process.start_ticks
    except OSError:
        return True


@dataclass(frozen=True)
class Duet:
    """A session in the middle of a duet that would last a minute, and the processes it has started."""

    running: Running
    started: tuple[Process, ...]
    arms: tuple[Process, Process]

    def leaves_nothing(self) -> bool:
        return all(eventually(lambda p=process: is_gone(p)) for process in self.started)


@pytest.fixture
def duet(tmp_path: Path) -> Duet:
    repository, mark = make(tmp_path / "theirs"), tmp_path / "taking-turns"
    with (repository.root / "suites" / "conftest.py").open("a") as file:
        file.write(LASTING.format(mark=mark))
    running = repository.start(
        "--device", "local", "--model", "door", "--baseline", HEAVY, "-k", AGAINST_LATENCY
    )
    running.wait_for(mark)
    before = below(running.process.pid)
    first, second = (p for p in before if not any(other.parent == p.pid for other in before))

    def both_work() -> bool:
        now = {p.pid: p.cpu_s for p in below(running.process.pid)}
        return all(now.get(p.pid, 0.0) - p.cpu_s > WORKED_S for p in (first, second))

    if not eventually(both_work, TIMEOUT_S):
        running.process.kill()
        raise TimeoutError(f"no duet; it said: {running.process.communicate()[0]}")
    return Duet(running, tuple(before), (first, second))


def only_run(done: Finished):
    (run,) = read_session(done.folder).runs
    return run


def test_a_killed_process_is_the_labs_failure_and_is_named(duet):
    os.kill(duet.arms[1].pid, signal.SIGKILL)
    done = duet.running.finish()
    assert done.returncode == 75, done.output
    assert "INFRA_ERROR: " in done.output
    assert "Traceback" not in done.output
    run = only_run(done)
    assert (run.outcome, run.comparisons) == (Outcome.INFRA_ERROR, ())
    assert run.error is not None
    assert "SIGKILL" in run.error.message
    assert "during `duet`" in run.error.message
    assert any(f"{name}-0" in run.error.message for name in ("candidate", "baseline")), run.error.message
    assert done.summary()["verdict"] == "INFRA_ERROR"
    assert duet.leaves_nothing()


def test_ctrl_c_leaves_no_process_and_a_session_to_read(duet):
    duet.running.interrupt()
    done = duet.running.finish()
    assert done.returncode == 2, done.output
    assert [run["outcome"] for run in done.runs()] == ["interrupted"]
    assert (done.summary()["verdict"], done.summary()["exit_code"]) == ("INVALID", 2)
    assert "interrupted" in (done.folder / "report.html").read_text()
    assert main(["gate", str(done.folder)]) == 11
    assert duet.leaves_nothing()
