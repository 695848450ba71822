"""A unit is calibrated end to end on this host: duets of a model against itself, and what is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.candidates import TINY, harness
from support.repository import Repository

from harness.calibrations import load_calibrations
from harness.measure import duet
from harness.measure.calibrate import MIN_DUETS
from harness.model import Fidelity

FEW = dataclasses.replace(duet.MEASURED, duets=3, pairs=4)


def test_a_host_is_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(duet, "MEASURED", FEW)
    repository = Repository.make(tmp_path / "theirs")
    monkeypatch.chdir(repository.root)
    code = harness(
        repository, "devices", "calibrate", "local", "--model", TINY, "--minutes", "0.001", "--trials", "10"
    )
    assert code == 0
    (found,) = load_calibrations(repository.root / "reports", ["local"])
    assert found.device == "local"
    assert found.fidelity is Fidelity.MEASURED
    assert found.settings["duets"] == max(MIN_DUETS, FEW.duets * FEW.looks)
    assert found.trials == 10
    assert found.runtime_version
    assert found.half_width_ratio > 0
    assert "caught in 20 min" in capsys.readouterr().out
