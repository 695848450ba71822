"""The tables `energy` and `thermal` of a device type: what they mean, and every way to get them wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.model import DeviceType, EnergySettings, ThermalSettings
from harness.registry import load_registry


def type_with(tmp_path: Path, table: str) -> DeviceType:
    path = tmp_path / "devices.toml"
    path.write_text(f'schema_version = 1\n[types.t]\n{table}\n[devices.d]\ntype = "t"\nkind = "local"\n')
    return load_registry(path).types["t"]


def test_what_is_left_out_keeps_its_default(tmp_path):
    plain = type_with(tmp_path, "")
    assert (plain.energy, plain.thermal) == (EnergySettings(), ThermalSettings())
    some = type_with(tmp_path, '[types.t.energy]\nwindow_s = "20 s"\nchannels = ["plug/power"]')
    assert (some.energy.window_s, some.energy.channels, some.energy.trials) == (20, ("plug/power",), 5)
    warm = type_with(tmp_path, '[types.t.thermal]\nstart_high = "60 °C"\nambient_temp = 21.5')
    assert (warm.thermal.start_temp_c, warm.thermal.ambient_temp_c) == ((35, 60), 21.5)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("energy]\nwindow = 10", "did you mean `window_s`"),
        ("energy]\ntrials = 1", "expected 2 or more"),
        ("energy]\nrate_hz = 20000", "no sampler keeps 20000 Hz; at most 10000"),
        ("energy]\nemulated_scale = 2", "expected 0.001 to 1, got 2"),
        ("thermal]\nstart_low = 55", "the start band ends at 50 °C, not above its 55 °C"),
        ("thermal]\ntrip_temp = 45", "45 °C is not above the start band, 35 to 50 °C"),
        ("thermal]\nsteady_s = 7200", "nothing would get steady"),
        ("thermal]\nambient = 21", "did you mean `ambient_temp`"),
    ],
)
def test_each_mistake_is_named(tmp_path, table, message):
    with pytest.raises(ConfigError) as caught:
        type_with(tmp_path, f"[types.t.{table}")
    assert message in str(caught.value)
