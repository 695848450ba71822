"""What a session does with each way in which a run can end; measuring itself is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.tiny import MODELS

from harness import session as sessions
from harness import workbench
from harness.errors import (
    AgentError,
    ConfigError,
    ConnectionLost,
    DeadlineExceeded,
    DeviceFull,
    HostSetupError,
    ModelRejected,
    Unsupported,
)
from harness.kinds import Measure, Task
from harness.measure.bench import Observation
from harness.model import Device, DeviceType, Fidelity, Outcome, Plan, PlanModel, Run
from harness.progress import Progress
from harness.selection import Target
from harness.session import Session, SessionOptions
from harness.store import read_session

TARGET = Target(Device("desk", DeviceType("host"), "local"), PlanModel("tiny", MODELS / "tiny.onnx"))
READINGS = {"boot_id": "b", "monotonic_ns": 1, "realtime_ns": 1, "load1": 0.1}


class FakeBoard:
    """A board that opens at once and notes when it is closed."""

    def __init__(self, device: Device, close: Callable[[], None]) -> None:
        self.device, self.profile, self.governor = device, "native", {}
        self.client = SimpleNamespace(is_running=True)
        self.facts = sessions.DeviceFacts(device.name, device.type.name, device.kind, "s1", "linux-x86_64")
        self.close = close

    def conditions(self) -> dict[str, Any]:
        return READINGS


class Desk:
    """A session whose boards are fakes and whose measurements are scripted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.opened: list[FakeBoard] = []
        self.closed: list[FakeBoard] = []
        self.folder = folder
        self.session = Session(
            SessionOptions(folder / "reports", **options), Plan(None), [TARGET], None, Progress(None)
        )
        self._patch = monkeypatch
        monkeypatch.setenv("HIL_HARNESS_STATE", str(folder / "state"))
        monkeypatch.setattr(workbench.boards, "open_board", self._open)
        monkeypatch.setattr(workbench, "prepare", self._prepare)

    def _open(self, device: Device, *_: Any) -> FakeBoard:
        board = FakeBoard(device, lambda: self.closed.append(board))
        self.opened.append(board)
        return board

    def _prepare(self, board: FakeBoard, case: Any, *_: Any, **__: Any) -> Any:
        env = SimpleNamespace(packages=(), sha256="e")
        inputs = SimpleNamespace(sha256="i")
        look = SimpleNamespace(runtime_version="1.2.3")
        return SimpleNamespace(
            board=board, case=case, env=env, inputs=inputs, look=look, time_fidelity=Fidelity.MEASURED
        )

    def run(self, *script: BaseException | None, suite: str = "memory") -> Run:
        """Measure once; each attempt raises the next of `script`, None measures."""
        steps = iter(script)

        def take(task: Task) -> Observation:
            step = next(steps)
            if step is not None:
                raise step
            return Observation()

        self._patch.setitem(sessions.MEASURES, suite, Measure(suite, "functional", take))
        return self.session.run(suite, TARGET, f"test_{suite}")

    def stored(self) -> tuple[Run, ...]:
        (folder,) = (p.parent for p in self.folder.glob("reports/*/session.json"))
        return read_session(folder).runs


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_a_run_that_ends_well(desk):
    run = desk.run(None)
    assert (run.outcome, run.attempt, run.runtime, run.runtime_version) == (
        Outcome.COMPLETED,
        1,
        "onnxruntime",
        "1.2.3",
    )
    assert [r.run_id for r in desk.stored()] == [run.run_id]


@pytest.mark.parametrize("error", [ConnectionLost("gone."), DeadlineExceeded("late.")])
def test_a_transient_error_is_tried_again_once_on_a_fresh_board(desk, error):
    run = desk.run(error, None)
    assert (run.outcome, run.attempt) == (Outcome.COMPLETED, 2)
    assert [(r.outcome, r.attempt) for r in desk.stored()] == [
        (Outcome.INFRA_ERROR, 1),
        (Outcome.COMPLETED, 2),
    ]
    assert len(desk.opened) == 2
    assert desk.closed == desk.opened[:1]


def test_a_second_transient_error_stands(desk):
    run = desk.run(ConnectionLost("gone."), ConnectionLost("gone again."))
    assert (run.outcome, run.attempt) == (Outcome.INFRA_ERROR, 2)
    assert run.error is not None
    assert (run.error.slug, run.error.retries) == ("connection-lost", 1)
    assert desk.closed == desk.opened


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AgentError("it raised."), Outcome.INFRA_ERROR),
        (DeviceFull("no room."), Outcome.INFRA_ERROR),
        (HostSetupError("no pip."), Outcome.INFRA_ERROR),
        (ConfigError("bad shape"), Outcome.USAGE_ERROR),
        (Unsupported("no batch of 8."), Outcome.SKIPPED),
        (ModelRejected("bad op."), Outcome.MODEL_REJECTED),
    ],
)
def test_nothing_else_is_tried_again_and_the_board_stays(desk, error, outcome):
    run = desk.run(error)
    assert (run.outcome, run.attempt) == (outcome, 1)
    assert (run.reason if outcome is Outcome.SKIPPED else run.error) is not None
    assert desk.closed == []
    assert [r.outcome for r in desk.stored()] == [outcome]


def test_a_board_whose_agent_is_gone_is_opened_anew(desk):
    desk.run(None)
    desk.opened[0].client.is_running = False
    assert desk.run(AgentError("the agent was ended by SIGKILL.")).attempt == 1
    assert desk.closed == desk.opened[:1]
    desk.run(None)
    assert len(desk.opened) == 2


def test_what_did_not_deploy_is_not_measured(desk):
    desk.run(ModelRejected("bad op."), suite="deploy")
    run = desk.run(suite="memory")  # would measure nothing: the script is empty
    assert run.outcome is Outcome.SKIPPED
    assert "did not deploy" in (run.reason or "")


def test_an_interrupt_is_stored_first(desk):
    with pytest.raises(KeyboardInterrupt):
        desk.run(KeyboardInterrupt())
    assert desk.session.interrupted
    assert [r.outcome for r in desk.stored()] == [Outcome.INTERRUPTED]


def test_a_fault_of_ours_is_raised(desk):
    with pytest.raises(ZeroDivisionError):
        desk.run(ZeroDivisionError("by nought"))
    assert desk.session.internal_error
    (run,) = desk.stored()
    assert (run.outcome, run.reason) == (Outcome.INVALID, "internal error: ZeroDivisionError('by nought')")
    assert "Traceback" in run.log


def test_an_interrupt_while_the_store_opens_leaves_a_finished_session(desk, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    def broken(*_):
        raise AttributeError("sqlalchemy was imported in part")

    monkeypatch.setattr(sessions.Store, "_put_session", interrupt)
    with pytest.raises(KeyboardInterrupt):
        desk.run(None)
    desk.session.interrupted = True  # as the plugin does
    monkeypatch.setattr("harness.store.index.Index.put_session", broken)
    record = read_session(desk.session.finish()).record
    assert record.interrupted
    assert record.finished_at is not None


def test_a_usage_error_of_a_model_is_told_once(desk, monkeypatch):
    def refuse(*_, **__):
        raise ConfigError("bad shape")

    monkeypatch.setattr(workbench, "prepare", refuse)
    assert desk.run(suite="deploy").outcome is Outcome.USAGE_ERROR
    run = desk.run(suite="memory")  # would measure nothing: the script is empty
    assert (run.outcome, run.reason) == (
        Outcome.SKIPPED,
        "not measured: see the first error of this model.",
    )


def test_a_usage_error_of_one_measurement_leaves_the_others(desk):
    assert desk.run(ConfigError("no such rate"), suite="server").outcome is Outcome.USAGE_ERROR
    assert desk.run(None, suite="memory").outcome is Outcome.COMPLETED


def test_the_session_is_on_disk_before_its_first_measurement(desk, monkeypatch):
    seen = []

    def take(task):
        seen.extend(desk.folder.glob("reports/*/session.json"))
        return Observation()

    monkeypatch.setitem(sessions.MEASURES, "memory", Measure("memory", "functional", take))
    desk.session.run("memory", TARGET, "test")
    assert len(seen) == 1
    assert desk.stored()


def test_a_folder_that_holds_a_session_is_left_alone(tmp_path, monkeypatch):
    place = tmp_path / "mine"
    Desk(tmp_path / "a", monkeypatch, report_dir=place).run(None)
    before = (place / "session.json").read_bytes()
    with pytest.raises(ConfigError, match="holds a session already"):
        Desk(tmp_path / "b", monkeypatch, report_dir=place).run(None)
    assert (place / "session.json").read_bytes() == before


def test_a_session_without_runs_leaves_nothing(desk):
    assert desk.session.finish() is None
    assert not (desk.folder / "reports").exists()


def test_finishing_closes_boards_renders_and_points_latest_at_it(desk):
    desk.run(None)
    folder = desk.session.finish()
    assert desk.closed == desk.opened
    assert (folder / "report.html").stat().st_size > 1000
    assert (desk.folder / "reports" / "latest").resolve() == folder.resolve()
    assert read_session(folder).record.finished_at is not None
    desk.session.close()  # twice does no harm
    assert desk.closed == desk.opened


def test_a_board_that_can_not_be_closed_in_order_hides_nothing(desk):
    desk.run(None)

    def fail():
        raise ConnectionLost("gone.")

    desk.opened[0].close = fail
    assert desk.session.finish() is not None


def test_a_measured_device_is_held_and_let_go(desk):
    from harness import leases

    desk.run(None)
    assert set(leases.holders()) == {"desk"}
    desk.session.close()
    assert leases.holders() == {}
