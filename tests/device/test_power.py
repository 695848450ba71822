"""Energy and heat on the emulated board: a session in air so warm that its model throttles under load."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest
from support.repository import TIMEOUT_S, Finished, Repository
from support.tiny import MODELS

from harness.cli.main import main
from harness.emulation import find_machine, stop_machine
from harness.emulation.runs import wait_until

pytestmark = pytest.mark.device
PLAN = f"""
[release]
device_types = ["rpi4"]
[models.tiny]
path = "{MODELS}/tiny.onnx"
"""
# a second of the board's takes many of the host's: a window of 0.4 s has 40 readings
QUICK = """
[types.rpi4.energy]
window_s = 4
trials = 2
batch_sizes = [1]
"""
SUITES = f"""{QUICK}
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


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Repository, str]]:
    """A board that stays up, so that its chips can be broken from here while a session measures on it."""
    repository = Repository.make(tmp_path_factory.mktemp("faults") / "theirs")
    repository.write_plan(PLAN)
    name = f"rpi4-{secrets.token_hex(4)}"
    devices = repository.root / "devices.toml"
    devices.write_text(devices.read_text().replace("rpi4-emulated", name) + QUICK)
    assert (
        main(["devices", "--devices", str(devices), "up", "--profile", "timing", "--hours", "1", name]) == 0
    )
    try:
        yield repository, name
    finally:
        stop_machine(name)


def test_a_power_chip_that_answers_nothing_ends_invalid(kept):
    repository, name = kept
    sensors = find_machine(name).sensors
    sensors.nak("ina219")
    try:
        done = repository.pytest("--device", name, "-m", "power", report="nak")
    finally:
        sensors.heal("ina219")
    assert done.returncode == 11, done.output
    assert "INA219 gives no reading" in run_of(done, "power")["reason"]
    assert not done.results("energy_per_inference_j")


def test_a_bus_that_is_pulled_out_under_load_ends_invalid(kept):
    repository, name = kept
    sensors = find_machine(name).sensors
    running = repository.start("--device", name, "-m", "thermal", report="unplugged")

    def is_loaded() -> bool:
        reading = sensors.read_model()
        return running.process.poll() is not None or (reading is not None and reading.temp_c > 51.5)

    try:
        assert wait_until(is_loaded, TIMEOUT_S)
        sensors.unplug()
        done = running.finish()
    finally:
        sensors.plug()
    assert done.returncode == 11, done.output
    assert "LM75 gives no reading" in run_of(done, "thermal")["reason"]
    assert not done.results("peak_temp_c")
