"""The governor is put back whatever ends the agent: a real agent and guard, a folder in place of /sys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bench import LONG_S, eventually

from harness.agent import guard, wire
from harness.agent.faults import Fault
from harness.agent.governor import set_governor
from harness.agent.guard import Settings
from harness.agent.probes import Probes
from harness.remote import build_archive

FILES = "sys/devices/system/cpu/cpu%d/cpufreq/%s"
AGENT = """
import sys
from hil_agent import ops
from hil_agent.parent import run_parent
from hil_agent.probes import Probes
root, home, location = sys.argv[1:]
ops.Probes = lambda: Probes(root)
sys.exit(run_parent(home, location))
"""


class Board:
    """A board's files, and a home for its agents."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.home = folder / "home"
        self.home.mkdir()
        self.location = folder / "agent.pyz"
        self.location.write_bytes(build_archive()[0])
        self.probes = Probes(str(self.root))
        for cpu in range(2):
            self.file(cpu).parent.mkdir(parents=True)
            self.file(cpu).write_text("ondemand\n")
            self.file(cpu, "scaling_available_governors").write_text("performance ondemand \n")
        for pid in (os.getpid(), 1):
            (self.root / f"proc/{pid}").mkdir(parents=True)
            (self.root / f"proc/{pid}/stat").write_text(f"{pid} (x) " + " ".join(["7"] * 50))
        (self.root / "proc/sys/kernel/random").mkdir(parents=True)
        (self.root / "proc/sys/kernel/random/boot_id").write_text("this boot\n")

    def file(self, cpu: int, name: str = "scaling_governor") -> Path:
        return self.root / (FILES % (cpu, name))

    def governors(self) -> list[str]:
        return [self.file(cpu).read_text().strip() for cpu in range(2)]

    def settings(self) -> Settings:
        return Settings(str(self.home), str(self.location), self.probes)

    def records(self) -> list[Path]:
        return sorted((self.home / "settings").glob("*.json"))

    def put_record(self, **changes: Any) -> None:
        """Leave the record of an agent that is gone, and what it set."""
        entries = [{"path": str(self.file(cpu)), "was": "ondemand", "set": "performance"} for cpu in range(2)]
        for cpu in range(2):
            self.file(cpu).write_text("performance")
        record = {"pid": 2**22 + 1, "start_ticks": 5, "boot_id": "this boot", "entries": entries, **changes}
        (self.home / "settings").mkdir()
        (self.home / "settings/9-9.json").write_text(json.dumps(record))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


class Agent:
    """A real agent's parent process on that board."""

    def __init__(self, board: Board) -> None:
        command = [sys.executable, "-c", AGENT, str(board.root), str(board.home), str(board.location)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(self.unpacked(board))},
        )

    @staticmethod
    def unpacked(board: Board) -> Path:
        folder = Path(f"{board.location}.d")
        if not folder.is_dir():
            subprocess.run([sys.executable, "-I", "-S", str(board.location), "child"], check=False, input=b"")
        return folder

    def ask(self, op: str, **args: Any) -> wire.Frame:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(wire.encode_header(wire.Frame(1, "request", op, args, b"")))
        self.process.stdin.flush()
        decoder = wire.Decoder()
        while True:
            for frame in decoder.feed(os.read(self.process.stdout.fileno(), 1 << 16)):
                return frame

    def end_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def guard_pid(self) -> int:
        """Return its only child."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)


@pytest.fixture
def agent(board: Board) -> Iterator[Agent]:
    made = Agent(board)
    yield made
    made.process.kill()
    made.process.wait()
    for pipe in (made.process.stdin, made.process.stdout, made.process.stderr):
        assert pipe is not None
        pipe.close()


ENDS: dict[str, Callable[[Agent], object]] = {
    "bye": lambda agent: agent.ask("bye"),
    "end of its stream": Agent.end_stdin,
    "terminated": lambda agent: agent.process.terminate(),
    "killed": lambda agent: agent.process.kill(),
    "killed with its group, the guard told to end": lambda agent: (
        os.kill(agent.guard_pid(), signal.SIGTERM),
        os.kill(agent.guard_pid(), signal.SIGHUP),
        agent.process.kill(),
    ),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_it_is_put_back_whatever_ends_the_agent(
    board: Board, agent: Agent, end: Callable[[Agent], object]
) -> None:
    board.file(1).write_text("conservative\n")  # each CPU gets its own back
    answer = agent.ask("set_governor", governor="performance")
    assert answer.args == {
        "was": {"cpu0": "ondemand", "cpu1": "conservative"},
        "is": {"cpu0": "performance", "cpu1": "performance"},
    }
    assert board.governors() == ["performance", "performance"]
    assert len(board.records()) == 1
    end(agent)
    agent.process.wait(LONG_S)
    assert eventually(lambda: board.governors() == ["ondemand", "conservative"])
    assert eventually(lambda: board.records() == [])


def test_when_bye_is_answered_it_is_back_already(board: Board, agent: Agent) -> None:
    agent.ask("set_governor", governor="performance")
    agent.ask("bye")
    assert board.governors() == ["ondemand", "ondemand"]


def test_agent_and_guard_killed_the_next_agent_puts_it_back(board: Board, agent: Agent) -> None:
    agent.ask("set_governor", governor="performance")
    os.kill(agent.guard_pid(), signal.SIGKILL)
    agent.process.kill()
    agent.process.wait(LONG_S)
    assert board.governors() == ["performance", "performance"]
    board.settings().restore_leftovers()
    assert board.governors() == ["ondemand", "ondemand"]
    assert board.records() == []


def test_only_the_guard_killed_the_agent_puts_it_back(board: Board, agent: Agent) -> None:
    agent.ask("set_governor", governor="performance")
    os.kill(agent.guard_pid(), signal.SIGKILL)
    agent.ask("bye")
    assert board.governors() == ["ondemand", "ondemand"]
    assert board.records() == []


def test_after_a_power_cut_the_next_agent_puts_it_back(board: Board) -> None:
    board.put_record(boot_id="an earlier boot", pid=os.getpid(), start_ticks=7)  # a pid comes again
    board.settings().restore_leftovers()
    assert board.governors() == ["ondemand", "ondemand"]
    assert board.records() == []


def test_what_another_living_agent_has_set_stays(board: Board) -> None:
    board.put_record(pid=1, start_ticks=7)
    board.settings().restore_leftovers()
    assert board.governors() == ["performance", "performance"]
    assert len(board.records()) == 1


def test_what_another_has_changed_meanwhile_stays(board: Board) -> None:
    settings = board.settings()
    set_governor(settings, board.probes, "performance")
    board.file(0).write_text("powersave")
    settings.close()
    assert board.governors() == ["powersave", "ondemand"]
    settings.close()


def test_twice_set_the_first_is_put_back(board: Board) -> None:
    for cpu in range(2):
        board.file(cpu, "scaling_available_governors").write_text("performance powersave ondemand\n")
    settings = board.settings()
    set_governor(settings, board.probes, "performance")
    again = set_governor(settings, board.probes, "powersave")
    assert again["was"] == {"cpu0": "performance", "cpu1": "performance"}
    settings.close()
    assert board.governors() == ["ondemand", "ondemand"]


def test_what_is_so_already_is_left_alone(board: Board) -> None:
    settings = board.settings()
    answer = set_governor(settings, board.probes, "ondemand")
    assert answer["was"] == answer["is"]
    assert board.records() == []
    settings.close()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"entries": [{"path": "x"}]}'])
def test_a_damaged_record_is_removed_and_told(
    board: Board, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    board.put_record()
    board.records()[0].write_text(damage)
    board.settings().restore_leftovers()
    assert board.records() == []
    assert "not a record of settings" in capsys.readouterr().err


def test_what_can_not_be_put_back_stays_written_down(
    board: Board, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board.put_record()
    real = guard.write_setting

    def write(path: str, text: str) -> None:
        if "cpu1" in path:
            raise PermissionError(1, "Operation not permitted", path)
        real(path, text)

    monkeypatch.setattr(guard, "write_setting", write)
    board.settings().restore_leftovers()
    assert board.governors() == ["ondemand", "performance"]
    assert "cpu1/cpufreq/scaling_governor can't be set back to `ondemand`" in capsys.readouterr().err
    monkeypatch.undo()
    board.settings().restore_leftovers()
    assert board.governors() == ["ondemand", "ondemand"]


def test_a_cpu_that_was_taken_off_line_is_forgotten(board: Board) -> None:
    board.put_record()
    board.file(1).unlink()
    board.settings().restore_leftovers()
    assert board.file(0).read_text() == "ondemand"
    assert board.records() == []


# where it can't be set


def no_cpufreq(board: Board) -> None:
    for cpu in range(2):
        board.file(cpu).unlink()


def no_such_governor(board: Board) -> None:
    board.file(0, "scaling_available_governors").write_text("ondemand\n")


def second_cpu_refuses(board: Board) -> None:
    board.file(1).unlink()
    board.file(1).symlink_to("/dev/full")  # takes no byte


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (no_cpufreq, "has no governor: .*scaling_governor: no such file"),
        (no_such_governor, "no governor `performance` here; there are: ondemand"),
        (second_cpu_refuses, "the governor can't be set: .*No space left"),
    ],
)
def test_unsupported_says_why_and_changes_nothing(
    board: Board, make: Callable[[Board], None], text: str
) -> None:
    make(board)
    settings = board.settings()
    with pytest.raises(Fault, match=text) as caught:
        set_governor(settings, board.probes, "performance")
    assert caught.value.kind == "unsupported"
    assert not board.file(0).exists() or board.file(0).read_text().strip() == "ondemand"
    settings.close()
    assert board.records() == []


def test_no_right_says_how_to_get_it(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, text: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(guard, "write_setting", refuse)
    settings = board.settings()
    with pytest.raises(Fault, match=r"may not set the governor .*/etc/tmpfiles\.d/") as caught:
        set_governor(settings, board.probes, "performance")
    assert caught.value.kind == "unsupported"
    settings.close()
