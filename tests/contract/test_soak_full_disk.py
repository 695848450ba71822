"""A soak on a disk without a free block: what it has is collected and acknowledged, and that makes room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import spools
from support.soak_device import SoakDevice

from harness.agent.soak import spool as spool_module
from harness.agent.soak.spool import Spool
from harness.soak.collector import Collector, CollectSettings
from harness.soak.ledger import Ledger
from harness.soak.table import read_table

TIMEOUT_S = 30
SEGMENT_BYTES = 64 << 10


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk on this host; each step is in test_claims.py too")
    disk = tmp_path / "disk"
    disk.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    subprocess.run(argv, check=True, timeout=TIMEOUT_S)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=TIMEOUT_S)


def fill(disk: Path, spool: Spool) -> None:
    """Take each block that is free, and have the runner use its reserve up, as events do."""
    (disk / "filler").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
    while spool.write([spools.event("call_failed", 0, "x" * 4000)], urgent=True):
        pass
    assert os.statvfs(disk).f_bavail == 0


def write(spool: Spool, first: int, count: int) -> int:
    """Write windows from number `first` on; return how many fitted."""
    for i in range(first, first + count):
        window = {key: value for key, value in spools.window(i).items() if key != "seq"}
        if not spool.write([window]):
            return i - first
    return count


def test_an_acknowledgement_that_no_block_is_free_for_makes_room(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", SEGMENT_BYTES)
    device = SoakDevice(small_disk / "home", reserve_bytes=SEGMENT_BYTES)
    spool = device.folder.open_spool()
    assert spool.write([spools.life()])
    written = write(spool, 0, 300)
    assert (written, spool.segment > 3) == (300, True)
    ledger = Ledger.create(tmp_path / "soaks", device.spec, {"device": "rpi4-01", "kind": "ssh"})
    device.living = True
    first = Collector(device.visit, ledger, settings=CollectSettings())
    first.visit_once()  # one collector has been there
    written += write(spool, written, 300)
    fill(small_disk, spool)
    assert write(spool, written, 1) == 0

    # another comes, which claims, reads and acknowledges
    Collector(device.visit, ledger, settings=CollectSettings(), take_over=True).visit_once()
    assert device.folder.acknowledged() == spool.segment - 1
    written += write(spool, written, 1000)
    assert written > 700
    spool.close()
    Collector(device.visit, ledger, settings=CollectSettings(), take_over=True).visit_once()
    table = read_table(ledger.folder)
    assert (table.first_seq, table.missing_seq, table.doubled_seq) == (1, (), ())
    assert int(table.merged.sum()) == written
