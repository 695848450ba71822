"""Records in their order, whatever the disk does."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from support.soak_world import Quick, read_records

from harness.agent.soak import writer as module
from harness.agent.soak.spool import Spool
from harness.agent.soak.writer import Writer


def window(i: int) -> dict[str, Any]:
    dev = {"throttled_bits": None, "runner_cpu_ns": 1}
    return {"k": "window", "i": i, "n": 1, "t0_ns": i, "t1_ns": i + 1, "streams": {}, "v": [], "dev": dev}


class Shelf:
    """A writer and its spool on a disk of so many bytes."""

    def __init__(self, folder: Path, room_bytes: int | None = None, reserve_bytes: int = 0) -> None:
        self.disk = Quick(room_bytes)
        self.folder = folder / "spool"
        self.spool = Spool(str(self.folder), 64 << 20, reserve_bytes, disk=self.disk)
        self.writer = Writer(self.spool, lambda: {"t_ns": 7, "life": 1})

    def kinds(self) -> list[str]:
        return [r.get("event") or f"{r['k']} {r.get('i')}+{r.get('n')}" for r in read_records(self.folder)]


def test_events_come_before_the_window_they_fell_into(tmp_path: Path) -> None:
    it = Shelf(tmp_path)
    it.writer.event("crash", "x", "main", {"signal": 11})
    it.writer.window(window(0))
    it.writer.event("clock_step", "y")
    assert it.kinds() == ["crash", "window 0+1"]
    assert it.writer.flush()
    assert it.kinds() == ["crash", "window 0+1", "clock_step"]
    first = next(iter(read_records(it.folder)))
    assert (first["stream"], first["details"], first["seq"], first["t_ns"]) == ("main", {"signal": 11}, 1, 7)


def test_full_then_room(tmp_path: Path) -> None:
    it = Shelf(tmp_path)
    it.writer.window(window(0))
    it.disk.room_bytes = 0
    for i in range(1, 12):
        it.writer.window(window(i))
        it.writer.event("crash", f"number {i}")
        it.writer.flush()
    it.disk.room_bytes = None
    for i in range(12, 20):
        it.writer.window(window(i))
    found = [kind for kind in it.kinds() if kind != "crash"]
    # tried with 1, 2, 4, 8 and then 16 windows
    assert found == [
        "window 0+1",
        "disk_full",
        "window 1+16",
        "thinned",
        "disk_back",
        "window 17+1",
        "window 18+1",
        "window 19+1",
    ]
    assert it.kinds().count("crash") == 11
    assert [r["seq"] for r in read_records(it.folder)] == list(range(1, len(it.kinds()) + 1))


def test_after_hours_of_a_full_disk_it_is_soon_written(tmp_path: Path) -> None:
    it = Shelf(tmp_path, room_bytes=0)
    for i in range(3600):
        it.writer.window(window(i))
    assert it.kinds() == []
    it.disk.room_bytes = None
    for i in range(3600, 3600 + module.MAX_MORE + 1):
        it.writer.window(window(i))
    full, first, *events = it.kinds()[:4]
    assert full == "disk_full"
    assert 3600 < int(first.removeprefix("window 0+")) <= 3600 + module.MAX_MORE
    assert events == ["thinned", "disk_back"]


def test_many_events_on_a_full_disk_are_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HELD_EVENTS", 10)
    it = Shelf(tmp_path, room_bytes=0)
    it.writer.window(window(0))
    for i in range(50):
        it.writer.event("crash", str(i))
    it.disk.room_bytes = None
    it.writer.window(window(1))
    (back,) = [r for r in read_records(it.folder) if r.get("event") == "disk_back"]
    assert back["details"]["lost_events"] == 41
    assert it.kinds().count("crash") == 9


def test_a_disk_that_fails_is_told_and_the_runner_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    it = Shelf(tmp_path)
    failing = True

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if failing:
            raise OSError(errno.EIO, "Input/output error")
        return Quick.pwrite(it.disk, descriptor, data, offset)

    it.disk.pwrite = pwrite  # type: ignore[method-assign]
    it.writer.window(window(0))
    assert "Input/output error" in capsys.readouterr().err
    failing = False
    it.writer.window(window(1))
    assert [k for k in it.kinds() if k.startswith("window")] == ["window 0+2"]
    (full,) = [r for r in read_records(it.folder) if r.get("event") == "disk_full"]
    assert "Input/output error" in full["text"]


def test_the_last_records_may_take_the_reserve(tmp_path: Path) -> None:
    it = Shelf(tmp_path)
    it.disk.room_bytes = 0
    it.writer.window(window(0))
    it.writer.record({"k": "end", "t_ns": 9, "life": 1, "reason": "stopped"})
    assert not it.writer.finish()
    it.disk.room_bytes = None
    assert it.writer.finish()
    assert "end None+None" in it.kinds()
    assert it.kinds().count("window 0+1") == 1
