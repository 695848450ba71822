"""The tables `soak`: what they mean over each other, and every way to get them wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.model import Device, Plan, SoakLoad, SoakSettings
from harness.plan import load_plan
from harness.registry import load_registry
from harness.soak_settings import load_for, parse_duration_s, settings_for

MODELS = '[models.a]\npath = "a.onnx"\n[models.b]\npath = "b.onnx"\n'
HOUR = 3600.0


def a_plan(tmp_path: Path, text: str) -> Plan:
    path = tmp_path / "release.toml"
    path.write_text(MODELS + text)
    return load_plan(path)


def a_device(tmp_path: Path, table: str = "", kind: str = "local") -> Device:
    path = tmp_path / "devices.toml"
    path.write_text(f'[types.t]\n{table}\n[devices.d]\ntype = "t"\nkind = "{kind}"\n')
    return load_registry(path).devices["d"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("72h", 72 * HOUR), ("2m", 120), ("90 min", 5400), ("20s", 20), ("1.5 h", 5400), ("3d", 259200)],
)
def test_a_duration_as_people_write_it(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("72", "has no unit; expected a duration as 72h"),
        ("0h", "above 0"),
        ("-1h", "above 0"),
        ("1000d", "at most 366 d"),
        ("72 hours", "unknown unit `hours`"),
        ("", "expected"),
        ("m", "expected"),
    ],
)
def test_what_is_no_duration(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_duration_s(text)
    assert message in str(caught.value)


def test_a_plan_without_the_table_has_the_defaults(tmp_path):
    plan = a_plan(tmp_path, "")
    assert plan.soak == SoakSettings()
    assert [model.soak for model in plan.models] == [None, None]
    assert a_device(tmp_path).type.soak == {}


def test_type_goes_over_plan_and_the_options_over_both(tmp_path):
    plan = a_plan(
        tmp_path,
        '[soak]\nwindow_s = 2\nwarmup_s = "2 h"\ncycle = "every 5 s"\nalerts = ["rss_ratio > 0.9"]\n'
        '[soak.limits]\nservice_life_s = "10 d"\n[soak.limits.per_h]\nrss_bytes = "100 kB"\nfds = 0.1\n'
        '[soak.policy]\nreboot = "note"\ncrash = "fail"\n',
    )
    table = (
        "[types.t.soak]\nwindow_s = 10\n[types.t.soak.limits.per_h]\nfds = 0.5\n"
        '[types.t.soak.policy]\nreboot = "invalid"\n'
    )
    found = settings_for(plan.soak, a_device(tmp_path, table), {"duration_s": 7200.0, "block_s": 60.0})
    assert (found.duration_s, found.window_s, found.block_s, found.warmup_s) == (7200, 10, 60, 7200)
    assert found.cycle == "every 5 s"
    assert found.alerts == ("rss_ratio > 0.9",)
    assert found.limits.service_life_s == 864000
    assert dict(found.limits.per_h) == {"rss_bytes": 100e3, "fds": 0.5}
    assert dict(found.policy) == {"reboot": "invalid", "crash": "fail"}
    assert found.slice_s <= found.window_s


EMULATED = """
[types.t.soak]
warmup_s = 100
[types.t.soak.emulated]
compressed = true
window_s = "60 s"
max_windows = 864
cycle = "every 300 s"
"""


def test_what_is_for_emulated_units_is_for_them_alone(tmp_path):
    given = {"duration_s": 72 * HOUR}
    real = settings_for(SoakSettings(), a_device(tmp_path, EMULATED), given)
    assert (real.compressed, real.window_s, real.warmup_s, real.cycle) == (False, 1.0, 100, "closed")
    board = a_device(tmp_path, EMULATED, kind="qemu")
    found = settings_for(SoakSettings(), board, given)
    assert (found.compressed, found.window_s, found.slice_s) == (True, 300, 300)
    assert (found.warmup_s, found.cycle) == (100, "every 300 s")
    short = settings_for(SoakSettings(), board, {"duration_s": 6 * HOUR})
    assert short.window_s == 60


def test_a_compressed_soak_has_one_cycle_for_every_model():
    own = SoakLoad(cycle="every 10 ms", beside=("b",))
    assert load_for(SoakSettings(cycle="every 5 s"), own).cycle == "every 10 ms"
    assert load_for(SoakSettings(cycle="every 5 s", compressed=True), own).cycle == "every 5 s"
    assert load_for(SoakSettings(), None) == SoakLoad(cycle="closed")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "how long is it to be? Say --soak 72h"),
        ({"duration_s": 0.5}, "500 ms is shorter than one window; the shortest soak on d is 1 s."),
        ({"duration_s": 60.0, "block_s": 0.5}, "soak.block_s, 500 ms, is shorter than one window"),
        ({"duration_s": 60.0, "compressed": True}, "a model in a closed loop leaves none"),
    ],
)
def test_parts_that_dont_fit_each_other(tmp_path, given, message):
    with pytest.raises(ConfigError) as caught:
        settings_for(SoakSettings(), a_device(tmp_path), given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[soak]\nwindow = 3", "soak.window: unknown key; did you mean `window_s`"),
        ("[soak]\nwindow_s = 0.01", "expected 0.1 or more"),
        ('[soak]\nduration_s = "72 hours"', "unknown unit `hours`"),
        ("[soak]\ncoverage_ratio = 99", "expected a ratio from 0 to 1"),
        ('[soak]\nwebhook_env = "https://chat.example/x"', "expected the name of the environment variable"),
        ("[soak]\ncompressed = true", "soak.compressed: unknown key"),
        ("[soak.emulated]\ncompressed = true", "soak.emulated: unknown key"),
        ("[soak]\nabort_on_alert = 1", "expected true or false, got 1"),
        ('[soak.policy]\nreboots = "fail"', "did you mean `reboot`"),
        ('[soak.policy]\nreboot = "FAIL"', "'FAIL' is not one of fail, invalid, note"),
        ('[soak.limits.per_h]\nrss_bytes = "1 ms"', "unknown unit `ms`"),
        ("[soak.limits.most]\nrss = 1", "soak.limits.most.rss: unknown key; valid: fds, latency_p99_ns"),
        ('[soak]\nmax_spool_bytes = "1 MB"', "expected 4194304 or more"),
        ('[models.a.soak]\nbeside = ["c"]', "models.a.soak.beside: no other model `c`"),
        ('[models.a.soak]\nlight = ["a"]', "models.a.soak.light: no other model `a`"),
        ('[models.a.soak]\nlight = ["b"]\nbeside = ["b"]', "models.a.soak.light: `b` runs beside it already"),
        ("[models.a.soak]\nswitch_below = 0.9", "0.9 is not below switch_above, 0.8: it would flap"),
        ("[models.a.soak]\nperiod = 3", "models.a.soak.period: unknown key"),
    ],
)
def test_each_mistake_of_a_plan_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        # the text may go on with a model's table
        a_plan(tmp_path, text)
    assert message in str(caught.value)


def test_a_models_table(tmp_path):
    text = '[models.a.soak]\ncycle = "poisson 2 /s"\nlight = ["b"]\nswitch_above = "90 %"\nhold_windows = 5\n'
    assert a_plan(tmp_path, text).models[0].soak == SoakLoad(
        "poisson 2 /s", (), ("b",), switch_above=0.9, hold_windows=5
    )


def test_each_mistake_of_a_device_type_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"types.t.soak.emulated.compress: unknown key; did you mean"):
        a_device(tmp_path, "[types.t.soak.emulated]\ncompress = true")
    with pytest.raises(ConfigError, match="expected 10 or more, got 1"):
        a_device(tmp_path, "[types.t.soak.emulated]\nmax_windows = 1")
