"""A unit's calibration on disk: whole, the unit's own, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.calibrations import calibration_path, load_calibrations, save_calibration
from harness.errors import ConfigError, StoredRunError
from harness.model import Calibration, Detectable, Fidelity

KNOWN = Calibration(
    device="rpi4-01",
    taken_at="2026-01-02T03:04:05+00:00",
    model="door",
    artifact_sha256="ab" * 32,
    runtime="onnxruntime",
    runtime_version="1.20.1",
    fidelity=Fidelity.MEASURED,
    margin=0.01,
    trials=300,
    false_fails=1,
    inconclusives=2,
    trial_s=21.5,
    half_width_ratio=0.0012,
    detectable=(Detectable(1.0, 0.0131, False), Detectable(20.0, None, True)),
    settings={"duets": 90},
)


def test_what_is_kept_comes_back(tmp_path: Path):
    path = save_calibration(tmp_path, KNOWN)
    assert path == tmp_path / "units" / "rpi4-01" / "calibration.json"
    assert load_calibrations(tmp_path, ["rpi4-02", "rpi4-01"]) == (KNOWN,)


def test_the_newest_takes_the_place_of_the_one_before(tmp_path: Path):
    save_calibration(tmp_path, KNOWN)
    newer = replace(KNOWN, taken_at="2026-02-02T00:00:00+00:00", false_fails=0)
    save_calibration(tmp_path, newer)
    assert load_calibrations(tmp_path, ["rpi4-01"]) == (newer,)
    assert [p.name for p in (tmp_path / "units" / "rpi4-01").iterdir()] == ["calibration.json"]


def test_units_without_one_are_left_out(tmp_path: Path):
    assert load_calibrations(tmp_path / "nowhere", ["rpi4-01", "a unit/../of another name"]) == ()


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="device's name"):
        save_calibration(tmp_path, replace(KNOWN, device="../elsewhere"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 9'), "is 9, expected 1"),
        (lambda text: text.replace("rpi4-01", "rpi4-09"), "it is of `rpi4-09`"),
        (lambda text: text.replace('"margin"', '"margn"'), "margn"),
        (lambda text: text.replace('"trials": 300', '"trials": "many"'), "trials"),
    ],
)
def test_a_damaged_one_is_told(tmp_path: Path, change, said: str):
    path = save_calibration(tmp_path, KNOWN)
    path.write_text(change(path.read_text()))
    with pytest.raises(StoredRunError, match=said):
        load_calibrations(tmp_path, ["rpi4-01"])


def test_it_is_json_with_a_version(tmp_path: Path):
    kept = json.loads(save_calibration(tmp_path, KNOWN).read_text())
    assert kept["schema_version"] == 1
    assert kept["calibration"]["half_width_ratio"] == 0.0012
    assert calibration_path(tmp_path, "rpi4-01").is_file()
