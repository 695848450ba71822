"""The table `power_model` of a device type, and what the shipped one leads to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from harness.emulation.sensors import board_model
from harness.emulation.sensors.board_model import Parameters
from harness.errors import ConfigError
from harness.registry import load_registry

ROOT = Path(__file__).resolve().parents[2]
TABLE = {
    "idle_power": '"2.7 W"',
    "load_power": '"6400 mW"',
    "supply_voltage_v": "5.1",
    "thermal_resistance_k_per_w": "10.1",
    "heat_capacity_j_per_k": "12",
    "ambient_temp": '"20 °C"',
    "trip_temp": '"80 °C"',
    "hysteresis_k": "2",
    "throttled_speed": '"50 %"',
}


def model_of(folder, **changes):
    table = {key: value for key, value in {**TABLE, **changes}.items() if value is not None}
    lines = "\n".join(f"{key} = {value}" for key, value in table.items())
    path = folder / "devices.toml"
    path.write_text(
        f'[types.a]\n[types.a.power_model]\n{lines}\n[devices.b]\ntype = "a"\nkind = "qemu"\n', "utf-8"
    )
    return load_registry(path).types["a"].power_model


def test_it_is_read_in_stored_units(tmp_path):
    model = model_of(tmp_path)
    assert tuple(asdict(model).values()) == (2.7, 6.4, 5.1, 10.1, 12.0, 20.0, 80.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"trip_temp": None}, r"types.a.power_model.trip_temp: is missing"),
        ({"trip_tmp": "80"}, "trip_tmp: unknown key.*did you mean `trip_temp`"),
        ({"load_power": '"2 W"'}, "load_power: 2 W is below idle_power"),
        ({"trip_temp": '"48 °C"'}, r"trip_temp: with hysteresis_k it is not above 47\.3 °C.*never stop"),
        ({"throttled_speed": "1.5"}, 'throttled_speed: expected "1 %" to "99 %", got 1.5'),
        ({"idle_power": '"2.7 V"'}, "idle_power: unknown unit `V`"),
        ({"heat_capacity_j_per_k": "0"}, "heat_capacity_j_per_k: expected 0.001 or more"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(tmp_path, changes, text):
    with pytest.raises(ConfigError, match=text):
        model_of(tmp_path, **changes)


@pytest.mark.parametrize("path", ["devices.toml", "harness/starter/devices.toml"])
def test_the_shipped_board_behaves_as_its_sources_say(path):
    found = load_registry(ROOT / path).types["rpi4"]
    assert found.power_model is not None
    assert found.cores is not None
    board = Parameters(**asdict(found.power_model), cores=found.cores)
    idle = board_model.start(board)
    # so that a run on the emulated board can cool into the band that it starts in
    low, high = found.thermal.start_temp_c
    assert low < idle.temp_c < high
    one = board_model.step(board, idle, 1e9, 1.0)
    assert one.temp_c < board.trip_c  # one busy core throttles no Pi 4
    state, seconds = idle, 0
    while not state.throttled:
        state, seconds = board_model.step(board, state, 1.0, 4.0), seconds + 1
        assert seconds < 600
    assert 120 < seconds < 300  # of full load until it throttles: about three minutes
