"""What breaks while a board is measured: its link, its power, the agent, the model's process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.bench import LONG_S
from support.device import emulated_device
from support.tiny import MODELS

from harness import gate
from harness.connect.qemu import QemuConnection, compute_address
from harness.connect.ssh import SshConnection
from harness.emulation import Machine
from harness.measure import memory
from harness.model import Outcome, Plan, PlanModel, Run, Verdict
from harness.progress import Progress
from harness.selection import Target
from harness.session import Session, SessionOptions
from harness.store import read_session

pytestmark = pytest.mark.device
MODEL = PlanModel("tiny", MODELS / "tiny.onnx")


@pytest.fixture(scope="module", autouse=True)
def _few_processes() -> Iterator[None]:
    """Have memory measured by two processes: what is tested is what happens to the second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "PROCESSES", 2)
        patch.setattr(memory, "EMULATED_BATCH_SIZES", (1,))
        yield


class Script(Progress):
    """A progress line that does something once, when `at` is shown."""

    def __init__(self) -> None:
        super().__init__(None)
        self.at, self.act = "", lambda: None
        self.done = False

    def set(self, at: str, act: Callable[[], None]) -> None:
        self.at, self.act, self.done = at, act, False

    def say(self, text: str) -> None:
        if self.at and self.at in text and not self.done:
            self.done = True
            self.act()


class Bench:
    """A session on one emulated board, in which a script breaks something."""

    def __init__(self, folder: Path) -> None:
        self.script = Script()
        self.target = Target(emulated_device(), MODEL)
        options = SessionOptions(folder / "reports")
        self.session = Session(options, Plan(None), [self.target], None, self.script)

    @property
    def connection(self) -> QemuConnection:
        """The connection to the board that is open now."""
        (board,) = (
            b for (name, _), b in self.session.workbench._boards.items() if name == self.target.device.name
        )
        assert isinstance(board.connection, QemuConnection)
        return board.connection

    @property
    def machine(self) -> Machine:
        return self.connection.machine

    def agent_pid(self) -> int:
        (board,) = (
            b for (name, _), b in self.session.workbench._boards.items() if name == self.target.device.name
        )
        return int(board.client.hello["pid"])

    @contextlib.contextmanager
    def root(self) -> Iterator[SshConnection]:
        """Open a connection of the board's root user."""
        connection = SshConnection("root", compute_address(self.machine, user="root"), hermetic=True)
        try:
            yield connection
        finally:
            connection.close()

    def measure(self, kind: str) -> Run:
        return self.session.run(kind, self.target, f"test_{kind}")

    def stored(self) -> tuple[Run, ...]:
        """Finish the session and read it back."""
        folder = self.session.finish()
        assert folder is not None
        return read_session(folder).runs


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    opened = Bench(tmp_path)
    yield opened
    opened.session.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A session whose board stays up: for faults that a board survives."""
    opened = Bench(tmp_path_factory.mktemp("shared"))
    yield opened
    opened.session.close()


def cut_link(bench: Bench) -> None:
    bench.machine.set_link(False)


def reset(bench: Bench) -> None:
    bench.machine.reset()


@pytest.mark.parametrize("act", [cut_link, reset])
def test_a_lost_board_is_tried_again_on_a_fresh_one(bench, act):
    bench.script.set("process 2 of 2", lambda: act(bench))
    run = bench.measure("memory")
    assert bench.script.done
    assert (run.outcome, run.attempt) == (Outcome.COMPLETED, 2)
    first, second = bench.stored()
    assert (first.outcome, first.attempt) == (Outcome.INFRA_ERROR, 1)
    assert first.error is not None
    assert first.error.slug in ("connection-lost", "deadline-exceeded")
    assert [r.attempt for r in gate.standing_runs((first, second))] == [2]
    assert gate.session_verdict(gate.results_of(second, ())) is Verdict.PASS
    worst = gate.worst([r.verdict for run in (first, second) for r in gate.results_of(run, ())])
    assert worst is Verdict.INFRA_ERROR  # what a release sees


def test_an_agent_that_is_killed_is_the_labs_failure_and_the_next_run_gets_a_new_one(shared):
    def kill() -> None:
        shared.connection.run(["kill", "-9", str(shared.agent_pid())], timeout_s=LONG_S)

    shared.script.set("process 2 of 2", kill)
    run = shared.measure("memory")
    assert run.outcome is Outcome.INFRA_ERROR
    assert run.error is not None
    assert "the agent was ended by SIGKILL" in run.error.message
    assert "kernel log" in run.error.message
    assert shared.measure("deploy").outcome is Outcome.COMPLETED


def test_a_measured_process_that_is_killed(shared):
    def kill() -> None:
        found = shared.connection.run(["pgrep", "-P", str(shared.agent_pid())], timeout_s=LONG_S)
        shared.connection.run(["kill", "-9", *found.stdout.decode().split()], timeout_s=LONG_S)

    shared.script.set("inference 1 of", kill)
    run = shared.measure("accuracy")
    assert run.outcome is Outcome.INFRA_ERROR  # by whom is not known: not the model's fault
    assert run.error is not None
    assert "SIGKILL" in run.error.message
    assert shared.measure("deploy").outcome is Outcome.COMPLETED


def limit_memory(bench: Bench, pids: list[str], limit: str) -> None:
    """Put processes of the board under a cgroup's limit."""
    group = f"/sys/fs/cgroup/limit-{limit}"
    moves = [f"echo {pid} >{group}/cgroup.procs" for pid in pids]
    with bench.root() as root:
        steps = [f"mkdir {group}", *moves, f"echo {limit} >{group}/memory.max"]
        root.run(["sh", "-c", " && ".join(steps)], timeout_s=LONG_S)


def test_a_model_that_outgrows_its_memory_fails(shared):
    def limit() -> None:
        found = shared.connection.run(["pgrep", "-P", str(shared.agent_pid())], timeout_s=LONG_S)
        limit_memory(shared, found.stdout.decode().split(), "0")  # whatever it asks for next is too much

    shared.script.set("inference 1 of", limit)
    run = shared.measure("accuracy")
    assert run.outcome is Outcome.MODEL_REJECTED, run
    assert run.error is not None
    assert "out of memory" in run.error.message


def test_a_runtime_that_does_not_fit_into_memory_is_told(shared):
    shared.script.set("process 1 of 2", lambda: limit_memory(shared, [str(shared.agent_pid())], "8M"))
    run = shared.measure("memory")
    assert run.outcome is Outcome.INFRA_ERROR, run
    assert run.error is not None
    assert "out of memory while the runtime was being imported" in run.error.message
