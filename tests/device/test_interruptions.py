"""Ctrl-C, SIGTERM and kill -9 of a session at several moments: what is left."""

from __future__ import annotations

import json
import secrets
import signal
import sys
from pathlib import Path

import pytest
from support.bench import eventually
from support.repository import TIMEOUT_S, Finished, Repository, Running
from support.sshd import Sshd
from support.tiny import MODELS

from harness.cli.main import main
from harness.emulation import runs
from harness.model import Outcome
from harness.store import read_session

COMMAND = Path(__file__).resolve().parents[1] / "support" / "doubling_command.py"
PLAN = """
[runtimes.slow]
kind = "command"
argv = ["{python}", "{command}", "--mark", "{mark}", "--sleep", "3600"]
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
    """A session that measures on this host, and would for an hour more."""
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


def test_a_second_ctrl_c_is_no_traceback(measuring):
    measuring.interrupt()
    measuring.interrupt()
    done = measuring.finish()
    assert_readable_and_partial(done)
    assert "Traceback" not in done.output, done.output


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


# --- while a model is being pushed, over SSH --------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_push(sshd: Sshd, tmp_path, number):
    repository = Repository.make(tmp_path / "theirs")
    home = tmp_path / "home"
    model = repository.root / "model.double"
    with model.open("wb") as file:
        file.truncate(256 << 20)  # large enough to be caught on its way
    repository.write_plan(PLAN.format(python=sys.executable, command=COMMAND, mark=tmp_path / "measuring"))
    with (repository.root / "devices.toml").open("a") as file:
        file.write(
            f'\n[devices.loop]\ntype = "rpi4"\nkind = "ssh"\nhome = "{home}"\n[devices.loop.ssh]\n'
            f'host = "{sshd.host}"\nport = {sshd.port}\nuser = "{sshd.user}"\n'
            f'identity_path = "{sshd.identity}"\nhost_key = "{sshd.host_key}"\n'
        )
    running = repository.start(
        "--device", "loop", "--model", "model.double", "--runtime", "slow", "-m", "deploy"
    )
    running.wait_for_any(home / "incoming", min_bytes=1 << 20)
    running.signal(number)
    assert_readable_and_partial(running.finish())
    assert list((home / "objects").iterdir()) == []
    assert list((home / "active").iterdir()) == []
    assert list((home / "incoming").iterdir()) == []
    assert is_gone(f"--home {home}")


# --- on an emulated board ---------------------------------------------------------------------------


@pytest.fixture
def own_board(tmp_path: Path) -> tuple[Repository, str]:
    """A repository with an emulated board of a name that no other machine has."""
    repository = Repository.make(tmp_path / "theirs")
    name = f"rpi4-{secrets.token_hex(4)}"
    devices = repository.root / "devices.toml"
    devices.write_text(devices.read_text().replace("rpi4-emulated", name))
    return repository, name


def machine_folders(name: str) -> list[Path]:
    return list(runs.ephemeral_root().glob(f"{name}.*"))


def no_machine_is_left(name: str) -> bool:
    """Return whether, soon, the board's QEMU, its keeper and its disk are gone."""
    return eventually(lambda: not machine_folders(name)) and is_gone(f"/{name}.")


def start_on(own_board: tuple[Repository, str], *args: str) -> Running:
    repository, name = own_board
    return repository.start("--device", name, "--model", str(MODELS / "tiny.onnx"), *args)


@pytest.mark.device
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_while_the_board_boots(own_board, number):
    running = start_on(own_board, "-m", "deploy")
    assert eventually(
        lambda: any((f / "qmp.sock").exists() for f in machine_folders(own_board[1])), TIMEOUT_S
    )
    running.signal(number)
    done = running.finish()
    assert no_machine_is_left(own_board[1])
    if number is signal.SIGINT:
        assert_readable_and_partial(done)
    else:
        assert read_session(done.folder).runs == ()
        assert main(["gate", str(done.folder)]) == 11


@pytest.mark.device
def test_killed_while_the_board_is_measured(own_board):
    running = start_on(own_board, "-m", "deploy or memory")
    first = running.folder / "runs" / f"001-deploy-tiny.onnx-{own_board[1]}"
    running.wait_for(first)
    running.signal(signal.SIGKILL)
    done = running.finish()
    assert no_machine_is_left(own_board[1])
    assert [run.outcome for run in read_session(done.folder).runs] == [Outcome.COMPLETED]
    assert main(["report", str(done.folder)]) == 0
    assert done.summary()["verdict"] == "INVALID"
    assert "never finished" in (done.folder / "report.html").read_text()
