"""The spool: what was synced is never lost, numbers run on, and a full or failing disk is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.soak import spool as spool_module
from harness.agent.soak.disk import Disk
from harness.agent.soak.records import decode_line, whole_lines
from harness.agent.soak.spool import Spool, find_end, segment_sizes

LARGE = 1 << 30


class ScriptedDisk(Disk):
    """A disk with `free_bytes` left, whose calls fail as `failures` (name: [errno or None, …]) says.

    Blocks of one byte: what isn't allocated to a file is free. It only notes what was synced, which is fast.
    """

    def __init__(self, free_bytes: int = LARGE, **failures: list[int | None]) -> None:
        self.free_bytes = free_bytes
        self.failures = failures
        self.synced: dict[str, int] = {}  # by path: how many bytes a power cut leaves

    def _fail(self, name: str) -> None:
        script = self.failures.get(name)
        number = script.pop(0) if script else None
        if number is not None:
            raise OSError(number, os.strerror(number), name)

    def open(self, path: str, flags: int) -> int:
        self._fail("open")
        return super().open(path, flags)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self._fail("pwrite")
        grows = max(0, offset + len(data) - self.size(descriptor))
        if grows > self.free_bytes:
            fits = len(data) - (grows - self.free_bytes)
            if fits <= 0:
                raise OSError(errno.ENOSPC, "full")
            return self.pwrite(descriptor, data[:fits], offset)  # a short write, as a disk does it
        self.free_bytes -= grows
        return super().pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        self._fail("truncate")
        self.free_bytes += self.size(descriptor) - size_bytes
        super().truncate(descriptor, size_bytes)

    def sync(self, descriptor: int) -> None:
        self._fail("sync")
        self.synced[os.readlink(f"/proc/self/fd/{descriptor}")] = self.size(descriptor)

    def allocate(self, descriptor: int, size_bytes: int) -> None:
        self._fail("allocate")
        if size_bytes - self.size(descriptor) > self.free_bytes:
            raise OSError(errno.ENOSPC, "full")
        self.free_bytes -= size_bytes - self.size(descriptor)
        super().allocate(descriptor, size_bytes)

    def unlink(self, path: str) -> None:
        self._fail("unlink")
        self.free_bytes += os.path.getsize(path)
        super().unlink(path)

    def sync_folder(self, path: str) -> None:
        self._fail("sync_folder")


def open_spool(path: Path, **changes: Any) -> Spool:
    wanted: dict[str, Any] = {"max_bytes": LARGE, "reserve_bytes": 0, "disk": ScriptedDisk(), **changes}
    return Spool(str(path / "spool"), **wanted)


def read_seqs(path: Path) -> list[int]:
    """Return the numbers of the whole records that lie in the spool, in order."""
    files = sorted((path / "spool").glob("*.seg"))
    lines = [line for file in files for line in file.read_bytes().splitlines(keepends=True)]
    records = [decode_line(line) for line in lines]
    return [record["seq"] for record in records if record is not None]


def window(i: int, size: int = 0) -> dict[str, Any]:
    return {"k": "window", "i": i, "t0_ns": i * 10, "t1_ns": i * 10 + 10, "life": 1, "pad": "x" * size}


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1000)


def test_records_are_numbered_and_found_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    assert spool.end.last is None
    assert spool.write([{"k": "life", "life": 1, "t_ns": 0}])
    assert spool.write([{"k": "event", "t_ns": 3}, window(0)])
    assert spool.seq == 3
    spool.close()
    again = open_spool(tmp_path)
    assert (again.seq, again.dropped_bytes, again.segment) == (3, 0, 1)
    assert (again.end.t_ns, again.end.life, again.end.ended) == (10, 1, None)
    assert again.end.last == dict(window(0), seq=3)
    assert again.write([{"k": "end", "t_ns": 12, "reason": "duration"}])
    again.close()
    assert read_seqs(tmp_path) == [1, 2, 3, 4]
    assert open_spool(tmp_path).end.ended == "duration"


def test_each_write_is_synced(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    spool = open_spool(tmp_path, disk=disk)
    for i in range(3):
        spool.write([window(i)])
        (path,) = (tmp_path / "spool").glob("*.seg")
        assert disk.synced[str(path)] == path.stat().st_size


def test_nothing_to_write_is_written(tmp_path: Path) -> None:
    assert open_spool(tmp_path).write([])
    assert read_seqs(tmp_path) == []


def test_segments_end_at_their_size(tmp_path: Path, small_segments: None) -> None:
    spool = open_spool(tmp_path)
    for i in range(30):
        assert spool.write([window(i, 100)])
    sizes = segment_sizes(Disk(), str(tmp_path / "spool"))
    assert len(sizes) > 3
    assert all(size <= 1000 for size in sizes.values())
    assert list(sizes) == list(range(1, len(sizes) + 1))
    assert read_seqs(tmp_path) == list(range(1, 31))
    assert spool.spool_bytes == sum(sizes.values())


def test_a_record_larger_than_a_segment_has_one_to_itself(tmp_path: Path, small_segments: None) -> None:
    spool = open_spool(tmp_path)
    for i, size in enumerate([10, 5000, 10]):
        assert spool.write([window(i, size)])
    assert [size > 1000 for size in segment_sizes(Disk(), str(tmp_path / "spool")).values()] == [
        False,
        True,
        False,
    ]


def test_a_cut_at_any_byte_keeps_what_is_before_and_the_numbers_run_on(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for batch in ([window(0)], [{"k": "event", "t_ns": 11}, window(1)], [window(2)]):
        spool.write(batch)
    spool.close()
    segment = tmp_path / "spool" / "00000001.seg"
    whole = segment.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        for other in (tmp_path / "spool").glob("0000000[2-9].seg"):
            other.unlink()
        segment.write_bytes(whole[:cut])
        kept = sum(1 for end in ends if end <= cut)
        again = open_spool(tmp_path)
        assert again.seq == kept
        assert again.dropped_bytes == cut - (ends[kept - 1] if kept else 0)
        assert again.write([window(9)])
        again.close()
        assert read_seqs(tmp_path) == list(range(1, kept + 2))
        assert segment.read_bytes().startswith(whole[: ends[kept - 1] if kept else 0])
        # after a repair the records go to a new segment: a collector may stand behind the old one's end
        assert ((tmp_path / "spool" / "00000002.seg").exists()) is bool(again.dropped_bytes)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_power_cut_in_a_write_leaves_it_out_or_in(tmp_path_factory, data: st.DataObject) -> None:
    """Whatever of an unsynced write reached the disk, what was synced is there and the rest is cut off."""
    path = tmp_path_factory.mktemp("cut")
    spool = open_spool(path)
    spool.write([window(0)])
    segment = path / "spool" / "00000001.seg"
    before = segment.read_bytes()
    spool.write([window(1), window(2)])
    spool.close()
    batch = segment.read_bytes()[len(before) :]
    unfinished = b"\0" + batch[1:]
    size = data.draw(st.integers(0, len(batch)))
    hole = data.draw(st.integers(0, size))  # a block that didn't make it reads as zeros
    segment.write_bytes(before + (unfinished[:hole] + bytes(size - hole) + unfinished[size:]))
    again = open_spool(path)
    assert again.write([window(3)])
    again.close()
    seqs = read_seqs(path)
    assert seqs[0] == 1
    assert seqs == sorted(set(seqs))
    assert segment.read_bytes().startswith(before)


def test_a_damaged_line_in_the_middle_stays_where_it_is(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for i in range(3):
        spool.write([window(i)])
    spool.close()
    segment = tmp_path / "spool" / "00000001.seg"
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    segment.write_bytes(damaged)
    again = open_spool(tmp_path)
    assert (again.seq, again.dropped_bytes) == (3, 0)
    assert segment.read_bytes() == damaged


def test_a_number_that_was_synced_is_not_given_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for i in range(3):
        spool.write([window(i)])
    spool.close()
    segment = tmp_path / "spool" / "00000001.seg"
    segment.write_bytes(segment.read_bytes()[:-5])
    again = open_spool(tmp_path, known_seq=3)
    assert again.end.seq == 2
    again.write([window(3)])
    assert read_seqs(tmp_path) == [1, 2, 4]


def test_a_later_segment_without_a_whole_record_is_passed_over(tmp_path: Path, small_segments: None) -> None:
    spool = open_spool(tmp_path)
    for i in range(9):
        spool.write([window(i, 200)])
    spool.close()
    last = max((tmp_path / "spool").glob("*.seg"))
    last.write_bytes(b"\0" * 300)
    (tmp_path / "spool" / f"{int(last.stem) + 1:08d}.seg").write_bytes(b"")
    kept = read_seqs(tmp_path)
    again = open_spool(tmp_path)
    assert again.seq == kept[-1]
    assert again.dropped_bytes == 300
    assert again.write([window(9)])
    assert read_seqs(tmp_path) == [*kept, kept[-1] + 1]


def test_a_segment_that_another_cut_is_left_for_a_new_one(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.write([window(0)])
    spool.write([window(1)])
    segment = tmp_path / "spool" / "00000001.seg"
    os.truncate(segment, 20)
    assert spool.write([window(2)])
    assert segment.stat().st_size == 20  # no hole behind which the record would be lost
    assert read_seqs(tmp_path) == [3]
    (tmp_path / "spool" / "00000002.seg").unlink()
    assert spool.write([window(3)])
    assert read_seqs(tmp_path) == [4]


# full


def test_a_full_disk_leaves_no_part_of_a_write(tmp_path: Path) -> None:
    disk = ScriptedDisk(free_bytes=200)
    spool = open_spool(tmp_path, disk=disk)
    assert spool.write([window(0)])
    segment = tmp_path / "spool" / "00000001.seg"
    before = segment.read_bytes()
    assert not spool.write([{"k": "event", "t_ns": 1}, window(1, 300)])
    assert segment.read_bytes() == before
    assert spool.seq == 1
    disk.free_bytes = LARGE
    assert spool.write([window(1, 300)])
    assert read_seqs(tmp_path) == [1, 2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["pwrite", "sync", "sync_folder", "open"])
def test_full_wherever_it_shows_is_told_and_nothing_stays(tmp_path: Path, call: str, number: int) -> None:
    disk = ScriptedDisk()
    spool = open_spool(tmp_path, disk=disk)
    disk.failures = {call: [number]}
    assert not spool.write([window(0)])
    assert read_seqs(tmp_path) == []
    assert spool.spool_bytes == 0
    assert spool.write([window(0)])
    spool.close()
    assert open_spool(tmp_path).dropped_bytes == 0
    assert read_seqs(tmp_path) == [1]


def test_a_full_disk_can_still_be_told_of(tmp_path: Path) -> None:
    disk = ScriptedDisk(free_bytes=1000)
    spool = open_spool(tmp_path, disk=disk, reserve_bytes=600)
    reserve = tmp_path / "spool" / "reserve"
    assert reserve.stat().st_size == 600
    assert spool.write([window(0)])
    disk.free_bytes = 0
    assert not spool.write([window(1)])
    assert spool.write([{"k": "event", "event": "disk_full", "t_ns": 12}], urgent=True)
    assert not reserve.exists()
    disk.free_bytes = 5
    assert not spool.write([window(1)])
    disk.free_bytes = LARGE
    assert spool.write([window(1)])
    assert reserve.stat().st_size == 600  # held again
    assert read_seqs(tmp_path) == [1, 2, 3]


def test_a_disk_that_is_full_at_the_start_can_be_opened(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, disk=ScriptedDisk(free_bytes=100), reserve_bytes=600)
    assert not (tmp_path / "spool" / "reserve").exists()
    assert not spool.write([window(0, 200)], urgent=True)


def test_the_cap_holds_and_acknowledged_segments_go_first(tmp_path: Path, small_segments: None) -> None:
    acknowledged = 0
    spool = open_spool(tmp_path, max_bytes=4000, reserve_bytes=500, acknowledged=lambda: acknowledged)
    written = 0
    while spool.write([window(written, 200)]):
        written += 1
        assert spool.spool_bytes <= 4000
    first = segment_sizes(Disk(), str(tmp_path / "spool"))
    assert read_seqs(tmp_path) == list(range(1, written + 1))  # unacknowledged: nothing went
    assert spool.write([{"k": "event", "event": "disk_full", "t_ns": 1}], urgent=True)
    acknowledged = 2
    assert spool.write([window(written, 200)])
    left = segment_sizes(Disk(), str(tmp_path / "spool"))
    assert set(first) - set(left) <= {1, 2}
    assert 1 not in left
    assert read_seqs(tmp_path)[-1] == written + 2


def test_the_growing_segment_never_goes(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, max_bytes=400, acknowledged=lambda: 99)
    while spool.write([window(0)]):
        assert spool.segment == 1
    assert (tmp_path / "spool" / "00000001.seg").exists()


def test_acknowledged_segments_make_room_on_a_full_disk(tmp_path: Path, small_segments: None) -> None:
    disk = ScriptedDisk(free_bytes=3500)
    spool = open_spool(tmp_path, disk=disk, acknowledged=lambda: 2)
    for i in range(30):
        assert spool.write([window(i, 200)]) or i > 10
    assert min(segment_sizes(disk, str(tmp_path / "spool"))) > 1


# a failing medium


@pytest.mark.parametrize("call", ["pwrite", "sync"])
def test_a_bad_block_is_passed_over_in_a_new_segment(tmp_path: Path, call: str) -> None:
    disk = ScriptedDisk()
    spool = open_spool(tmp_path, disk=disk)
    spool.write([window(0)])
    disk.failures = {call: [errno.EIO]}
    assert spool.write([window(1)])
    assert spool.segment == 2
    assert read_seqs(tmp_path) == [1, 2]


def test_a_disk_that_keeps_failing_is_an_error_and_a_later_write_goes_on(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    spool = open_spool(tmp_path, disk=disk)
    spool.write([window(0)])
    disk.failures = {"pwrite": [errno.EIO, errno.EIO]}
    with pytest.raises(OSError, match="Input/output"):
        spool.write([window(1)])
    assert spool.write([window(1)])
    assert read_seqs(tmp_path) == [1, 2]


def test_what_cant_be_taken_back_is_seen_by_no_reader(tmp_path: Path) -> None:
    disk = ScriptedDisk()
    spool = open_spool(tmp_path, disk=disk)
    spool.write([window(0)])
    whole = (tmp_path / "spool" / "00000001.seg").read_bytes()
    disk.failures = {"pwrite": [None, errno.EIO], "truncate": [errno.EIO]}
    assert spool.write([window(1)])
    left = (tmp_path / "spool" / "00000001.seg").read_bytes()
    assert len(left) > len(whole)
    assert whole_lines(left) == whole
    assert decode_line((tmp_path / "spool" / "00000002.seg").read_bytes()) == dict(window(1), seq=2)


def test_unreadable_blocks_are_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"a" * 4096 + b"b" * 4096 + b"c" * 10)
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if offset <= 4096 < offset + size:
            raise OSError(errno.EIO, "bad block")
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert Disk().read(str(tmp_path / "file")) == b"a" * 4096 + bytes(4096) + b"c" * 10


def test_a_record_that_is_no_json_leaves_the_spool_as_it_was(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        spool.write([window(0), {"v": float("nan")}])
    assert spool.seq == 0
    assert spool.write([window(0)])
    assert read_seqs(tmp_path) == [1]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "write", "full", "kill", "eio", "ack", "urgent"]),
            st.integers(0, 300),
        ),
        max_size=40,
    )
)
def test_no_synced_record_is_lost_and_numbers_have_no_gap(tmp_path_factory, steps) -> None:
    path = tmp_path_factory.mktemp("steps")
    disk = ScriptedDisk()
    acknowledged = 0
    held: list[int] = []

    def reopen() -> Spool:
        return open_spool(
            path, disk=disk, max_bytes=5000, reserve_bytes=300, acknowledged=lambda: acknowledged
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "SEGMENT_BYTES", 700)
        spool = reopen()
        for step, size in steps:
            disk.free_bytes = 0 if step == "full" else LARGE
            disk.failures = {"pwrite": [None, errno.EIO]} if step == "eio" else {}
            if step == "kill":
                spool.close()  # a killed runner's descriptor
                spool = reopen()
                assert spool.dropped_bytes == 0
            elif step == "ack":
                acknowledged = max(0, spool.segment - 1)
            elif spool.write([window(0, size)], urgent=step == "urgent"):
                held.append(spool.seq)
        spool.close()
    seqs = read_seqs(path)
    assert held == list(range(1, len(held) + 1))
    assert seqs == held[len(held) - len(seqs) :]
    assert acknowledged or seqs == held


def test_find_end_of_an_ended_soak_that_went_on(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.write([{"k": "end", "t_ns": 5, "reason": "stopped", "life": 1}])
    assert find_end(Disk(), str(tmp_path / "spool"), [1]).ended == "stopped"
    spool.write([{"k": "life", "t_ns": 7, "life": 2}])
    end = find_end(Disk(), str(tmp_path / "spool"), [1])
    assert (end.ended, end.life, end.t_ns) == (None, 2, 7)
    assert end.last == {"k": "life", "t_ns": 7, "life": 2, "seq": 2}
    assert end.size_bytes == (tmp_path / "spool" / "00000001.seg").stat().st_size


def test_the_end_of_a_long_segment_is_its_last_records(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for i in range(200):
        spool.write([window(i)])
    spool.close()
    end = open_spool(tmp_path).end
    assert (end.seq, end.t_ns, end.life) == (200, 2000, 1)
    assert end.size_bytes == (tmp_path / "spool" / "00000001.seg").stat().st_size
