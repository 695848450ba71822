"""A link that is away for longer than anything waits: the soak goes on, and all of it is collected once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from support.bench import eventually
from support.device import HOST_TYPE
from support.soaking import command_spec
from support.sshd import Sshd, running_sshd

from harness import connect
from harness.connect import liveness
from harness.model import Device
from harness.remote.soak import SoakClient
from harness.soak.collector import Collector, CollectSettings, Reach, Visit
from harness.soak.ledger import Ledger
from harness.soak.reach import reach_for
from harness.soak.spool import Record
from harness.soak.table import read_table

TIMEOUT_S = 240.0  # only ends what hangs
# while the link is away; before and after it a busy host may take as long as it does
TICK_S = 0.2  # what a silent peer's seconds last
CONNECT_TIMEOUT_S = 1.0
SETTINGS = CollectSettings(poll_s=0.2, longest_poll_s=1.5, lease_s=1.0, stall_s=TIMEOUT_S, give_up_s=3600.0)
# each limit of connection and collector, one after the other
EVERY_LIMIT_S = (
    liveness.DEAD_AFTER_S * TICK_S + CONNECT_TIMEOUT_S + SETTINGS.longest_poll_s + SETTINGS.lease_s
)
WINDOWS = 4  # before and after


@pytest.fixture
def board(tmp_path: Path) -> Iterator[tuple[Sshd, Device]]:
    """Return an sshd of this test's own and the device behind it."""
    with running_sshd(tmp_path) as sshd:
        address = sshd.address(connect_timeout_s=TIMEOUT_S)
        yield sshd, Device("far-away", HOST_TYPE, "ssh", ssh=address, home=str(tmp_path / "home"))


@pytest.fixture
def ledger(board: tuple[Sshd, Device], tmp_path: Path) -> Iterator[Ledger]:
    """Return the ledger of a soak that runs on the device."""
    reach = reach_for(board[1], compressed=False)
    connection = connect.open_connection(board[1])
    folder = tmp_path / "files"
    folder.mkdir()
    spec = command_spec(connection, str(folder), tmp_path, reboot=False)
    connection.close()
    with reach() as soaks:
        soaks.start(spec)
    yield Ledger.create(tmp_path / "soaks", spec, {"device": board[1].name})
    with reach() as soaks:
        token = soaks.claim(spec["id"], "cleanup", take_over=True)
        soaks.stop(spec["id"], token, "cleanup")
        soaks.remove(spec["id"], token)


@dataclass
class Away:
    """Takes the server away in the middle of a visit, once that has brought some windows."""

    sshd: Sshd
    device: Device
    patch: pytest.MonkeyPatch
    gone: threading.Event = field(default_factory=threading.Event)
    back: bool = False
    failures: int = 0  # of visits, since it went
    windows: int = 0
    visits: list[Visit] = field(default_factory=list)
    _stop: AbstractContextManager[None] | None = None

    @contextmanager
    def visit(self) -> Iterator[SoakClient]:
        try:
            with self._reach()() as soaks:
                if self.windows >= WINDOWS and not self.gone.is_set():
                    self._go()
                yield soaks
        except BaseException:
            self.failures += 1
            raise

    def _reach(self) -> Reach:
        """Return the way to the device; while it is away, with deadlines that are soon over."""
        assert self.device.ssh is not None
        hasty = replace(self.device.ssh, connect_timeout_s=CONNECT_TIMEOUT_S)
        away = self.gone.is_set() and not self.back
        return reach_for(replace(self.device, ssh=hasty) if away else self.device, compressed=False)

    def _go(self) -> None:
        self.patch.setattr(liveness, "_TICK_S", TICK_S)
        os.kill(self.sshd.pid, signal.SIGSTOP)  # what connects now is never answered
        self._stop = self.sshd.sessions_stopped()
        self._stop.__enter__()
        self.failures, self.windows = 0, 0
        self.gone.set()

    def on_records(self, records: Sequence[Record]) -> None:
        self.windows += sum(record["k"] == "window" for record in records)

    def on_visit(self, visit: Visit) -> str | None:
        self.visits.append(visit)
        return "aborted: enough" if self.back and self.windows >= WINDOWS else None

    def come_back(self) -> None:
        self.patch.undo()
        self.back = True
        os.kill(self.sshd.pid, signal.SIGCONT)
        if self._stop is not None:
            self.sshd.end_sessions()  # after minutes nobody knows of them
            self._stop.__exit__(None, None, None)
            self._stop = None


@contextmanager
def running(work: Callable[[], object]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(TIMEOUT_S)


def test_a_link_away_for_longer_than_every_limit_loses_and_doubles_nothing(
    board: tuple[Sshd, Device], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(*board, monkeypatch)
    collector = Collector(away.visit, ledger, settings=SETTINGS, on_records=away.on_records)
    with running(lambda: collector.run(away.on_visit)) as thread:
        try:
            assert away.gone.wait(TIMEOUT_S)
            began_s = time.monotonic()
            held = ledger.read_state().seen.get("seq", 0)
            assert eventually(
                lambda: time.monotonic() - began_s > EVERY_LIMIT_S and away.failures >= 3, TIMEOUT_S
            )
            away_s = time.monotonic() - began_s
            assert ledger.read_state().seen.get("seq", 0) == held  # nothing came meanwhile
        finally:
            away.come_back()
    assert not thread.is_alive()
    assert away.visits[-1].ended == "ended"

    table = read_table(ledger.folder)
    assert (table.first_seq, table.missing_seq, table.doubled_seq) == (1, (), ())
    assert [life.life for life in table.lives] == [1]
    assert np.all(table.start_s[1:] == table.end_s[:-1])
    assert table.end_s[-1] > away_s
    assert table.ended == "aborted: enough"
    lost, back = (e for e in table.events if e.kind in ("link_lost", "link_back"))
    assert "silent for" in lost.text
    assert back.details["lost_s"] >= away_s
    assert max(visit.lost_s for visit in away.visits) == pytest.approx(back.details["lost_s"])
