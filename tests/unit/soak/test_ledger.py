"""The ledger and what brings bytes into it: nothing lost, nothing double, whatever breaks off in between."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import spools
from support.soak_device import SOAK_ID, SoakDevice

from harness.errors import ConfigError, DataError, FencedError
from harness.remote.soak import SoakClient
from harness.soak.fetch import collect_once, repair
from harness.soak.ledger import Ledger, list_ledgers
from harness.soak.ledger_files import LedgerFiles
from harness.soak.spool import encode_record
from harness.soak.table import read_table


class Killed(BaseException):
    """What `kill -9` is to a process: nothing after it runs."""


class BreakingFiles(LedgerFiles):
    """Breaks off in step `step`: before it, half-way or after it. With `power` what isn't synced goes."""

    def __init__(self, step: int, how: str, power: bool) -> None:
        self.left = step
        self.how = how
        self.power = power
        self.steps = 0
        self._synced: dict[Path, int] = {}

    def append(self, path: Path, data: bytes) -> None:
        self._synced.setdefault(path, path.stat().st_size if path.exists() else 0)
        self._step(
            lambda: LedgerFiles.append(self, path, data),
            lambda: LedgerFiles.append(self, path, data[: len(data) // 2]),
        )

    def sync(self, path: Path) -> None:
        self._step(lambda: self._sync(path))

    def _sync(self, path: Path) -> None:
        LedgerFiles.sync(self, path)
        self._synced[path] = path.stat().st_size

    def truncate(self, path: Path, size_bytes: int) -> None:
        self._step(lambda: LedgerFiles.truncate(self, path, size_bytes))

    def replace(self, path: Path, data: bytes) -> None:
        self._step(lambda: LedgerFiles.replace(self, path, data))

    def _step(self, act: Callable[[], None], half: Callable[[], None] = lambda: None) -> None:
        self.steps += 1
        self.left -= 1
        if self.left != 0:
            act()
            return
        {"before": lambda: None, "half": half, "after": act}[self.how]()
        if self.power:
            for path, size in self._synced.items():
                if path.exists() and path.stat().st_size > size:
                    LedgerFiles.truncate(self, path, size)
        raise Killed


@pytest.fixture(autouse=True)
def _no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch):
    # what a disk loses is played by BreakingFiles; the real thing would take minutes
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(os, "fdatasync", lambda handle: None)


@pytest.fixture
def device(tmp_path: Path) -> SoakDevice:
    return SoakDevice(tmp_path / "device")


def claim(device: SoakDevice, ledger: Ledger, **options: bool) -> int:
    token = SoakClient(device).claim(SOAK_ID, "me", **options)
    ledger.adopt(token, "me")
    return token


def bring(device: SoakDevice, ledger: Ledger) -> int:
    """Collect once as a fresh collector does; return how many records were new."""
    soaks, token = SoakClient(device), claim(device, ledger)
    repair(soaks, ledger, token, soaks.status(SOAK_ID))
    return collect_once(soaks, ledger, token).records


def seqs(ledger: Ledger) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    table = read_table(ledger.folder)
    return (len(table.start_s), table.last_seq, table.missing_seq, table.doubled_seq)


def grow(device: SoakDevice, records: list[spools.Record], upto: int) -> None:
    """Have the device's spool hold the first `upto` records; segments that have ended stay as they were."""
    device.put_records(records[:upto], 2500)


STAGES = (3, 4, 9, 14)
RECORDS = spools.short_soak(12)


def interrupted_at(tmp_path: Path, step: int, how: str, power: bool) -> int:
    """Collect a growing spool, broken off in one step, then go on; return how many steps there were."""
    device = SoakDevice(tmp_path / f"device-{step}-{how}-{power}")
    files = BreakingFiles(step, how, power)
    root = tmp_path / f"ledger-{step}-{how}-{power}"
    ledger: Ledger | None = None
    for stage in (*STAGES, STAGES[-1]):
        grow(device, RECORDS, stage)
        try:
            ledger = ledger or Ledger.create(root, device.spec, {}, files=files)
            bring(device, ledger)
            ledger.add_event("link_back", stage, "here again")
        except Killed:
            if not (root / SOAK_ID / "spec.json").exists():
                Ledger.create(root, device.spec, {})
            ledger = Ledger.open(root / SOAK_ID)  # the next collector, on the same host
    ledger = Ledger.open(root / SOAK_ID)
    bring(device, ledger)
    assert seqs(ledger) == (12, 14, (), ()), (step, how, power)
    held = {part.number: part.data for part in ledger.read_segments()}
    assert held == {n: device.segment(n).read_bytes() for n in held}  # the same bytes as on the device
    return files.steps


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_kill_in_any_step_loses_and_doubles_nothing(tmp_path: Path, how: str, power: bool):
    steps = interrupted_at(tmp_path, 0, how, power)
    assert steps > 30
    for step in range(1, steps + 1):
        interrupted_at(tmp_path, step, how, power)


def test_each_visit_brings_only_what_is_new(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 5)
    assert bring(device, ledger) == 5
    assert bring(device, ledger) == 0
    grow(device, RECORDS, 14)
    assert bring(device, ledger) == 9
    assert read_table(ledger.folder).ended == "duration"


def test_whole_segments_are_acknowledged_the_growing_one_is_not(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 9)
    bring(device, ledger)
    last = max(device.folder.segments())
    assert last > 2
    assert device.folder.acknowledged() == last - 1
    device.segment(1).unlink()  # the device needed room
    grow_again = device.requests.count("soak_read")
    assert bring(device, ledger) == 0
    assert device.requests.count("soak_read") == grow_again + 1  # the growing one alone
    assert seqs(ledger)[2] == ()


def test_half_a_line_on_the_device_is_left_until_it_is_whole(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    data = spools.lines(RECORDS[:4])
    device.put([data[:-20]])
    assert bring(device, ledger) == 3
    device.put([data])
    assert bring(device, ledger) == 1


def test_a_bit_flipped_on_the_device_costs_its_line_alone_and_is_told(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 14)
    data = bytearray(device.segment(2).read_bytes())
    data[200] ^= 4
    device.segment(2).write_bytes(data)
    bring(device, ledger)
    windows, _, missing, doubled = seqs(ledger)
    assert (windows, len(missing), doubled) == (11, 1, ())
    (event,) = [e for e in read_table(ledger.folder).events if e.kind == "segment_damaged"]
    assert event.details["on"] == "device"
    assert "00000002.seg, byte 0" in event.text


def test_a_segment_truncated_on_the_device_before_it_was_collected(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 14)
    device.segment(2).write_bytes(device.segment(2).read_bytes()[:-300])
    bring(device, ledger)
    windows, _, missing, _ = seqs(ledger)
    assert (windows, len(missing)) == (11, 1)
    assert ledger.held(2).closed


def test_a_segment_truncated_on_the_device_after_it_was_collected_loses_nothing(
    device: SoakDevice, tmp_path: Path
):
    ledger = Ledger.create(tmp_path, device.spec, {})
    data = spools.lines(RECORDS[:6])
    device.put([data])
    bring(device, ledger)
    # cut in the middle of a line, then the runner repairs it and goes on behind what is left
    cut = data[: data.rfind(b"\n", 0, len(data) - 1) - 300]
    device.put([cut[: cut.rfind(b"\n") + 1], spools.lines(RECORDS[6:])])
    bring(device, ledger)
    assert seqs(ledger) == (12, 14, (), ())
    (event,) = [e for e in read_table(ledger.folder).events if e.kind == "segment_damaged"]
    assert "there no more" in event.text


def test_a_segment_that_grew_again_after_it_was_cut_is_taken_whole(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    device.put([spools.lines(RECORDS[:6])])
    bring(device, ledger)
    # it lost records 5 and 6, and counts on from 4 with others
    others = spools.numbered([spools.window(i) for i in range(20, 40)], 5)
    device.put([spools.lines([*RECORDS[:4], *others])])
    bring(device, ledger)
    table = read_table(ledger.folder)
    assert table.start_s.tolist() == [0, 1, 2, 3, 4, *range(20, 40)]
    assert (table.missing_seq, table.doubled_seq) == ((), ())


@pytest.mark.parametrize("change", ["flip", "truncate", "remove", "empty"])
def test_damage_to_the_hosts_copy_is_mended_from_the_device(device: SoakDevice, tmp_path: Path, change: str):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 14)
    bring(device, ledger)
    damage(ledger.folder / "segments" / "00000002.seg", change)
    assert seqs(ledger)[2] != ()
    assert bring(device, ledger) > 0
    assert seqs(ledger) == (12, 14, (), ())
    found = [e for e in read_table(ledger.folder).events if e.kind == "segment_damaged"]
    assert {e.details["on"] for e in found} == {"host"}
    assert bring(device, ledger) == 0  # it is whole now


def test_damage_to_the_hosts_copy_that_the_device_has_no_more_is_told(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 14)
    bring(device, ledger)
    damage(ledger.folder / "segments" / "00000001.seg", "flip")
    device.segment(1).unlink()
    bring(device, ledger)
    bring(device, ledger)
    assert len(seqs(ledger)[2]) == 1
    events = [e for e in read_table(ledger.folder).events if e.kind == "segment_damaged"]
    assert [e.details["on"] for e in events] == ["host"]


def damage(path: Path, change: str) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(data), "truncate": bytes(data[:-50]), "empty": b""}[change])


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"version": 9}', '{"version": 1}', "null"])
def test_without_its_state_a_ledger_goes_on_from_its_segments(
    device: SoakDevice, tmp_path: Path, text: str | None
):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 9)
    bring(device, ledger)
    state = ledger.folder / "state.json"
    state.unlink() if text is None else state.write_text(text)
    grow(device, RECORDS, 14)
    assert bring(device, ledger) == 5
    assert seqs(ledger) == (12, 14, (), ())


def test_an_older_token_writes_nothing_and_learns_who_has_it(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 5)
    ledger.adopt(1, "first")
    ledger.adopt(2, "ann@lab pid 7")
    held = ledger.held(1)
    for write in (
        lambda: ledger.append(1, 1, held, spools.lines(RECORDS[:2])),
        lambda: ledger.begin_again(1, 1),
        lambda: ledger.note_status(1, {}, 0),
        lambda: ledger.adopt(1, "first"),
    ):
        with pytest.raises(FencedError, match=r"ann@lab pid 7 has taken this soak over .*--take-over"):
            write()
    assert list(ledger.read_segments()) == []


def test_the_device_refuses_an_older_token(device: SoakDevice, tmp_path: Path):
    ledger = Ledger.create(tmp_path, device.spec, {})
    grow(device, RECORDS, 5)
    token = claim(device, ledger)
    SoakClient(device).claim(SOAK_ID, "ann", take_over=True)
    with pytest.raises(FencedError, match="ann collects it now"):
        collect_once(SoakClient(device), ledger, token)


def test_a_ledger_belongs_to_one_soak(tmp_path: Path):
    Ledger.create(tmp_path, {"id": "a", "duration_ns": 1}, {"device": "x"})
    again = Ledger.create(tmp_path, {"id": "a", "duration_ns": 1}, {"device": "y"})
    assert again.read_device() == {"device": "x"}
    with pytest.raises(ConfigError, match="another soak of the same id"):
        Ledger.create(tmp_path, {"id": "a", "duration_ns": 2}, {})
    with pytest.raises(ConfigError, match="can't be a file name"):
        Ledger.create(tmp_path, {"id": "../x"}, {})
    with pytest.raises(DataError, match="holds no soak"):
        Ledger.open(tmp_path / "b")
    assert [ledger.soak_id for ledger in list_ledgers(tmp_path)] == ["a"]
    assert list_ledgers(tmp_path / "none") == ()


def test_a_torn_event_is_cut_off_before_the_next(tmp_path: Path):
    ledger = Ledger.create(tmp_path, {"id": "a"}, {})
    ledger.add_event("link_lost", 1, "gone")
    path = ledger.folder / "host.jsonl"
    path.write_bytes(path.read_bytes() + encode_record({"seq": 2, "k": "event"})[:10])
    ledger.add_event("link_back", 2, "here", {"for_s": 1.5})
    assert [(r["seq"], r["event"], r["details"]) for r in ledger.read_events()] == [
        (1, "link_lost", {}),
        (2, "link_back", {"for_s": 1.5}),
    ]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_whatever_is_flipped_anywhere_nothing_is_made_up_or_double(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random
):
    tmp_path = tmp_path_factory.mktemp("flip")
    device = SoakDevice(tmp_path / "device")
    ledger = Ledger.create(tmp_path, device.spec, {})
    for stage in STAGES:
        grow(device, RECORDS, stage)
        bring(device, ledger)
        path = rng.choice(sorted((ledger.folder / "segments").iterdir()))
        data = bytearray(path.read_bytes())
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)
    bring(device, ledger)
    assert seqs(ledger) == (12, 14, (), ())
