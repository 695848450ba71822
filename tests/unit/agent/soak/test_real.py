"""A runner as a process of its own, with real children: short soaks on this host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.soak_world import MS, S, read_records, spec, variant

from harness.remote.archive import build_archive

SUPPORT = Path(__file__).parents[3] / "support"
DEADLINE_S = 240.0  # only ends what hangs


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that a device gets."""
    data, sha256 = build_archive()
    path = tmp_path_factory.mktemp("agent") / f"agent-{sha256}.pyz"
    path.write_bytes(data)
    return path


class Board:
    """A home folder with one soak in it, and its runner."""

    def __init__(self, home: Path, agent: Path, command: list[str], **more: Any) -> None:
        self.home = home
        self.agent = agent
        self.sensors = home / "sensors"  # in whose place a board's /sys would be
        np.savez(home / "in.npz", x=np.zeros((4, 4), dtype="float32"))
        (home / "model").write_text("none")
        options = {"argv": [sys.executable, "-I", "-S", *command], "protocol": "json-lines"}
        model = {"model_path": str(home / "model"), "npz_path": str(home / "in.npz"), "options": options}
        cycle = more.pop("cycle", {"kind": "closed"})
        streams = [{"name": "main", "cycle": cycle, "variants": [variant(**model)]}]
        self.values = spec(streams=streams, **more)
        self.folder = home / "soak" / self.values["id"]
        self.folder.mkdir(parents=True)
        (self.folder / "spec.json").write_text(json.dumps(self.values))

    @contextlib.contextmanager
    def runner(self) -> Iterator[subprocess.Popen[bytes]]:
        argv = [sys.executable, "-I", "-S", str(self.agent), "soak", "--home", str(self.home)]
        # what this host's own clocks do is no event of the test
        env = {**os.environ, "HIL_AGENT_SENSORS_ROOT": str(self.sensors)}
        process = subprocess.Popen([*argv, "--id", self.values["id"]], env=env)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self) -> int:
        with self.runner() as process:
            return process.wait(DEADLINE_S)

    def records(self, *kinds: str) -> list[dict[str, Any]]:
        found = list(read_records(self.folder / "spool"))
        return [r for r in found if r["k"] in kinds] if kinds else found

    def wait_for(self, what: Callable[[], Any]) -> Any:
        due_s = time.monotonic() + DEADLINE_S
        while not (found := what()):
            assert time.monotonic() < due_s, (self.folder / "runner.log").read_text()
            time.sleep(0.02)
        return found

    def children(self, process: subprocess.Popen[bytes]) -> list[int]:
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


def test_a_leak_shows_in_the_windows(tmp_path: Path, agent: Path) -> None:
    leaking = [str(SUPPORT / "leaking_command.py"), "--leak", "100000", "--work", "2000000"]
    for duration_s in (3, 12, 48):  # a busy host doesn't start a command within any given time
        home = tmp_path / str(duration_s)
        home.mkdir()
        board = Board(home, agent, leaking, duration_s=duration_s, window_s=0.5)
        assert board.run() == 0, (board.folder / "runner.log").read_text()
        records = board.records()
        windows = [r for r in records if r["k"] == "window"]
        served = [r["streams"]["main"] for r in windows if r["streams"]["main"]["calls"]]
        if len(served) >= 2:
            break
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    assert [r["k"] for r in records] == ["life", *["window"] * len(windows), "end"]
    assert sum(r["n"] for r in windows) == 2 * duration_s  # a late one stands for several
    assert len(served) >= 2
    assert all(m["min_ns"] >= 2 * MS for m in served)
    # what a call keeps is in the private memory of the command, not of the child that speaks to it
    grown = served[-1]["private_dirty_bytes"] - served[0]["private_dirty_bytes"]
    kept = 100_000 * sum(m["calls"] for m in served[1:])
    assert 0.9 * kept < grown < 1.2 * kept + (1 << 20)
    life = records[0]
    assert life["agent_sha256"] == agent.stem.removeprefix("agent-")
    beat = json.loads((board.folder / "runner.json").read_text())
    assert (beat["state"], beat["life"]) == ("ended", 1)


def test_each_life_tells_governor_and_limits_and_keeps_those_of_the_start(
    tmp_path: Path, agent: Path
) -> None:
    board = Board(tmp_path, agent, [str(SUPPORT / "doubling_command.py")], duration_s=3600, window_s=0.25)
    devices = board.sensors / "sys" / "devices"
    shutil.copytree(Path(__file__).parents[3] / "captures" / "rpi4" / "sys" / "devices", devices)
    start = {"governor": "ondemand", "min_hz": 600_000_000, "max_hz": 1_500_000_000, "cpus": []}
    with board.runner():
        board.wait_for(lambda: board.records("window"))
    limit = devices / "system" / "cpu" / "cpufreq" / "policy0" / "scaling_max_freq"
    limit.write_text("1000000\n")  # while the runner is away
    with board.runner():
        board.wait_for(lambda: "frequency_capped" in {r["event"] for r in board.records("event")})
    first, second = board.records("life")
    assert first["cpufreq"] == {"policy0": start}
    assert second["cpufreq"] == {"policy0": {**start, "max_hz": 1_000_000_000}}
    (event,) = (r for r in board.records("event") if r["event"] == "frequency_capped")
    assert event["details"] == {"policy0": {"max_hz": 1_000_000_000, "start_hz": 1_500_000_000}}


def test_a_command_that_dies_is_a_crash_with_its_signal(tmp_path: Path, agent: Path) -> None:
    dying = [str(SUPPORT / "doubling_command.py"), "--die-in", "run"]
    once = {"crash": False, "reboot": True, "max_per_h": 5}
    board = Board(tmp_path, agent, dying, duration_s=3600, window_s=300, restart=once)
    assert board.run() == 0
    events = {r["event"]: r for r in board.records("event")}
    assert events["crash"]["details"]["signal"] == signal.SIGKILL
    assert "the command died of signal 9" in events["crash"]["text"]
    assert "gave_up" in events
    assert board.records()[-1]["reason"] == "aborted: every stream gave up"


def test_a_killed_child_comes_back_and_a_killed_runner_takes_its_children_along(
    tmp_path: Path, agent: Path
) -> None:
    doubling = [str(SUPPORT / "doubling_command.py")]
    cycle = {"kind": "every", "period_ns": 20 * MS}
    board = Board(tmp_path, agent, doubling, duration_s=3600, window_s=0.25, cycle=cycle)

    def served() -> list[dict[str, Any]]:
        return [r for r in board.records("window") if r["streams"]["main"]["calls"]]

    with board.runner() as process:
        board.wait_for(served)
        (child,) = board.children(process)
        os.kill(child, signal.SIGSEGV)
        board.wait_for(lambda: [r for r in board.records("event") if r["event"] == "child_restarted"])
        (again,) = board.children(process)
        process.kill()
        process.wait()
        board.wait_for(lambda: not Path(f"/proc/{again}").exists())
    crash = next(r for r in board.records("event") if r["event"] == "crash")
    assert crash["details"]["signal"] == signal.SIGSEGV
    before = board.records()
    with board.runner() as process:
        board.wait_for(lambda: len(board.records("life")) == 2 and served()[-1]["life"] == 2)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    records = board.records()
    assert records[: len(before)] == before
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    life = board.records("life")[1]
    assert (life["life"], life["gap_from"]) == (2, "boottime")
    assert 0 < life["gap_ns"] < DEADLINE_S * S
    assert board.records("end") == []  # a signal alone ends no soak


def test_a_stop_is_seen_at_once_and_a_second_runner_leaves(tmp_path: Path, agent: Path) -> None:
    board = Board(tmp_path, agent, [str(SUPPORT / "doubling_command.py")], duration_s=3600, window_s=600)
    with board.runner() as process:
        board.wait_for(lambda: (board.folder / "runner.json").exists() and board.children(process))
        assert board.run() != 0
        (board.folder / "stop.json").write_text('{"reason": "enough"}')
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    assert board.records()[-1]["reason"] == "stopped"
    assert [r["text"] for r in board.records("event")] == ["enough"]
    assert board.run() == 0  # it has ended: nothing more is written
    assert board.records()[-1]["reason"] == "stopped"
    assert len(board.records("life")) == 1
