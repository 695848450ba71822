"""A look at a soak: all that is at hand, and no claim."""

from __future__ import annotations

from support import soak_device, spools

from harness.soak.fetch import collect_once
from harness.soak.ledger import Ledger
from harness.soak.peek import MAX_SEGMENTS, peek_table


def look(device, ledger=None):
    with device.visit() as soaks:
        return peek_table(soaks, soaks.status(device.spec["id"]), ledger)


def test_it_sees_a_soak_that_nobody_has_claimed(tmp_path):
    device = soak_device.SoakDevice(tmp_path)
    device.put_records(spools.short_soak(10))
    table, whole = look(device)
    assert whole
    assert (len(table.start_s), table.ended) == (10, "duration")
    assert "soak_claim" not in device.requests
    assert look(device)[1]


def test_of_a_long_one_it_takes_the_first_and_the_last_segments(tmp_path):
    device = soak_device.SoakDevice(tmp_path)
    device.put_records(spools.short_soak(60), segment_bytes=1000)
    table, whole = look(device)
    assert not whole
    assert device.requests.count("soak_read") == MAX_SEGMENTS
    assert table.start_s[0] == 0
    assert table.start_s[-1] == 59


def test_what_the_ledger_holds_isnt_fetched_again(tmp_path):
    device = soak_device.SoakDevice(tmp_path / "home")
    records = spools.short_soak(30)
    device.put_records(records[:20], segment_bytes=1000)
    ledger = Ledger.create(tmp_path / "soaks", device.spec, {"device": "d"})
    with device.visit() as soaks:
        token = soaks.claim(device.spec["id"], "somebody")
        ledger.adopt(token, "somebody")
        collect_once(soaks, ledger, token)
    device.put_records(records, segment_bytes=1000)
    device.requests.clear()
    before = ledger.read_state()
    table, whole = look(device, ledger)
    assert whole
    assert len(table.start_s) == 30
    assert table.doubled_seq == ()
    assert 0 < device.requests.count("soak_read") < 15
    assert ledger.read_state() == before
