"""The power and thermal suites as a user calls them, on this host with the sensors of a folder."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from support.repository import Finished, Repository
from support.tiny import MODELS

from harness.store import read_session

QUICK = """
[types.local.energy]
window_s = 0.4
trials = 2
batch_sizes = [1, 2]
rate_hz = 10
[types.local.thermal]
start_low = "20 °C"
start_high = "60 °C"
load_cap_s = 3
steady_s = 2
block_s = 0.2
burst_s = 0.4
ambient_temp = "21 °C"
"""
PLAN = f"""
[release]
device_types = ["local"]
[models.tiny]
path = "{MODELS}/tiny.onnx"
[budgets.local.tiny]
energy_per_inference_j = "1 J"
idle_power_w = "2 W"
peak_temp_c = "80 °C"
"""


def sensors(root: Path, *, power: bool = True) -> Path:
    """Return a folder that shows a CPU's temperature, and 3.5 W."""
    zone = root / "board" / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("45123\n")
    if power:
        chip = root / "board" / "sys/class/hwmon/hwmon0"
        chip.mkdir(parents=True)
        (chip / "name").write_text("ltc4151\n")
        (chip / "power1_input").write_text("3500000\n")
    return root / "board"


@contextlib.contextmanager
def alive(board: Path) -> Iterator[None]:
    """Let last digits move meanwhile, as real sensors' do."""
    ending = threading.Event()
    moving = (
        (board / "sys/class/hwmon/hwmon0/power1_input", ("3500000", "3500010", "3499990")),
        (board / "sys/class/thermal/thermal_zone0/temp", ("45123", "45623", "45123")),
    )

    def move() -> None:
        for turn in itertools.count():
            for file, readings in moving:
                fresh = file.with_suffix(".new")
                fresh.write_text(readings[turn % 3] + "\n")
                fresh.replace(file)
            if ending.wait(0.03):
                return

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def prepared(root: Path) -> Repository:
    repository = Repository.make(root / "theirs")
    repository.write_plan(PLAN)
    with (repository.root / "devices.toml").open("a") as file:
        file.write(QUICK)
    return repository


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("power")
    board = sensors(root)
    with alive(board):
        env = {"HIL_AGENT_SENSORS_ROOT": str(board)}
        return prepared(root).pytest("--device", "local", "-m", "power or thermal", env=env)


def row(done: Finished, metric: str, batch_size: int = 1) -> dict:
    (found,) = (r for r in done.results(metric) if r["batch_size"] == batch_size)
    return found


def test_energy_and_heat_are_measured_and_judged(both):
    assert both.returncode == 1, both.output  # it idles at 3.5 W, and 2 W is its budget
    assert row(both, "energy_per_inference_j")["verdict"] == "PASS"
    assert row(both, "energy_per_inference_j", 2)["value"] > 0
    assert row(both, "idle_power_w")["value"] == pytest.approx(3.5, rel=1e-4)
    assert row(both, "idle_power_w")["verdict"] == "FAIL"
    assert "idle_power_w (energy): even its lower bound, 3.50 W, is above" in both.output
    assert row(both, "peak_temp_c")["verdict"] == "PASS"
    assert row(both, "sustained_ratio")["value"] > 0
    assert row(both, "throttled_s")["value"] is None  # nothing here would show it


def test_a_meter_that_hangs_judges_nothing(tmp_path):
    env = {"HIL_AGENT_SENSORS_ROOT": str(sensors(tmp_path))}
    done = prepared(tmp_path).pytest("--device", "local", "-m", "power", env=env)
    assert done.returncode == 11, done.output
    assert "all exactly 3.5 W" in done.output
    assert "Check that the meter is alive" in done.output


def test_a_temperature_that_hangs_judges_nothing(tmp_path):
    board = sensors(tmp_path, power=False)
    done = prepared(tmp_path).pytest(
        "--device", "local", "-m", "thermal", env={"HIL_AGENT_SENSORS_ROOT": str(board)}
    )
    assert done.returncode == 11, done.output
    assert "readings, all 45.123 °C" in done.output
    assert "Check that device/thermal/zone/cpu-thermal/temp_c is alive" in done.output


def test_every_number_says_what_it_stands_on(both):
    said = " ".join(row(both, "energy_per_inference_j")["reasons"])
    # at the rate that was reached, which a busy host keeps below the 10 Hz asked for
    assert re.search(r"boundary: rail; device/hwmon/ltc4151/power1/power_w, [0-9.]+ Hz", said)
    assert row(both, "energy_per_inference_j")["fidelity"] == "measured"
    run = next(r for r in both.runs() if r["suite"] == "power")
    names = {c["name"]: c["ok"] for c in run["conditions"]}
    assert names["one clock"] is True
    assert "sampler" in names


def test_traces_are_stored_and_drawn(both):
    session = read_session(both.folder)
    for run in session.runs:
        kinds = [t["kind"] for t in run.settings["traces"]]
        assert {"power_w", "temp_c"} == set(kinds)
        series = {s.name: s for s in run.series if not s.name.startswith("latency")}
        for trace in run.settings["traces"]:
            assert series[trace["series"]].values.size == series[trace["series"] + ".t_ns"].values.size > 0
    page = (both.folder / "report.html").read_text()
    assert 'id="timeline-2-desc"' in page
    schema = Path(__file__).resolve().parents[2] / "docs" / "summary.schema.json"
    jsonschema.validate(both.summary(), json.loads(schema.read_text()))


def test_a_device_without_a_meter_is_skipped_with_what_there_is(tmp_path):
    env = {"HIL_AGENT_SENSORS_ROOT": str(sensors(tmp_path, power=False))}
    done = prepared(tmp_path).pytest("--device", "local", "-m", "power", "-rs", env=env)
    assert done.returncode == 0, done.output
    assert "no channel shows power; there are: device/thermal/zone/cpu-thermal/temp_c (temp_c)" in done.output


def test_a_channel_that_isnt_there_is_one_message(tmp_path):
    repository = prepared(tmp_path)
    devices = repository.root / "devices.toml"
    devices.write_text(devices.read_text().replace("trials = 2", 'trials = 2\nchannels = ["plug/power"]'))
    env = {"HIL_AGENT_SENSORS_ROOT": str(sensors(tmp_path))}
    done = repository.pytest("--device", "local", "-m", "power", env=env)
    assert done.returncode == 4, done.output
    assert "no channel `plug/power`; valid: device/hwmon/ltc4151/power1/power_w" in done.output


@pytest.mark.parametrize(
    ("args", "chosen"),
    [
        ((), ()),
        (("-m", "power"), ("test_power.py",)),
        (("-k", "thermal"), ("test_thermal.py",)),
        (("-m", "not power and not thermal"), ()),
        (("suites/test_thermal.py",), ("test_thermal.py",)),
    ],
)
def test_what_takes_minutes_is_asked_for(tmp_path, args, chosen):
    done = prepared(tmp_path).pytest("--device", "local", "--collect-only", "-q", *args)
    assert {name for name in ("test_power.py", "test_thermal.py") if name in done.output} == set(chosen)


def test_a_plan_that_requires_a_suite_asks_for_it(tmp_path):
    repository = prepared(tmp_path)
    repository.write_plan(PLAN.replace('["local"]', '["local"]\nrequired_suites = ["power"]', 1))
    done = repository.pytest("--device", "local", "--collect-only", "-q")
    assert "test_power.py" in done.output
    assert "test_thermal.py" not in done.output
