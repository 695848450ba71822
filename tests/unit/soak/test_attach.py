"""Ending a soak that another collects, that nobody collects, and that has ended by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import spools
from support.soak_device import SoakDevice

from harness.errors import FencedError
from harness.model import Device, DeviceType
from harness.soak import attach
from harness.soak.attach import Stopped
from harness.soak.collector import Collector, CollectSettings
from harness.soak.ledger import Ledger
from harness.soak.table import read_table

UNIT = Device("desk", DeviceType("host"), "local")
ANN = "ann@lab pid 1"  # of another host, so that it is taken for living
RECORDS = spools.short_soak(12)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoakDevice:
    """Return a device whose soak has spooled three windows, and ends when it is told to."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(os, "fdatasync", lambda handle: None)
    found = SoakDevice(tmp_path / "device")
    found.put_records(RECORDS[:4])
    found.living = True

    def ends(reason: str) -> None:
        found.put_records(RECORDS)
        found.living = False

    found.on_stop = ends
    monkeypatch.setattr(attach, "reach_for", lambda unit, compressed: found.visit)
    return found


@pytest.fixture
def ledger(device: SoakDevice, tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "soaks", device.spec, {"device": "desk"})


def windows(ledger: Ledger) -> int:
    return int(read_table(ledger.folder).merged.sum())


def test_a_collector_at_work_keeps_it_and_finds_its_end(device: SoakDevice, ledger: Ledger) -> None:
    ann = Collector(device.visit, ledger, settings=CollectSettings(), holder=ANN)
    assert ann.visit_once() is not None
    assert attach.stop(UNIT, ledger, "enough") == Stopped(True, False, ANN)
    last = ann.run()  # it isn't fenced out
    assert last.ended == "ended"
    assert windows(ledger) == 12


def test_without_one_what_was_spooled_is_brought_here(device: SoakDevice, ledger: Ledger) -> None:
    assert attach.stop(UNIT, ledger, "enough") == Stopped(True)
    assert windows(ledger) == 12


def test_one_that_ended_by_itself_is_not_said_to_be_stopped(device: SoakDevice, ledger: Ledger) -> None:
    device.on_stop("")
    assert attach.stop(UNIT, ledger, "enough") == Stopped(True, already=True)
    assert windows(ledger) == 12
    Collector(device.visit, ledger, holder=ANN, take_over=True).visit_once()
    assert attach.stop(UNIT, ledger, "enough") == Stopped(True, True, ANN)


def test_one_that_is_taken_over_at_that_moment_is_taken_over_once_more(
    device: SoakDevice, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Collector(device.visit, ledger, holder=ANN)
    ann.visit_once()
    real = device.request

    def request(op, args=None, *, timeout_s=None):
        if op == "soak_stop" and args["token"] == ann.token:
            raise FencedError("bob@desk pid 2 collects it now", where="desk")
        return real(op, args, timeout_s=timeout_s)

    monkeypatch.setattr(device, "request", request)
    assert attach.stop(UNIT, ledger, "enough") == Stopped(True)
    assert windows(ledger) == 12
