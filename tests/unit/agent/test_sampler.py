"""The sampler: its slots, what failed, what it refuses; and the process itself, on this host."""

from __future__ import annotations

import array
import contextlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
from support.device import local_device

from harness import connect
from harness.agent import sampler
from harness.agent.args import Args
from harness.agent.channels import Channels
from harness.agent.faults import Fault
from harness.errors import AgentError, ConfigError, DataError, DeviceError, Unsupported
from harness.model import ChannelKind
from harness.remote import AgentClient
from harness.remote.sampler import DeviceSampler

POWER, TEMP = "hwmon/ltc4151/power1/power_w", "hwmon/ltc4151/temp1/temp_c"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A board with a power meter and a temperature."""
    chip = tmp_path / "board" / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    for name, text in (("name", "ltc4151"), ("power1_input", "3500000"), ("temp1_input", "45000")):
        (chip / name).write_text(text + "\n")
    return tmp_path / "board"


def sampling(root: Path, **args: object) -> sampler.Sampling:
    given = {"channels": [POWER, TEMP], "rate_hz": 1000.0, "max_samples": 4, **args}
    return sampler.Sampling(Args("sampler_start", given), Channels(str(root)))


def test_each_slot_reads_each_channel_until_it_is_full(root):
    taken = sampling(root)
    while not taken.full:
        taken.take()
    report, payload = taken.result()
    assert report["samples"] == 4
    assert report["full"] is True
    names = [entry["name"] for entry in report["arrays"]]
    assert names == ["t_ns_0", "value_0", "t_ns_1", "value_1"]
    values = {e["name"]: payload[e["offset"] : e["offset"] + e["nbytes"]] for e in report["arrays"]}
    assert array.array("d", values["value_0"]).tolist() == [3.5] * 4
    times = array.array("q", values["t_ns_1"]).tolist()
    assert times == sorted(times)
    assert report["errors"] == [{}, {}]


def test_a_reading_that_fails_is_no_number_and_is_told(root):
    taken = sampling(root)
    taken.take()
    (root / "sys/class/hwmon/hwmon0/power1_input").write_text("nonsense\n")
    taken.take()
    taken.take()
    report, _ = taken.result()
    assert math.isnan(taken.values[0][1])
    assert taken.values[1][1] == 45.0
    ((why, count),) = report["errors"][0].items()
    assert "'nonsense' is not a number" in why
    assert count == 2
    assert report["errors"][1] == {}


def test_slots_that_passed_are_left_out(root, monkeypatch):
    now = [10**9]
    monkeypatch.setattr("time.monotonic_ns", lambda: now[0])
    taken = sampling(root, rate_hz=100.0)
    taken.take()
    now[0] += 35_000_000  # three slots and a half later
    taken.take()
    report, _ = taken.result()
    assert report["missed"] == 1  # the one due at 20 ms; the one at 30 ms comes late, and now
    assert report["samples"] == 2
    assert report["jitter_p99_ns"] == 25_000_000  # the second was due 10 ms after the first
    assert taken.wait_s() == 0
    taken.take()
    assert taken.wait_s() == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        ({"channels": []}, "bad_request", "expected 1 to 64 ids"),
        ({"channels": [POWER, POWER]}, "bad_request", "each once"),
        ({"channels": ["nix"]}, "unsupported", "no sensor `nix` here; there are: hwmon/ltc4151/power1"),
        ({"rate_hz": 0}, "bad_request", "rate_hz"),
        ({"rate_hz": 1e6}, "bad_request", "rate_hz"),
        ({"max_samples": 1 << 40}, "bad_request", "more than a message holds"),
        ({"colour": 1}, "bad_request", "colour"),
    ],
)
def test_what_cant_be_sampled_is_refused(root, args, kind, message):
    with pytest.raises(Fault, match=message) as caught:
        sampling(root, **args)
    assert caught.value.kind == kind


@pytest.fixture
def agent(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HIL_AGENT_SENSORS_ROOT", str(root))
    connection = connect.open_connection(local_device(tmp_path / "home"))
    client = AgentClient.start(connection, timeout_s=60)
    yield client
    client.close()
    connection.close()


def test_the_process_samples_by_itself(agent):
    device = DeviceSampler(agent, where="here")
    assert [c.kind for c in device.channels()] == [ChannelKind.POWER_W, ChannelKind.TEMP_C]
    assert device.read(POWER).value == 3.5
    for _ in range(2):  # a second start after a stop is another process
        device.start([POWER, TEMP], 200)
        begin = agent.request("clock").args["monotonic_ns"]
        while agent.request("clock").args["monotonic_ns"] < begin + 60_000_000:
            pass
        power, temp = device.stop()
        assert power.health.got > 2
        assert set(power.values) == {3.5}
        assert set(temp.values) == {45.0}
        assert (np.diff(power.t_ns) > 0).all()
        assert device.report is not None
        assert device.report.cpu_ns > 0
        assert device.report.rate_asked_hz == 200


def test_mistakes_are_told(agent, root):
    device = DeviceSampler(agent, where="here")
    with pytest.raises(DeviceError, match="had not begun"):
        device.stop()
    with pytest.raises(ConfigError, match="no channel `hwmon/nix`"):
        device.start(["hwmon/nix"], 10)
    with pytest.raises(Unsupported, match="no sensor `nix` here"):
        device.read_all(["nix"])
    with pytest.raises(AgentError, match="no sampler runs: none was started"):
        agent.request("sampler_stop")
    device.start([POWER], 10)
    with pytest.raises(DeviceError, match="already"):
        device.start([POWER], 10)
    with pytest.raises(ConfigError, match="a sampler runs already"):
        DeviceSampler(agent, where="here").start([POWER], 10)
    device.close()
    (root / "sys/class/hwmon/hwmon0/power1_input").unlink()
    with pytest.raises(DataError, match="power1_input"):
        device.read(POWER)


def test_a_sampler_that_died_is_told_with_its_end(agent):
    device = DeviceSampler(agent, where="here")
    device.start([POWER], 50)
    parent = agent.hello["pid"]
    (pid,) = (int(p) for p in Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    os.kill(pid, 9)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # its parent has taken note already
        while ") Z" not in Path(f"/proc/{pid}/stat").read_text():
            pass
    with pytest.raises(AgentError, match="died of signal 9"):
        device.stop()
