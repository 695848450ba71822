"""Ctrl-C, SIGTERM and kill -9 of a session in the middle of a measurement, on this host: what is left."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from support.bench import eventually
from support.repository import Finished, Repository, Running

from harness.cli.main import main
from harness.store import read_session

COMMAND = Path(__file__).resolve().parents[1] / "support" / "doubling_command.py"
PLAN = """
[runtimes.slow]
kind = "command"
argv = ["{python}", "{command}", "--mark", "{mark}", "--sleep", "60"]
protocol = "json-lines"
"""


def command_lines() -> list[str]:
    """Return the command line of every process."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue  # it ended meanwhile
    return lines


def is_gone(text: str) -> bool:
    """Return whether, soon, no process has `text` on its command line."""
    return eventually(lambda: not any(text in line for line in command_lines()))


@pytest.fixture
def measuring(tmp_path: Path) -> Running:
    """A session that measures on this host, and would for a minute more."""
    repository = Repository.make(tmp_path / "theirs")
    (repository.root / "model.double").write_text("twice")
    mark = tmp_path / "measuring"
    repository.write_plan(PLAN.format(python=sys.executable, command=COMMAND, mark=mark))
    running = repository.start(
        "--device", "local", "--model", "model.double", "--runtime", "slow", "-m", "deploy or memory"
    )
    running.wait_for(mark)
    return running


def assert_readable_and_partial(done: Finished) -> None:
    """Check that the report is there and says what happened, and that the gate lets nothing pass."""
    assert done.returncode == 2, done.output
    summary = done.summary()
    assert (summary["verdict"], summary["exit_code"]) == ("INVALID", 2)
    assert [run["outcome"] for run in done.runs()] == ["interrupted"]
    assert "interrupted" in (done.folder / "report.html").read_text()
    assert main(["gate", str(done.folder)]) == 11


def test_ctrl_c_leaves_a_readable_partial_session(measuring, tmp_path):
    measuring.interrupt()
    done = measuring.finish()
    assert_readable_and_partial(done)
    assert "KeyboardInterrupt" in done.output  # pytest's own word for it
    assert is_gone(str(tmp_path / "measuring"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_as_ctrl_c(measuring, tmp_path, number):
    measuring.signal(number)
    assert_readable_and_partial(measuring.finish())
    assert is_gone(str(tmp_path / "measuring"))


def test_a_second_request_does_not_cut_the_clean_up_short(measuring):
    measuring.interrupt()
    measuring.signal(signal.SIGTERM)
    measuring.signal(signal.SIGTERM)
    assert_readable_and_partial(measuring.finish())


def test_a_killed_session_can_be_read(measuring, tmp_path, capsys):
    measuring.signal(signal.SIGKILL)
    done = measuring.finish()
    assert done.returncode == -signal.SIGKILL
    assert is_gone(str(tmp_path / "measuring"))
    assert read_session(done.folder).record.finished_at is None
    assert not (done.folder / "report.html").exists()
    assert main(["report", str(done.folder)]) == 0
    assert "never finished" in (done.folder / "report.html").read_text()
    assert done.summary()["verdict"] == "INVALID"
    capsys.readouterr()
    assert main(["gate", str(done.folder), "--format", "json"]) == 11
    gate = json.loads(capsys.readouterr().out)
    assert "never finished" in str(gate["missing"] + gate["reasons"])


def test_its_lease_is_free_again(measuring, tmp_path):
    measuring.signal(signal.SIGKILL)
    measuring.finish()
    again = Repository(tmp_path / "theirs").pytest(
        "--device", "local", "--model", "model.double", "--runtime", "slow", "-m", "deploy",
        "--report-dir", str(tmp_path / "again"),
    )  # fmt: skip
    assert again.returncode == 0, again.output  # the command sleeps once only
