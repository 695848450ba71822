"""A soak collected over every connection, by short visits of real agents: whole, once, whatever is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bench import Bench, eventually
from support.soaking import check_calls, command_spec

from harness.errors import DeviceBusy, FencedError
from harness.model import SoakTable
from harness.remote import AgentClient
from harness.remote.soak import SoakClient
from harness.soak.collector import Collector, CollectSettings, Reach, stop_soak
from harness.soak.ledger import Ledger
from harness.soak.table import read_table

TIMEOUT_S = 240.0  # only ends what hangs
SETTINGS = CollectSettings(poll_s=0.3, stall_s=TIMEOUT_S)
SLOWLY = CollectSettings(poll_s=3.0, stall_s=TIMEOUT_S)  # where each visit keeps the board busy for seconds
LONG_S = 3600.0

Start = Callable[[float], Ledger]
# what the connection has no part in, a board needn't show again: its processes start slowly
ON_HOST = pytest.mark.parametrize("bench", ["local", "ssh"], indirect=True, scope="module")


@pytest.fixture
def reach(bench: Bench) -> Reach:
    @contextlib.contextmanager
    def visit() -> Iterator[SoakClient]:
        with AgentClient.start(bench.connection, timeout_s=TIMEOUT_S) as agent:
            yield SoakClient(agent)

    return visit


@pytest.fixture
def start(bench: Bench, folder: str, tmp_path: Path, reach: Reach) -> Iterator[Start]:
    """Return what starts a soak of so many seconds; what is left of it is removed."""
    ids: list[str] = []

    def begin(duration_s: float) -> Ledger:
        spec: dict[str, Any] = command_spec(
            bench.connection, folder, tmp_path, reboot=True, duration_s=duration_s
        )
        ids.append(spec["id"])
        with reach() as soaks:
            soaks.start(spec)
        return Ledger.create(tmp_path / "soaks", spec, {"device": bench.kind})

    yield begin
    with reach() as soaks:
        for soak_id in ids:
            token = soaks.claim(soak_id, "cleanup", take_over=True)
            soaks.stop(soak_id, token, "cleanup")
            soaks.remove(soak_id, token)


def check_whole(table: SoakTable) -> None:
    """Check that no record is missing or double, and windows follow each other within each life."""
    assert (table.first_seq, table.missing_seq, table.doubled_seq) == (1, (), ())
    for life in np.unique(table.life):
        mine = table.life == life
        assert np.all(table.start_s[mine][1:] == table.end_s[mine][:-1])


def wait_for_windows(reach: Reach, ledger: Ledger, seq: int) -> None:
    with reach() as soaks:
        assert eventually(lambda: soaks.status(ledger.soak_id).seq >= seq, TIMEOUT_S, every_s=0.1)


def test_a_soak_is_collected_to_its_end(bench: Bench, start: Start, reach: Reach) -> None:
    settings = SLOWLY if bench.kind == "qemu" else SETTINGS
    for duration_s in (15.0, 60.0, 240.0) if bench.kind == "qemu" else (3.0, 12.0, 48.0):
        ledger = start(duration_s)
        last = Collector(reach, ledger, settings=settings).run()
        table = read_table(ledger.folder)
        calls = np.nan_to_num(table.channels["main/calls"])
        served = np.flatnonzero(calls)
        if served.size > 3:
            break  # a process starts slowly on an emulated board, on a busy host not within any given time
    assert last.ended == "ended"
    check_whole(table)
    assert table.ended == "duration"
    assert table.end_s[-1] == pytest.approx(duration_s)
    # but for the last: who is behind when the time is over leaves calls out
    check_calls(table, "main", table.start_s[served[0]], table.start_s[served[-1]])
    assert np.nanmin(table.channels["main/rss_bytes"]) > 1 << 20
    assert table.latency["main"].count.sum() == np.nansum(table.channels["main/calls"])


def test_a_killed_runner_is_brought_back_and_nothing_that_was_synced_is_lost(
    bench: Bench, start: Start, reach: Reach
) -> None:
    ledger = start(LONG_S)
    wait_for_windows(reach, ledger, 5)
    collector = Collector(reach, ledger, settings=SETTINGS)
    first = collector.visit_once()
    assert first is not None
    bench.connection.run(["kill", "-9", str(first.status.pid)], timeout_s=TIMEOUT_S)
    assert bench.ends(int(first.status.pid or 0))
    with reach() as soaks:
        held = soaks.status(ledger.soak_id).seq
    second = collector.visit_once()
    assert second is not None
    assert (second.status.state, second.resumed) == ("dead", True)
    wait_for_windows(reach, ledger, held + 6)
    assert collector.visit_once() is not None
    table = read_table(ledger.folder)
    check_whole(table)
    assert [life.life for life in table.lives] == [1, 2]
    assert "runner_restarted" in [e.kind for e in table.events]


def test_stopping_keeps_its_reason_and_brings_the_rest(start: Start, reach: Reach) -> None:
    ledger = start(LONG_S)
    wait_for_windows(reach, ledger, 4)
    assert stop_soak(reach, ledger, "aborted: enough")
    table = read_table(ledger.folder)
    check_whole(table)
    assert table.ended == "aborted: enough"


@ON_HOST
def test_two_collectors_at_once(start: Start, reach: Reach, tmp_path: Path) -> None:
    ledger = start(LONG_S)
    wait_for_windows(reach, ledger, 3)
    first = Collector(reach, ledger, settings=SETTINGS, holder="ann@lab pid 1")
    assert first.visit_once() is not None
    elsewhere = Ledger.create(tmp_path / "elsewhere", ledger.read_spec(), {})
    with pytest.raises(DeviceBusy, match="ann@lab pid 1"):
        Collector(reach, elsewhere, settings=SETTINGS, holder="bob@desk pid 2").run()
    second = Collector(reach, elsewhere, settings=SETTINGS, holder="bob@desk pid 2", take_over=True)
    assert second.visit_once() is not None
    with pytest.raises(FencedError, match="bob@desk pid 2"):
        first.run()
    check_whole(read_table(ledger.folder))
    check_whole(read_table(elsewhere.folder))


@ON_HOST
@pytest.mark.parametrize("cut_bytes", [0, 300])
def test_damage_on_the_device_costs_its_lines_alone(
    bench: Bench, start: Start, reach: Reach, tmp_path: Path, cut_bytes: int
) -> None:
    ledger = start(LONG_S)
    wait_for_windows(reach, ledger, 6)
    with reach() as soaks:
        pid = soaks.status(ledger.soak_id).pid
    bench.connection.run(["kill", "-9", str(pid)], timeout_s=TIMEOUT_S)
    assert bench.ends(int(pid or 0))
    segment = f"{bench.connection.home()}/soak/{ledger.soak_id}/spool/00000001.seg"
    local = tmp_path / "segment"
    bench.connection.pull(segment, local, timeout_s=TIMEOUT_S)
    data = bytearray(local.read_bytes())
    lines = data.count(b"\n")
    if cut_bytes:
        data = data[:-cut_bytes]
    else:
        data[data.index(b"\n") + 60] ^= 1  # of the second line
    local.write_bytes(data)
    bench.connection.push(local, segment, timeout_s=TIMEOUT_S)
    collector = Collector(reach, ledger, settings=SETTINGS)
    assert collector.visit_once() is not None  # brings what there is, and the runner back
    wait_for_windows(reach, ledger, lines + 3)
    assert collector.visit_once() is not None
    table = read_table(ledger.folder)
    kinds = [event.kind for event in table.events]
    assert table.doubled_seq == ()
    if cut_bytes:
        assert "spool_repaired" in kinds
        assert table.missing_seq in ((), (lines,))  # its number is used again where nobody knew of it
    else:
        assert table.missing_seq == (2,)
        assert "segment_damaged" in kinds
