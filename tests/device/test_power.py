"""Energy and heat on the emulated board: a session in air so warm that its model throttles under load."""

from __future__ import annotations

import re
import secrets

import pytest
from support.repository import Finished, Repository
from support.tiny import MODELS

pytestmark = pytest.mark.device
PLAN = f"""
[release]
device_types = ["rpi4"]
[models.tiny]
path = "{MODELS}/tiny.onnx"
"""
SUITES = """
[types.rpi4.energy]
trials = 2
batch_sizes = [1]
[types.rpi4.thermal]
start_low = "60 °C"
start_high = "78 °C"
load_cap_s = 400
steady_s = 120
"""
# one busy core of four warms it by 9 °C: it idles at 73 °C and would end at 82 °C
MODEL = """
[types.rpi4.power_model]
idle_power = "2.7 W"
load_power = "6.4 W"
supply_voltage_v = 5.1
thermal_resistance_k_per_w = 10.1
heat_capacity_j_per_k = 12
ambient_temp = "46 °C"
trip_temp = "80 °C"
hysteresis_k = 2
throttled_speed = "50 %"
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    repository = Repository.make(tmp_path_factory.mktemp("power") / "theirs")
    repository.write_plan(PLAN)
    name = f"rpi4-{secrets.token_hex(4)}"
    devices = repository.root / "devices.toml"
    text = re.sub(r"\[types\.rpi4\.power_model\]\n(?:(?!\[|\n).*\n)*", "", devices.read_text())
    devices.write_text(text.replace("rpi4-emulated", name) + MODEL + SUITES)
    return repository.pytest("--device", name, "-m", "power or thermal")


def run_of(done: Finished, suite: str) -> dict:
    (run,) = (r for r in done.runs() if r["suite"] == suite)
    return run


def value(done: Finished, metric: str) -> float:
    (row,) = done.results(metric)
    assert row["fidelity"] == "estimated"
    return float(row["value"])


def test_energy_of_a_throttled_board_is_invalid(done):
    assert done.returncode == 11, done.output
    run = run_of(done, "power")
    assert run["outcome"] == "invalid"
    assert "throttled during its windows" in run["reason"]
    assert not done.results("energy_per_inference_j")


def test_heat_is_what_the_thermal_suite_measures(done):
    assert run_of(done, "thermal")["outcome"] == "completed", done.output
    assert value(done, "ambient_temp_c") == 46
    assert 80 <= value(done, "peak_temp_c") < 84
    assert value(done, "throttled_s") > 0
    assert 0 < value(done, "time_to_throttle_s") < 400
    assert value(done, "sustained_ratio") < 0.95
    labels = run_of(done, "thermal")["settings"]["labels"]
    assert labels == ["heat moves 100 times as fast: an emulated board"]
