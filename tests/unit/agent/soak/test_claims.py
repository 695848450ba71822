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
    with pytest.raises(OSError, match="full"):
        claims.claim("desk", False, 120)


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
    reserve.unlink()
    claims.check(token, 4)  # acknowledged again at the next visit
    assert json.loads(Path(folder.file("collector.json")).read_text())["acked_segment"] == 0
    assert fault(claims.check, token - 1).kind == "fenced"
