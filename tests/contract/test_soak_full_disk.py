"""A soak on a disk without a free block: it is claimed, collected and stopped, and that makes room.

One that an older agent has started lacks the room for its first claim: the lab's failure, told as such.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import spools
from support.soak_device import SoakDevice
from support.soak_ledgers import ABOUT

from harness.agent.soak import spool as spool_module
from harness.agent.soak.spool import Spool
from harness.cli.main import main
from harness.errors import EXIT_INFRA
from harness.soak import attach
from harness.soak.about import about_to_plain
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


@pytest.fixture
def full(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoakDevice]:
    """Return a device with a full disk, whose soak nobody has claimed before and this host knows."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", SEGMENT_BYTES)
    device = SoakDevice(small_disk / "home", reserve_bytes=SEGMENT_BYTES, about=about_to_plain(ABOUT))
    spool = device.folder.open_spool()
    assert spool.write([spools.life()])
    assert write(spool, 0, 300) == 300
    fill(small_disk, spool)
    device.living = True
    (tmp_path / "devices.toml").write_text(
        'schema_version = 1\n[types.host]\n[devices.desk]\ntype = "host"\nkind = "local"\n'
    )
    Ledger.create(tmp_path / "reports" / "soaks", device.spec, {"device": "desk", "kind": "local"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIL_HARNESS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(attach, "reach_for", lambda unit, compressed: device.visit)
    yield device
    device.living = False
    device.request("soak_list")  # lets go of the runner's lock, which the disk can't be unmounted with
    spool.close()


def test_the_first_claim_ever_and_the_soaks_stop_need_no_free_block(full: SoakDevice, tmp_path: Path) -> None:
    def ends(reason: str) -> None:
        full.living = False

    full.on_stop = ends
    assert main(["soak", "stop", full.spec["id"], "--reason", "enough"]) == 0
    assert full.folder.stop_reason() is not None
    table = read_table(tmp_path / "reports" / "soaks" / full.spec["id"])
    assert int(table.merged.sum()) == 300
    assert full.folder.acknowledged() > 0


def test_a_first_claim_that_has_no_room_is_the_labs_failure_with_what_to_do(
    full: SoakDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    os.unlink(full.folder.file("collector.json"))  # as before agents made it at a soak's start
    (Path(full.folder.path) / "filler").write_bytes(bytes(4096))
    assert main(["soak", "attach", full.spec["id"]]) == EXIT_INFRA
    said = capsys.readouterr().err
    home = full.folder.home
    for part in (f"device: soak {full.spec['id']} can't be claimed", home, "(0 bytes are free", "deploy gc"):
        assert part in said
