"""Claims: one collector at a time, older tokens fenced out, nothing lost by a power cut or a full disk."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from harness.agent.faults import Fault
from harness.agent.soak import folder as folder_module
from harness.agent.soak.claims import Claims
from harness.agent.soak.folder import SoakFolder

S = 10**9


class Time:
    """A boot clock."""

    def __init__(self) -> None:
        self.ns = 1000 * S

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def folder(tmp_path: Path) -> SoakFolder:
    made = SoakFolder(str(tmp_path), "20260102-030405-abcd")
    os.makedirs(made.spool_path)
    return made


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def claims(folder: SoakFolder, time: Time) -> Claims:
    return Claims(folder, "boot-1", time)


def fault(call, *args) -> Fault:
    with pytest.raises(Fault) as caught:
        call(*args)
    return caught.value


def test_tokens_only_grow(claims: Claims) -> None:
    tokens = [claims.claim("a", False, 120), claims.claim("a", False, 120), claims.claim("b", True, 120)]
    assert tokens == [1, 2, 3]


def test_another_holder_waits_until_the_lease_is_over(claims: Claims, time: Time) -> None:
    token = claims.claim("desk", False, 120)
    busy = fault(claims.claim, "laptop", False, 120)
    assert busy.kind == "busy"
    assert "desk collects it" in busy.message
    assert busy.details["holder"] == "desk"
    time.ns += 100 * S
    claims.check(token)  # it is seen
    time.ns += 100 * S
    assert fault(claims.claim, "laptop", False, 120).details["seen_age_ns"] == 100 * S
    time.ns += 20 * S
    assert claims.claim("laptop", False, 120) == token + 1


def test_who_takes_over_fences_the_other_out(claims: Claims) -> None:
    old = claims.claim("desk", False, 120)
    new = claims.claim("laptop", True, 120)
    fenced = fault(claims.check, old)
    assert fenced.kind == "fenced"
    assert "laptop collects it now" in fenced.message
    claims.check(new)


def test_the_holder_itself_fences_its_former_connection_out(claims: Claims) -> None:
    old = claims.claim("desk", False, 120)
    claims.check(claims.claim("desk", False, 120))
    assert fault(claims.check, old).kind == "fenced"


def test_no_claim_no_right(claims: Claims) -> None:
    assert "nobody collects it now" in fault(claims.check, 1).message


def test_after_a_reboot_the_lease_counts_from_the_boot(
    folder: SoakFolder, claims: Claims, time: Time
) -> None:
    token = claims.claim("desk", False, 120)
    time.ns = 30 * S
    rebooted = Claims(folder, "boot-2", time)
    assert fault(rebooted.claim, "laptop", False, 120).kind == "busy"
    assert (rebooted.describe() or {})["seen_age_ns"] is None
    rebooted.check(token)
    assert (rebooted.describe() or {})["seen_age_ns"] == 0
    time.ns = 150 * S
    assert rebooted.claim("laptop", False, 120) == token + 1


def test_being_seen_is_written_now_and_then_only(folder: SoakFolder, claims: Claims, time: Time) -> None:
    token = claims.claim("desk", False, 120)
    written = os.stat(folder.file("collector.json")).st_ino
    time.ns += 4 * S
    claims.check(token)
    assert os.stat(folder.file("collector.json")).st_ino == written
    time.ns += 2 * S
    claims.check(token)
    assert os.stat(folder.file("collector.json")).st_ino != written
    assert folder.read_object("collector.json")["seen_boottime_ns"] == time.ns


def test_what_was_acknowledged_stays_so(folder: SoakFolder, claims: Claims) -> None:
    token = claims.claim("desk", False, 120)
    claims.check(token, 5)
    claims.check(token, 3)
    assert folder.acknowledged() == 5
    claims.claim("laptop", True, 120)
    assert folder.acknowledged() == 5
    assert (claims.describe() or {})["acked_segment"] == 5


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"token": "x"}'])
def test_a_damaged_file_gives_a_token_above_all_before(
    folder: SoakFolder, claims: Claims, damage: bytes
) -> None:
    old = [claims.claim("desk", False, 120) for _ in range(3)]
    Path(folder.file("collector.json")).write_bytes(damage)
    assert fault(claims.check, old[-1]).kind == "fenced"
    new = claims.claim("laptop", True, 120)
    assert new > max(old)
    claims.check(new)


def test_a_full_disk_lends_from_the_reserve(
    folder: SoakFolder, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Path(folder.spool_path) / "reserve"
    reserve.write_bytes(bytes(1 << 16))
    real = folder_module.write_whole

    def write_whole(path: str, data: bytes) -> None:
        if reserve.stat().st_size == 1 << 16:
            raise OSError(errno.ENOSPC, "full")
        real(path, data)

    monkeypatch.setattr(folder_module, "write_whole", write_whole)
    claims.check(claims.claim("desk", False, 120), 4)
    assert json.loads(Path(folder.file("collector.json")).read_text())["acked_segment"] == 4
    assert 0 < reserve.stat().st_size < 1 << 16


def test_a_full_disk_with_nothing_to_lend_is_told(
    folder: SoakFolder, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_whole(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(folder_module, "write_whole", write_whole)
    told = fault(claims.claim, "desk", False, 120)
    assert told.kind == "no_space"
    for part in (f"soak {folder.id} can't be claimed", folder.home, "bytes are free", "It goes on"):
        assert part in str(told)


def test_a_claim_that_was_prepared_is_nobodys(folder: SoakFolder, claims: Claims) -> None:
    claims.prepare()
    assert claims.describe() is None
    assert folder.acknowledged() == 0
    for token in (0, 1):
        assert fault(claims.check, token).kind == "fenced"
    token = claims.claim("desk", False, 120)
    assert token == 1
    claims.prepare()  # the same start again
    claims.check(token)


def test_a_full_disk_keeps_no_collector_from_reading(
    folder: SoakFolder, claims: Claims, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = claims.claim("desk", False, 120)
    reserve = Path(folder.spool_path) / "reserve"
    reserve.write_bytes(bytes(1 << 16))

    def write_whole(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(folder_module, "write_whole", write_whole)
    time.ns += 3600 * S
    claims.check(token)
    assert reserve.stat().st_size == 1 << 16  # being seen is no reason to borrow
    assert fault(claims.check, token - 1).kind == "fenced"


@pytest.fixture
def no_block(folder: SoakFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no new file fit onto the disk, and nothing to lend."""
    real = folder_module.write_whole

    def write_whole(path: str, data: bytes) -> None:
        if (Path(folder.path) / "full").exists():
            raise OSError(errno.ENOSPC, "full")
        real(path, data)

    monkeypatch.setattr(folder_module, "write_whole", write_whole)


def test_without_a_free_block_a_claim_and_an_acknowledgement_are_written_over_the_old_ones(
    folder: SoakFolder, claims: Claims, no_block: None
) -> None:
    claims.prepare()
    Path(folder.file("full")).touch()
    claims.claim("desk of a long name", False, 120)  # the first, noted in what its start had made
    token = claims.claim("laptop", True, 120)
    claims.check(token, 12)
    claim = folder.read_object("collector.json")
    assert (claim["token"], claim["holder"], claim["acked_segment"]) == (token, "laptop", 12)
    claims.check(claims.claim("a holder with a name longer than any before", True, 120), 13)
    assert folder.acknowledged() == 13


def test_where_that_takes_a_block_too_the_oldest_acknowledged_segment_makes_room(
    folder: SoakFolder, claims: Claims, no_block: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    for number in (1, 2, 3):
        (Path(folder.spool_path) / f"{number:08d}.seg").write_bytes(b"x")
    token = claims.claim("desk", False, 120)
    full = Path(folder.file("full"))
    full.touch()
    monkeypatch.setattr("os.pwrite", pwrite)
    real = folder_module.Disk.unlink
    monkeypatch.setattr(folder_module.Disk, "unlink", lambda disk, path: (real(disk, path), full.unlink()))
    claims.check(token, 2)
    assert folder.acknowledged() == 2
    assert list(folder.segments()) == [2, 3]


def test_what_isnt_acknowledged_and_what_grows_never_make_room(folder: SoakFolder) -> None:
    for number in (4, 5):
        (Path(folder.spool_path) / f"{number:08d}.seg").write_bytes(b"x")
    assert not folder.remove_oldest(3)
    assert folder.remove_oldest(9)
    assert not folder.remove_oldest(9)
    assert list(folder.segments()) == [5]


def test_a_disk_that_fails_otherwise_is_told(
    folder: SoakFolder, claims: Claims, no_block: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.EIO, "broken")

    token = claims.claim("desk", False, 120)
    Path(folder.file("full")).touch()
    monkeypatch.setattr("os.pwrite", pwrite)
    with pytest.raises(OSError, match="broken"):
        claims.check(token, 2)
