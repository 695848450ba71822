"""The spool of the benchmark of 72 hours is one that the host takes without a complaint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks import soak_72h
from harness.soak.ledger import Ledger
from harness.soak.table import read_table


def test_its_spool_is_whole(tmp_path: Path) -> None:
    soak_72h.write_spool(tmp_path, 1)
    ledger = Ledger.create(tmp_path / "soaks", json.loads((tmp_path / "spec.json").read_text()), {})
    for path in sorted((tmp_path / "spool").iterdir()):
        assert path.stat().st_size <= soak_72h.SEGMENT_BYTES
        ledger.append(1, int(path.stem), ledger.held(int(path.stem)), path.read_bytes(), closed=True)
    table = read_table(ledger.folder)
    assert table.start_s.size == 3600
    assert table.end_s[-1] == 3600
    assert table.missing_seq == table.doubled_seq == ()
    assert table.ended == "duration"
    assert np.all(table.channels["main/calls"] == 200)
    sensors = [name for name in table.channels if name.startswith("device/") and "rail" in name]
    assert len(sensors) == soak_72h.CHANNELS
    assert int(table.latency["main"].count.sum()) == 200 * 3600
