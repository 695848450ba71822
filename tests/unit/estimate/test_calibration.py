"""Calibrations as files: those that ship, written and read again, and what is wrong with one."""

from __future__ import annotations

import dataclasses

import pytest

from harness.errors import ConfigError
from harness.estimate import calibration
from harness.estimate.validate import validate

SHIPPED = sorted(calibration.SHIPPED.glob("*.toml"))


@pytest.fixture(scope="module")
def rpi4() -> calibration.Calibration:
    found = calibration.shipped("rpi4", "ncnn")
    assert found is not None
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_what_ships_reads_is_sourced_and_writes_the_same(path):
    found = calibration.load(path)
    assert found.name == path.stem
    assert "BSD" in found.source
    assert found.board
    assert found.settings() == [("fp32", 1), ("fp32", 4), ("int8", 1), ("int8", 4)]
    assert calibration.render(found) == path.read_text(encoding="utf-8")


def test_a_pi_4_is_estimated_as_well_as_the_goals_ask(rpi4):
    one = validate(rpi4.points("fp32", 1))
    assert one.mean_error_ratio <= 0.05
    assert one.worst_error_ratio <= 0.15
    assert 0.85 <= one.covered_ratio <= 0.95
    assert validate(rpi4.points("fp32", 4)).mean_error_ratio <= 0.10
    assert validate(rpi4.points("int8", 1)).mean_error_ratio <= 0.10


def test_the_coefficients_are_those_of_a_pi_4(rpi4):
    cycle, line, byte = rpi4.fit("fp32", 1).coefficients_ns
    assert cycle == pytest.approx(1 / 1.8, rel=0.2)  # ns, at 1.8 GHz
    assert 2.0 < 1 / byte < 8.0  # GB/s
    assert 64 / line < 26  # GB/s: LPDDR4-3200 on 32 bits has 12.8, twice that with half of the lines in time
    four = rpi4.fit("fp32", 4).coefficients_ns
    assert 3.0 < cycle / four[0] < 4.2  # the code divides among four cores
    assert four[1] > 0.8 * line  # the memory doesn't
    assert four[2] > 0.8 * byte


def test_no_calibration_is_none_and_no_such_networks_an_error(rpi4):
    assert calibration.shipped("rpi4", "no-such-runtime") is None
    with pytest.raises(ConfigError, match="no network of precision fp16 on 1 thread; it has fp32 on 1"):
        rpi4.fit("fp16", 1)


def write(tmp_path, text):
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema_version = 1", "schema_version = 2", "this harness reads 1, got 2"),
        ('core = "cortex-a72"', 'core = "cortex-a722"', "did you mean `cortex-a72`"),
        ("schedule_format = 1", "schedule_format = 9", "expected 1, got 9"),
        ("taken_on", "taken_at", "unknown key; did you mean `taken_on`"),
        ("stored_bytes = ", "stored_byte = ", "did you mean `stored_bytes`"),
        ("board_ms = { 1 =", "board_ms = { one =", "expected a number of threads"),
        ("board_ms = { 1 = 73.96", "board_ms = { 1 = 93.96", "its networks give"),
        ("mean_error_ratio = 0.", "mean_error_ratio = 1.", "its networks give"),
        ("cycles = 0.624609", "cycles = 0.524609", "coefficients_ns.cycles: its networks give 0.624609"),
        ("networks = 25", "networks = 99", "fits.fp32-1.networks: its networks give 25, it says 99"),
        ('taken_on = "2', 'taken_on = "on 2', "taken_on: expected a date as 2026-01-31, got 'on 2026"),
        (
            '[networks."squeezenet"]\nprecision = "fp32"',
            '[networks."squeezenet"]\nprecision = "fp23"',
            "`fp32`",
        ),
    ],
)
def test_what_is_wrong_is_named(rpi4, tmp_path, old, new, says):
    text = calibration.render(rpi4)
    assert old in text
    with pytest.raises(ConfigError, match=says):
        calibration.load(write(tmp_path, text.replace(old, new, 1)))


def test_all_problems_are_told_at_once(rpi4, tmp_path):
    text = (
        calibration.render(rpi4)
        .replace("cortex-a72", "cortex-a73", 1)
        .replace("threads = 1", "threads = 0", 1)
    )
    with pytest.raises(ConfigError) as caught:
        calibration.load(write(tmp_path, text))
    assert len(caught.value.problems) >= 2


def test_every_setting_with_networks_enough_has_one_fit_of_the_terms_they_allow(rpi4, tmp_path):
    text = calibration.render(rpi4)
    before, fit = text.split("[fits.int8-1]", 1)
    fit, after = fit.split("\n\n", 1)
    with pytest.raises(ConfigError, match=r"fits\.int8-1: is missing"):
        calibration.load(write(tmp_path, f"{before}{after}"))
    with pytest.raises(ConfigError, match=r"fits\.again: the second of int8 on 1 thread"):
        calibration.load(write(tmp_path, f"{before}[fits.int8-1]{fit}\n\n[fits.again]{fit}\n\n{after}"))
    one_term = fit.replace("cycles = ", "instructions = ").split(", memory_lines")[0] + " }"
    one_term += "\n" + fit.split("}\n", 1)[1]
    with pytest.raises(ConfigError, match="expected the terms cycles, memory_lines, stored_bytes, got instr"):
        calibration.load(write(tmp_path, f"{before}[fits.int8-1]{one_term}\n\n{after}"))


def test_a_calibration_of_one_s_own_is_written_and_read(rpi4, tmp_path):
    own = dataclasses.replace(rpi4, name="own", networks=rpi4.networks[:12])
    calibration.save(tmp_path / "own.toml", own)
    found = calibration.load(tmp_path / "own.toml")
    assert found == own
    assert len(found.points("int8", 1)) == 2  # kept, though too few to fit


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        calibration.load(tmp_path / "none.toml")
