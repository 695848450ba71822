"""The emulated board's sensors: what real guest drivers read of the board model, and what can go wrong."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.device import BOARD_TYPE, emulated_device, snapshot_entry
from support.turns import LONG_S, agent_on, loaded

from harness.connect.qemu import QemuConnection
from harness.emulation import has_snapshot, power_on, remove_cache_entry
from harness.emulation.runs import wait_until
from harness.emulation.sensors.client import ModelReading
from harness.errors import Unsupported
from harness.measure.envelope import compute_conditions
from harness.model import Condition, Device, DeviceType, PowerModel
from harness.remote import AgentClient, Child

pytestmark = pytest.mark.device
PI4 = PowerModel(2.7, 6.4, 5.1, 10.1, 12.0, 20.0, 80.0, 2.0, 0.5)
PI4_TYPE = dataclasses.replace(BOARD_TYPE, power_model=PI4)
TURNS = 100_000  # some ms of guest time
# what a user's own program does: the chip's registers by /dev/i2c (linux/i2c-dev.h: I2C_SLAVE)
READ_INA219 = """
import fcntl, os
bus = os.open("/dev/i2c-0", os.O_RDWR)
fcntl.ioctl(bus, 0x0703, 0x40)
for register in (1, 2):
    os.write(bus, bytes([register]))
    print(int.from_bytes(os.read(bus, 2), "big"))
"""


def device(name: str, type_: DeviceType = PI4_TYPE) -> Device:
    return dataclasses.replace(emulated_device(name), type=type_)


def run(connection: QemuConnection, *argv: str) -> tuple[int, str]:
    """Return a command's exit code and what it printed, errors too."""
    done = connection.run(argv, timeout_s=LONG_S, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def hwmon(connection: QemuConnection, chip: str, file: str) -> int | str:
    """Return what a file of a chip's driver holds, or the error that reading it gives."""
    script = f'for f in /sys/class/hwmon/*; do [ "$(cat $f/name)" = {chip} ] && cat $f/{file}; done'
    _, said = run(connection, "sh", "-c", script)
    return int(said) if said.strip().lstrip("-").isdigit() else said


def model(connection: QemuConnection) -> ModelReading:
    found = connection.machine.sensors.read_model()
    assert found is not None
    return found


def is_near(connection: QemuConnection, read: Callable[[], float], tolerance_c: float) -> bool:
    """Return whether a reading is what the model has, which moves on while a busy host reads."""
    before, seen, after = model(connection).temp_c, read(), model(connection).temp_c
    return min(before, after) - tolerance_c <= seen <= max(before, after) + tolerance_c


@pytest.fixture(scope="module")
def key() -> str:
    """A snapshot's key that nobody else uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture(scope="module", params=["functional", "timing"])
def board(request: pytest.FixtureRequest, key: str) -> Iterator[QemuConnection]:
    connection = QemuConnection.open(device("rpi4-sensors"), profile=request.param)
    yield connection
    connection.close()
    image, profile = connection.machine.image, connection.machine.profile
    if has_snapshot(image, profile, key):  # in use until its machine was down
        remove_cache_entry(snapshot_entry(image, profile, key))


def test_chips_are_there_and_silent_until_the_model_runs(board):
    assert hwmon(board, "lm75b", "temp1_max") == 80_000
    assert "No such device or address" in hwmon(board, "lm75b", "temp1_input")
    assert "No such device or address" in hwmon(board, "ltc4151", "in1_input")
    code, said = run(board, "vcgencmd", "get_throttled")
    assert (code, said) == (1, "vcgencmd: the board model is not running\n")


def test_real_drivers_read_the_model(board):
    with board.sensing():
        assert is_near(board, lambda: hwmon(board, "lm75b", "temp1_input") / 1000, 4.0)
        assert hwmon(board, "ltc4151", "in1_input") == pytest.approx(5100, abs=25)
        milliamps = hwmon(board, "ltc4151", "curr1_input")
        assert 2.7 / 5.1 * 1000 - 20 <= milliamps <= 6.4 / 5.1 * 1000
        _, said = run(board, "python3", "-I", "-S", "-c", READ_INA219)
        shunt, bus = (int(word) for word in said.split())
        amps, volts = shunt * 10e-6 / 0.1, (bus >> 3) * 4e-3
        assert volts == pytest.approx(5.1, abs=4e-3)
        assert 2.7 - 0.02 <= amps * volts <= 6.4
        assert run(board, "vcgencmd", "get_throttled") == (0, "throttled=0x0\n")
        shown = run(board, "vcgencmd", "measure_temp")[1]
        assert 47 <= float(shown.removeprefix("temp=").removesuffix("'C\n")) < 80
    assert board.machine.sensors.read_model() is None
    assert "No such device or address" in hwmon(board, "lm75b", "temp1_input")


def test_faults_reach_the_guests_drivers(board):
    sensors = board.machine.sensors
    with board.sensing():
        sensors.nak("lm75")
        assert "No such device or address" in hwmon(board, "lm75b", "temp1_input")
        assert hwmon(board, "ltc4151", "in1_input") > 5000
        sensors.heal("lm75")
        sensors.stick("lm75")
        stuck = hwmon(board, "lm75b", "temp1_input")
        sensors.set_ambient(70.0)
        assert wait_until(lambda: model(board).temp_c > stuck / 1000 + 10, LONG_S)
        assert hwmon(board, "lm75b", "temp1_input") == stuck
        sensors.heal("lm75")
        assert hwmon(board, "lm75b", "temp1_input") > stuck + 9_000
        sensors.spike("ina219", 1.8, readings=1_000_000)
        _, said = run(board, "python3", "-I", "-S", "-c", READ_INA219)
        assert int(said.split()[0]) * 10e-6 / 0.1 > 0.9  # 1.8 × 0.53 A
        sensors.heal("ina219")
        sensors.unplug()
        assert wait_until(lambda: run(board, "test", "-e", "/dev/i2c-0")[0] != 0, LONG_S)
        assert "No such file" in hwmon(board, "lm75b", "temp1_input")
        sensors.plug()
        assert hwmon(board, "lm75b", "temp1_input") > 40_000


def test_sensors_outlive_a_snapshot_a_reset_and_a_power_cut(board, key):
    with board.sensing():
        board.save(key)  # with the model running in it
        assert hwmon(board, "lm75b", "temp1_input") > 40_000
    profile = str(board.machine.profile)
    restored = QemuConnection.open(device("rpi4-sensors-b"), profile=profile, snapshot=key)
    try:
        assert restored.restored == key
        assert "No such device or address" in hwmon(restored, "lm75b", "temp1_input")
        with restored.sensing():
            assert hwmon(restored, "lm75b", "temp1_input") > 40_000
        restored.machine.power_cut()
        power_on(restored.machine)
        restored.machine.wait_for_sensors()
        restored.machine.sensors.start(PI4, cores=4)
        assert wait_until(lambda: restored.machine.sensors.read_model() is not None, LONG_S)
        restored.machine.reset()
        assert wait_until(lambda: restored.machine.sensors.read_model() is None, LONG_S)
    finally:
        restored.close()


def test_a_type_without_a_power_model_has_no_power():
    connection = QemuConnection.open(device("rpi4-sensors-c", BOARD_TYPE))
    try:
        with pytest.raises(Unsupported, match=r"no table \[types\.rpi4\.power_model\]"), connection.sensing():
            pass
    finally:
        connection.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[QemuConnection, AgentClient, Child]]:
    """A loaded model in the timing profile."""
    connection = QemuConnection.open(device("rpi4-sensors"), profile="timing")
    try:
        with agent_on(connection) as (client, env):
            child = loaded(client, "it", env, turns=TURNS)
            yield connection, client, child
            child.close()
    finally:
        connection.close()


def median_ns(child: Child) -> float:
    block = child.measure(iterations=40, warmup_max=8, timeout_s=LONG_S)
    return float(np.median(block.latency_ns))


def test_the_model_leaves_the_median_alone_and_is_off_where_nobody_asks(bench):
    connection, _, child = bench
    off = median_ns(child)
    with connection.sensing():
        on = median_ns(child)
    assert on == pytest.approx(off, rel=1e-4)
    assert median_ns(child) == pytest.approx(off, rel=1e-4)


def test_heat_slows_the_measured_process_and_makes_its_run_invalid(bench):
    connection, client, child = bench

    def judged_median_ns() -> tuple[float, Condition]:
        before = client.request("conditions").args
        found = median_ns(child)
        told = compute_conditions(before, client.request("conditions").args, required=("throttle_bits",))
        return found, next(c for c in told if c.name == "throttling")

    def is_throttled() -> bool:
        return bool(model(connection).throttled_bits & 4)

    with connection.sensing():
        cool, judged = judged_median_ns()
        assert judged.ok is True
        connection.machine.sensors.set_ambient(75.0)
        assert wait_until(is_throttled, LONG_S)
        hot, judged = judged_median_ns()
        assert judged.ok is False
        assert "0xc000c" in judged.observed
        assert 1.8 < hot / cool < 2.2
        connection.machine.sensors.set_ambient(0.0)
        assert wait_until(lambda: not is_throttled(), LONG_S)
        again, judged = judged_median_ns()
        assert again == pytest.approx(cool, rel=1e-3)
        assert judged.ok is True  # throttled since boot, but not since this run began


def test_the_agent_reads_all_three_chips_and_tells_a_silent_one(bench):
    connection, client, _ = bench
    declared = [
        {"chip": "ina219", "bus": "i2c-tiny-usb", "address": 0x40, "shunt_ohm": 0.1, "site": "supply"}
    ]

    def look() -> tuple[list[str], dict[str, str]]:
        told = client.request("channels", {"i2c": declared}).args
        return [channel["id"] for channel in told["channels"]], told["silent"]

    def read(id_: str) -> tuple[float | None, str]:
        (reading,) = client.request("sampler_read", {"channels": [id_]}).args["readings"]
        return reading["value"], reading["error"]

    with connection.sensing():
        ids, silent = look()
        found = {part: next(i for i in ids if part in i) for part in ("ina219", "lm75b", "ltc4151")}
        power = next(i for i in ids if "ina219" in i and "power_w" in i)
        assert 2.7 - 0.02 <= read(power)[0] <= 6.4
        assert is_near(connection, lambda: read(found["lm75b"])[0], 3.0)
        assert silent == {}
        connection.machine.sensors.nak("ina219")
        value, error = read(power)
        assert value is None or np.isnan(value)
        assert "No such device or address" in error
        connection.machine.sensors.heal("ina219")
    # the LTC4151's driver keeps a reading for a sixth of a second (ltc4151.c)
    assert wait_until(lambda: not any(chip in i for i in look()[0] for chip in found), LONG_S)
    assert power in look()[1]
