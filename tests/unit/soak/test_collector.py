"""The collector against the agent's own ops: lost links, dead runners, gaps, others; no real waiting."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support import spools
from support.soak_device import SOAK_ID, SoakDevice

from harness.errors import ConnectionLost, DataError, DeadlineExceeded, DeviceBusy, FencedError
from harness.remote.soak import SoakClient
from harness.soak.collector import Collector, CollectSettings, Visit, is_gone, stop_soak, this_holder
from harness.soak.ledger import Ledger
from harness.soak.spool import Record
from harness.soak.table import read_table

RECORDS = spools.short_soak(12)
SETTINGS = CollectSettings(poll_s=10.0, stall_s=100.0, give_up_s=1000.0, gap_s=60.0, resumes_per_h=3)


class World:
    """Time that passes only while somebody sleeps; then `steps` happen, one each time."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.steps: list[Callable[[], None]] = []
        self.slept: list[float] = []

    def now_s(self) -> float:
        return self.seconds

    def realtime_ns(self) -> int:
        return round((1_700_000_000 + self.seconds) * 1e9)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        if not self.steps:
            raise AssertionError("nobody ends this soak")
        self.steps.pop(0)()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoakDevice:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(os, "fdatasync", lambda handle: None)
    found = SoakDevice(tmp_path / "device")
    found.living = True
    return found


@pytest.fixture
def ledger(device: SoakDevice, tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "soaks", device.spec, {"device": "d"})


def grow(device: SoakDevice, upto: int) -> Callable[[], None]:
    def step() -> None:
        device.put_records(RECORDS[:upto])
        device.living = upto < len(RECORDS)

    return step


def kinds(ledger: Ledger) -> list[str]:
    return [str(r["event"]) for r in ledger.read_events()]


def test_it_collects_until_the_end_and_tells_each_visit(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    world.steps = [grow(device, 8), grow(device, 14)]
    visits: list[Visit] = []
    records: list[Record] = []
    collector = Collector(device.visit, ledger, settings=SETTINGS, clock=world, on_records=records.extend)
    last = collector.run(lambda visit: visits.append(visit))
    assert [v.status.seq for v in visits] == [3, 8, 14]
    assert [v.ended for v in visits] == ["", "", "ended"]
    assert last is visits[-1]
    assert (last.t_s, last.fetched.records) == (12.0, 6)
    assert records == RECORDS
    assert world.slept == [10.0, 10.0]
    table = read_table(ledger.folder)
    assert (len(table.start_s), table.missing_seq, table.doubled_seq, table.ended) == (12, (), (), "duration")
    assert kinds(ledger) == []


def test_the_last_visit_comes_when_the_end_is_due(tmp_path: Path, world: World):
    device = SoakDevice(tmp_path / "d", duration_ns=14 * 10**9)
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, 8)()
    world.steps = [grow(device, 12), grow(device, 14)]
    Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert world.slept == [8.0, 4.0]  # 7 s and 3 s were left, and a second for the runner


def test_a_compressed_soak_is_visited_at_its_own_pace(tmp_path: Path, world: World):
    # 3 and 4 s of soak time in 5 and 10 s of ours: nearer the end, visits follow each other faster
    device = SoakDevice(tmp_path / "d", duration_ns=12 * 10**9, compressed=True)
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, 3)()
    world.steps = [grow(device, 6), grow(device, 10), grow(device, 14)]
    Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert world.slept == pytest.approx([5.0, 10.0, 3 / 0.4 + 1])


class Cycles:
    """Power cycles every 4 s, made as soon as one is due; `made` has the soak times, in s."""

    def __init__(self) -> None:
        self.made: list[float] = []

    def run_due(self, ledger: Ledger, t_ns: int) -> bool:
        if t_ns // (4 * 10**9) <= len(self.made):
            return False
        self.made.append(t_ns / 1e9)
        return True

    def next_due_ns(self, t_ns: int) -> int | None:
        return (t_ns // (4 * 10**9) + 1) * 4 * 10**9


def test_a_visit_comes_when_a_power_cycle_is_due(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    world.steps = [grow(device, 6), grow(device, 14)]
    cycles = Cycles()
    Collector(device.visit, ledger, settings=SETTINGS, clock=world, power=cycles).run()
    # seen at 2 s and at 5 s: the next are due at 4 s and at 8 s, and a second for the runner
    assert world.slept == [3.0, 4.0]
    assert cycles.made == [5.0]


def test_a_lost_link_is_waited_out_with_growing_pauses_and_told(
    device: SoakDevice, ledger: Ledger, world: World
):
    grow(device, 3)()

    def cut() -> None:
        device.cut_visits = 4

    world.steps = [cut, *[lambda: None] * 3, grow(device, 14)]
    Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert world.slept == [10.0, 2.5, 5.0, 10.0, 20.0]
    lost, back = ledger.read_events()
    assert (lost["event"], lost["text"]) == ("link_lost", "device: no route to host")
    assert (back["event"], back["details"]) == ("link_back", {"lost_s": 47.5})
    assert lost["t_ns"] == 2 * 10**9 + 10 * 10**9  # the last record's time, and what passed since
    assert read_table(ledger.folder).missing_seq == ()


def test_a_device_that_stays_away_is_given_up_with_the_way_back(
    device: SoakDevice, ledger: Ledger, world: World
):
    device.cut_visits = 10**6
    world.steps = [lambda: None] * 100
    with pytest.raises(ConnectionLost, match="no route") as caught:
        Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert f"harness soak attach {SOAK_ID}" in caught.value.__notes__[0]
    assert world.seconds - 1000 == pytest.approx(1000, abs=130)
    assert kinds(ledger) == ["link_lost"]


def test_a_dead_runner_is_brought_back(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    device.living = False
    world.steps = [grow(device, 14)]
    visits: list[Visit] = []
    Collector(device.visit, ledger, settings=SETTINGS, clock=world).run(lambda v: visits.append(v))
    assert [v.resumed for v in visits] == [True, False]
    assert device.started == 1


def test_a_dead_runner_stays_dead_where_the_policy_says_so(tmp_path: Path, world: World):
    device = SoakDevice(tmp_path / "d", restart={"crash": True, "reboot": False, "max_per_h": 3})
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, 3)()
    device.living = False
    last = Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert (last.ended.startswith("dead: "), device.started) == (True, 0)
    assert len(read_table(ledger.folder).start_s) == 2  # what there was is here


def test_a_runner_that_keeps_dying_is_given_up(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    device.living, device.start_lives = False, False
    world.steps = [lambda: None] * 10
    last = Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert last.ended == "dead: its runner ended 3 times within an hour"
    assert device.started == 3


def test_a_runner_that_lives_and_writes_nothing_is_an_error(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    world.steps = [lambda: None] * 20
    with pytest.raises(DeadlineExceeded, match=r"has written nothing for 110 s \(stall_s = 100\)") as caught:
        Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert "the last record is 3" in str(caught.value)


def test_the_time_without_a_collector_is_told_to_the_next(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    assert Collector(device.visit, ledger, settings=SETTINGS, clock=world).visit_once() is not None
    world.seconds += 3 * 3600
    grow(device, 14)()
    Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    (gap,) = ledger.read_events()
    assert (gap["event"], gap["t_ns"], gap["details"]) == ("collector_gap", 2 * 10**9, {"away_s": 10800.0})
    assert "no collector for 3" in gap["text"]
    assert read_table(ledger.folder).missing_seq == ()


def test_records_are_told_once_also_when_a_segment_is_read_again(
    device: SoakDevice, ledger: Ledger, world: World
):
    grow(device, 8)()
    told: list[Record] = []
    first = Collector(device.visit, ledger, settings=SETTINGS, clock=world, on_records=told.extend)
    assert first.visit_once() is not None
    path = ledger.folder / "segments" / "00000002.seg"
    path.write_bytes(path.read_bytes()[:-10])
    grow(device, 14)()
    Collector(device.visit, ledger, settings=SETTINGS, clock=world, on_records=told.extend).run()
    assert told == RECORDS


def test_a_second_collector_is_refused_and_told_who_is_at_it(
    device: SoakDevice, ledger: Ledger, world: World
):
    grow(device, 3)()
    Collector(device.visit, ledger, settings=SETTINGS, clock=world, holder="ann@lab pid 1").visit_once()
    with pytest.raises(DeviceBusy, match="ann@lab pid 1 collects it"):
        Collector(device.visit, ledger, settings=SETTINGS, clock=world, holder="bob@desk pid 2").run()


def test_a_look_of_another_agent_at_the_same_moment_is_waited_out(
    device: SoakDevice, ledger: Ledger, world: World
):
    grow(device, 3)()
    collector = Collector(device.visit, ledger, settings=SETTINGS, clock=world)
    collector.visit_once()
    device.busy = 1
    world.steps = [grow(device, 14)]
    assert collector.run().ended == "ended"
    assert kinds(ledger) == ["link_lost", "link_back"]


@pytest.mark.parametrize("same_host", [True, False])
def test_a_collector_that_was_taken_over_stops_and_names_the_other(
    device: SoakDevice, ledger: Ledger, world: World, tmp_path: Path, same_host: bool
):
    grow(device, 3)()
    first = Collector(device.visit, ledger, settings=SETTINGS, clock=world, holder="ann@lab pid 1")
    first.visit_once()
    theirs = ledger if same_host else Ledger.create(tmp_path / "elsewhere", device.spec, {})

    def take_over() -> None:
        grow(device, 8)()
        other = Collector(
            device.visit, theirs, settings=SETTINGS, clock=world, holder="bob@desk pid 2", take_over=True
        )
        assert other.visit_once() is not None

    world.steps = [take_over]
    with pytest.raises(FencedError, match="bob@desk pid 2"):
        first.run()
    assert kinds(ledger)[-1] == "fenced"
    assert [len(read_table(x.folder).start_s) for x in (theirs,)] == [7]
    assert read_table(theirs.folder).doubled_seq == ()


def test_a_collector_whose_process_has_ended_gives_way(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    dead = f"ann@{socket.gethostname()} pid {2**22 + 7}"  # above the kernel's largest pid
    assert is_gone(dead)
    Collector(device.visit, ledger, settings=SETTINGS, clock=world, holder=dead).visit_once()
    assert Collector(device.visit, ledger, settings=SETTINGS, clock=world).visit_once() is not None


@pytest.mark.parametrize(
    "holder",
    [this_holder(), "ann@elsewhere pid 4194311", "somebody", ""],
    ids=["this process", "another host", "no process", "nobody"],
)
def test_in_doubt_a_holder_lives(holder: str):
    assert not is_gone(holder)


def test_a_reason_from_a_visit_ends_the_soak(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    reasons: list[str] = []

    def stopping(reason: str) -> None:
        reasons.append(reason)
        end = {"seq": 4, **spools.end(2 * 10**9, reason)}
        device.put_records([*RECORDS[:3], end])
        device.living = False

    device.on_stop = stopping
    world.steps = [lambda: None] * 3
    last = Collector(device.visit, ledger, settings=SETTINGS, clock=world).run(lambda v: "aborted: too hot")
    assert reasons == ["aborted: too hot"]
    assert last.ended == "ended"
    assert read_table(ledger.folder).ended == "aborted: too hot"


def test_stop_takes_over_and_brings_what_there_is(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    Collector(device.visit, ledger, settings=SETTINGS, clock=world, holder="ann@lab pid 1").visit_once()
    device.on_stop = lambda reason: grow(device, 14)()
    assert stop_soak(device.visit, ledger, "enough")
    assert len(read_table(ledger.folder).start_s) == 12


def test_a_soak_that_left_its_device_is_an_error_not_a_wait(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 3)()
    collector = Collector(device.visit, ledger, settings=SETTINGS, clock=world)
    collector.visit_once()
    (Path(device.folder.path) / "spec.json").unlink()
    with pytest.raises(DataError, match=r"isn't on the device any more; .* 3 records were collected"):
        collector.run()


def test_ctrl_c_leaves_the_soak_running_and_says_how_to_go_on(
    device: SoakDevice, ledger: Ledger, world: World
):
    grow(device, 3)()

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.steps = [interrupt]
    with pytest.raises(KeyboardInterrupt) as caught:
        Collector(device.visit, ledger, settings=SETTINGS, clock=world).run()
    assert caught.value.__notes__ == [
        "The soak goes on by itself on the device. Collect it again with: harness soak attach " + SOAK_ID
    ]
    assert "soak_stop" not in device.requests
    assert device.living


def test_a_visit_that_breaks_off_half_way_is_made_up_for(device: SoakDevice, ledger: Ledger, world: World):
    grow(device, 14)()
    answers = device.request
    left = [1]  # so many reads come through

    class Flaky:
        def request(self, op: str, *args: object, **more: object) -> object:
            if op == "soak_read":
                left[0] -= 1
                if left[0] < 0:
                    left[0] = 1
                    raise ConnectionLost("reset by peer", where="device")
            return answers(op, *args, **more)  # type: ignore[arg-type]

    world.steps = [lambda: None] * 10
    collector = Collector(
        lambda: contextlib.nullcontext(SoakClient(Flaky())),  # type: ignore[arg-type]
        ledger,
        settings=SETTINGS,
        clock=world,
    )
    collector.run()
    table = read_table(ledger.folder)
    assert (len(table.start_s), table.missing_seq, table.doubled_seq) == (12, (), ())
    assert {"link_lost", "link_back"} == set(kinds(ledger))
