"""One soak on one board through a lost link, crashes, shortage, a full disk and a clock that is set.

The faults come one after the other, in one soak, once for the module; each test looks at one of them. Other
faults: test_soak_boot, test_soak_compressed (resets, power, killed collectors), tests/contract/test_soak_*
(killed runners, damaged segments, two collectors).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from support.device import running_machine
from support.soak_faults import BOXED_BYTES, TIGHT_BYTES, WINDOW_S, Suffering
from support.soaking import check_calls

from harness.judging import judge
from harness.metrics import METRICS
from harness.model import Fidelity, SoakEvent, SoakSettings, SoakTable, Verdict
from harness.remote.soak import SoakStatus
from harness.soak.collector import stop_soak
from harness.soak.judge import Judged, judge_soak

pytestmark = pytest.mark.device
NAME = "rpi4-soak-faults"
HOUR_NS = 3600 * 10**9


@dataclass(frozen=True)
class Suffered:
    """What is known once all faults are over."""

    table: SoakTable
    around_cut: tuple[SoakStatus, SoakStatus]
    filled_bytes: int

    def events(self, *kinds: str) -> list[SoakEvent]:
        return [event for event in self.table.events if event.kind in kinds]

    def judged(self, table: SoakTable | None = None) -> Judged:
        found = table or self.table
        settings = SoakSettings(duration_s=float(found.end_s[-1]), window_s=WINDOW_S)
        return judge_soak(found, settings, ram_bytes=None, compressed=False, fidelity=Fidelity.MEASURED)

    def judged_as(self, kind: str) -> set[str]:
        """Return what events of this kind count as."""
        return {e["judged"] for e in self.judged().settings["events"] if e["kind"] == kind}

    def failing(self, *kinds: str) -> set[str]:
        """Return the counts of events that fail a soak that had these events alone."""
        judged = self.judged(replace(self.table, events=tuple(self.events(*kinds))))
        return {m for m, verdict in verdicts(judged).items() if verdict is Verdict.FAIL} - {
            "call_error_ratio"
        }


def verdicts(judged: Judged) -> dict[str, Verdict]:
    """Return verdicts by metric; of a metric that both streams have, the main stream's."""
    return {
        m.metric: judge(m, None, METRICS[m.metric].direction).verdict
        for m in judged.measurements
        if m.scenario is None
    }


@pytest.fixture(scope="module")
def suffered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suffered]:
    with running_machine(NAME) as machine:
        soak = Suffering(machine, tmp_path_factory.mktemp("faults"))
        began = soak.collect().status
        around_cut = began, soak.cut_link()
        soak.kill_sshd()
        with soak.at_the_board():
            soak.crash_command("doubling.py")
            soak.tighten("boxed.py")
            soak.wait_for("child_restarted", stream="main")
            soak.wait_for("child_restarted", stream="boxed")
            soak.crash_child("doubling.py")
            with soak.clock_set(3600.0):
                soak.wait_for("clock_step")
            soak.wait_for("clock_step", 2)
            soak.wait_for("child_restarted", 2, stream="main")
            with soak.disk_full() as filled_bytes:
                soak.wait_for("disk_full")
            soak.wait_for("disk_back")
            last = soak.wait_for_single_window()
            assert last.status.pid == began.pid  # none of them has ended the runner
            assert stop_soak(soak.visit, soak.ledger, "enough")
        yield Suffered(soak.read(), around_cut, filled_bytes)


def test_nothing_is_lost_and_nothing_double(suffered: Suffered) -> None:
    table = suffered.table
    assert (table.first_seq, table.missing_seq, table.doubled_seq) == (1, (), ())
    assert [life.life for life in table.lives] == [1]
    assert np.all(table.start_s[1:] == table.end_s[:-1])  # whatever the wall clock said
    assert table.merged.sum() * WINDOW_S == pytest.approx(table.end_s[-1], abs=WINDOW_S)
    assert table.ended == "stopped"


def test_only_what_fails_a_soak_fails_it(suffered: Suffered) -> None:
    found = verdicts(suffered.judged())
    failing = {metric for metric, verdict in found.items() if verdict is Verdict.FAIL}
    # while a child is away its calls are missed
    assert failing == {"crashes", "soak_oom_kills", "call_error_ratio"}
    assert found["coverage_ratio"] is Verdict.PASS
    assert found["unplanned_reboots"] is Verdict.PASS


def test_a_cut_link_costs_nothing(suffered: Suffered) -> None:
    before, after = suffered.around_cut
    began_s, back_s = before.t_ns / 1e9, after.t_ns / 1e9
    assert back_s - began_s > 10
    assert after.seq > before.seq
    for stream in ("main", "boxed"):
        check_calls(suffered.table, stream, began_s, back_s)
    lost = suffered.events("link_lost", "link_back")
    assert [event.kind for event in lost[:2]] == ["link_lost", "link_back"]
    assert lost[1].details["lost_s"] > 10
    assert suffered.judged_as("link_lost") == suffered.judged_as("link_back") == {"note"}


def test_a_killed_sshd_is_a_lost_link(suffered: Suffered) -> None:
    lost = suffered.events("link_lost", "link_back")
    assert [event.kind for event in lost] == ["link_lost", "link_back"] * 2
    assert {event.source for event in lost} == {"host"}
    assert suffered.failing("link_lost", "link_back") == set()


def test_crashes_are_told_with_their_signal_and_fail(suffered: Suffered) -> None:
    crashes = suffered.events("crash")
    assert [(e.stream, e.details["signal"]) for e in crashes] == [("main", 11), ("main", 6)]
    assert suffered.failing("crash") == {"crashes"}
    restarts = suffered.table.channels["main/restarts"]
    assert np.nansum(restarts) == 2
    missed = suffered.table.channels["main/errors"]
    assert np.nansum(missed) > 10  # calls that were due while no child served


def test_a_group_that_runs_out_of_memory_is_no_crash(suffered: Suffered) -> None:
    (oom,) = suffered.events("oom")  # once, though the kernel killed two processes
    assert oom.stream == "boxed"
    assert oom.details["cgroup_max_bytes"] == TIGHT_BYTES
    assert TIGHT_BYTES < oom.details["cgroup_peak_bytes"] < BOXED_BYTES
    assert suffered.failing("oom") == {"soak_oom_kills"}
    back = [e for e in suffered.events("child_restarted") if e.stream == "boxed"]
    assert len(back) == 1


def test_the_other_stream_goes_on_meanwhile(suffered: Suffered) -> None:
    crash = suffered.events("crash")[1]  # of main alone
    (boxed,) = (e for e in suffered.events("child_restarted") if e.stream == "boxed")
    assert boxed.t_s < crash.t_s
    check_calls(suffered.table, "boxed", crash.t_s, crash.t_s + 2)


def test_a_clock_that_is_set_is_told_and_moves_no_window(suffered: Suffered) -> None:
    forth, back = suffered.events("clock_step")
    assert forth.details["step_ns"] == pytest.approx(HOUR_NS, abs=5e9)
    assert back.details["step_ns"] == pytest.approx(-HOUR_NS, abs=5e9)
    assert suffered.judged_as("clock_step") == {"note"}
    assert np.all(suffered.table.end_s > suffered.table.start_s)
    assert back.t_s - forth.t_s < HOUR_NS / 1e9 / 2  # soak time: an hour more if it had gone along


def test_a_full_disk_thins_windows_and_says_so(suffered: Suffered) -> None:
    assert suffered.filled_bytes > 10 << 20
    kinds = [e.kind for e in suffered.events("disk_full", "thinned", "disk_back")]
    assert kinds == ["disk_full", "thinned", "disk_back"]
    full, thinned, back = suffered.events("disk_full", "thinned", "disk_back")
    assert full.t_s < back.t_s
    table = suffered.table
    # the window it was told with; elsewhere one that is late, on a busy host, spans several as well
    meanwhile = (table.end_s > full.t_s - WINDOW_S) & (table.start_s < back.t_s)
    assert thinned.details["n"] >= 2
    told = np.flatnonzero(meanwhile & (table.merged == thinned.details["n"]))
    assert told.size > 0
    assert 1 in table.merged[told[-1] + 1 :]  # single again
    assert suffered.failing("disk_full", "thinned", "disk_back") == set()
