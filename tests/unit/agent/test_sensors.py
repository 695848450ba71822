"""Sensors: what the files of four boards say, and what becomes of files that say something else."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

import pytest

from harness.agent.parsing import Unreadable
from harness.agent.sensors import COMMANDS, FILES, UNITS, find_sensors, i2c_ina, split_readable
from harness.agent.sensors.commands import capture_path
from harness.agent.sensors.i2c_ina import bus_path
from harness.agent.sensors.raspberry import parse_pmic, throttle_names
from harness.agent.sensors.rockchip import parse_devfreq_load, parse_npu_load
from harness.model import ChannelKind

CAPTURES = Path(__file__).parents[2] / "captures"
BOARDS = sorted(path.name for path in CAPTURES.iterdir() if path.is_dir())
# by hand from the files: every power, one of each other family
EXPECTED = {
    "rpi4": {
        "thermal/zone/cpu-thermal/temp_c": 48.686,
        "hwmon/cpu_thermal/temp1/temp_c": 48.686,
        "cpufreq/policy0/policy0/freq_hz": 1.5e9,
        "raspberry/firmware/soc/throttle_bits": 0x50005,
    },
    "rpi5": {
        "hwmon/rp1_adc/in1/voltage_v": 1.466,
        "hwmon/pwmfan/fan1/fan_rpm": 3054,
        "cpufreq/policy0/policy0/freq_hz": 2.4e9,
        "raspberry/firmware/soc/throttle_bits": 0,
        "raspberry/pmic/VDD_CORE/current_a": 1.4288,
        "raspberry/pmic/VDD_CORE/power_w": 1.4288 * 0.9066,
        "raspberry/pmic/EXT5V/voltage_v": 5.05716,
        "raspberry/pmic/total/power_w": 2.870338,
    },
    "jetson-orin-nano": {
        "jetson/ina3221/VDD_IN/power_w": 4.960 * 0.968,
        "jetson/ina3221/VDD_CPU_GPU_CV/power_w": 4.952 * 0.112,
        "jetson/ina3221/VDD_SOC/power_w": 4.944 * 0.288,
        "hwmon/ina3221/VDD_IN/voltage_v": 4.96,
        "hwmon/ina3221/VDD_IN/current_a": 0.968,
        "thermal/zone/tj-thermal/temp_c": 47.125,
        "cpufreq/policy4/policy4/freq_hz": 729.6e6,
        "devfreq/17000000.gpu/17000000.gpu/freq_hz": 305999872,
        "jetson/gpu/gpu/load_ratio": 0.125,
    },
    "rk3588": {
        "thermal/zone/npu-thermal/temp_c": 43.461,
        "cpufreq/policy6/policy6/freq_hz": 2.4e9,
        "devfreq/fdab0000.npu/fdab0000.npu/freq_hz": 1e9,
        "rockchip/npu/core0/load_ratio": 0.68,
        "rockchip/npu/core2/load_ratio": 0.0,
        "rockchip/dmc/dmc/load_ratio": 0.27,
        "iio/fec10000.saradc/voltage1/voltage_v": 4089 * 0.439453125e-3,
    },
}
POWERS = {
    "rpi4": set(),
    "rpi5": {f"raspberry/pmic/{rail}/power_w" for rail in (
        "3V7_WL_SW", "3V3_SYS", "1V8_SYS", "DDR_VDD2", "DDR_VDDQ", "1V1_SYS", "0V8_SW", "VDD_CORE", "3V3_DAC",
        "3V3_ADC", "0V8_AON", "HDMI", "total")},
    "jetson-orin-nano": {i for i in EXPECTED["jetson-orin-nano"] if i.endswith("power_w")},
    "rk3588": set(),  # its USB-PD driver shows what was negotiated, which is no reading
}  # fmt: skip


@pytest.mark.parametrize("board", BOARDS)
def test_the_files_of_a_board_are_read(board: str) -> None:
    sensors = {s.id: s for s in find_sensors(str(CAPTURES / board))}
    assert set(EXPECTED[board]) <= set(sensors)
    for id_, value in EXPECTED[board].items():
        assert sensors[id_].read() == pytest.approx(value, rel=1e-5), id_
    assert {id_ for id_, s in sensors.items() if s.kind == "power_w"} == POWERS[board]
    answering, silent = split_readable(list(sensors.values()))
    assert silent == {}
    assert len(answering) == len(sensors)
    for sensor in answering:
        told = sensor.describe()
        assert not told["source"].startswith(str(CAPTURES)), "a source is a path on the device"
        assert told["boundary"] or sensor.kind not in ("power_w", "current_a", "energy_j")


@pytest.mark.parametrize("board", BOARDS)
def test_a_capture_says_where_it_comes_from_and_holds_nothing_else(board: str) -> None:
    folder = CAPTURES / board
    about = tomllib.loads((folder / "capture.toml").read_text("utf-8"))
    assert about["board"]
    assert about["origin"] == "from documentation" or about["origin"].startswith("captured ")
    commands = [capture_path(argv) for argv in COMMANDS]
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "capture.toml":
            name = str(path.relative_to(folder))
            assert any(fnmatch.fnmatch("/" + name, pattern) for pattern in (*FILES, *commands)), name
            if about["origin"] == "from documentation":
                assert any(
                    name.startswith(prefix) and source for prefix, source in about["sources"].items()
                ), name


def test_kinds_and_units_are_those_of_the_host() -> None:
    assert {kind.value: kind.unit for kind in ChannelKind} == UNITS


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return str(root)


def read(root: str) -> tuple[dict[str, float], dict[str, str]]:
    answering, silent = split_readable(find_sensors(root))
    return {s.id: s.read() for s in answering}, silent


def test_a_board_that_shows_nothing_has_no_sensors(tmp_path: Path) -> None:
    assert find_sensors(str(tmp_path)) == []


def test_hwmon_power_energy_and_what_is_switched_off_or_faulty(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon4/"
    values, silent = read(
        write(
            tmp_path,
            {
                chip + "name": "ltc4151",
                chip + "power1_average": "2500000",
                chip + "power1_label": "VIN",
                chip + "power2_input": "1200000",
                chip + "power2_average": "1",
                chip + "energy1_input": "7000000",
                chip + "temp1_input": "21500",
                chip + "temp1_fault": "1",
                chip + "in1_input": "0",
                chip + "in1_enable": "0",
                chip + "temp2_input": "not a number",
            },
        )
    )
    assert values == {
        "hwmon/ltc4151/VIN/power_w": 2.5,
        "hwmon/ltc4151/power2/power_w": 1.2,
        "hwmon/ltc4151/energy1/energy_j": 7.0,
    }
    assert "faulty" in silent["hwmon/ltc4151/temp1/temp_c"]
    assert "switched off" in silent["hwmon/ltc4151/in1/voltage_v"]
    assert "not a number" in silent["hwmon/ltc4151/temp2/temp_c"]


def test_shunt_voltages_of_an_ina3221_are_no_rails() -> None:
    # ina3221.rst: in4 to in7 are microvolts in a file that says millivolts
    ids = [s.id for s in find_sensors(str(CAPTURES / "jetson-orin-nano"))]
    assert sorted(i for i in ids if i.endswith("voltage_v")) == [
        "hwmon/ina3221/VDD_CPU_GPU_CV/voltage_v",
        "hwmon/ina3221/VDD_IN/voltage_v",
        "hwmon/ina3221/VDD_SOC/voltage_v",
    ]


def test_two_chips_of_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    files = {}
    for number, millidegrees in ((2, 21000), (10, 40500)):
        files[f"sys/class/hwmon/hwmon{number}/name"] = "lm75"
        files[f"sys/class/hwmon/hwmon{number}/temp1_input"] = str(millidegrees)
    values, _ = read(write(tmp_path, files))
    assert values == {"hwmon/lm75/temp1/temp_c": 21.0, "hwmon/lm75/temp1/temp_c#2": 40.5}


def test_iio_scale_offset_and_what_is_scaled_already(tmp_path: Path) -> None:
    device = "sys/bus/iio/devices/iio:device0/"
    values, silent = read(
        write(
            tmp_path,
            {
                device + "name": "ina219",
                device + "in_power2_raw": "100",
                device + "in_power2_scale": "20.000000",
                device + "in_current3_input": "840.5",
                device + "in_temp_raw": "1000",
                device + "in_temp_offset": "-273",
                device + "in_temp_scale": "50",
                device + "in_voltage0_raw": "5",
            },
        )
    )
    # sysfs-bus-iio: milliwatts, milliamperes, thousandths of a degree of (raw + offset) · scale
    assert values == {
        "iio/ina219/power2/power_w": 2.0,
        "iio/ina219/current3/current_a": 0.8405,
        "iio/ina219/temp/temp_c": pytest.approx(36.35),
    }
    assert "no scale" in silent["iio/ina219/voltage0/voltage_v"]


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    zone = "sys/class/powercap/intel-rapl:0/"
    files = {zone + "name": "package-0", zone + "energy_uj": "900", zone + "max_energy_range_uj": "1000"}
    root = write(tmp_path, files)
    (sensor,) = find_sensors(root)
    assert (sensor.id, sensor.boundary) == ("powercap/intel-rapl:0/package-0/energy_j", "package")
    assert sensor.read() == pytest.approx(900e-6)
    write(tmp_path, {zone + "energy_uj": "100"})
    assert sensor.read() == pytest.approx(1100e-6)
    write(tmp_path, {zone + "energy_uj": "50", zone + "max_energy_range_uj": "60"})
    with pytest.raises(Unreadable, match="its range is 60"):
        sensor.read()


@pytest.mark.parametrize(("sign", "status"), [(1, "Discharging"), (-1, "Discharging"), (1, "Charging")])
def test_a_battery_shows_the_boards_power_while_it_discharges(tmp_path: Path, sign: int, status: str) -> None:
    battery = "sys/class/power_supply/BAT0/"
    values, silent = read(
        write(
            tmp_path,
            {
                battery + "type": "Battery",
                battery + "status": status,
                battery + "voltage_now": "7600000",
                battery + "current_now": str(sign * 500000),
                battery + "temp": "305",
            },
        )
    )
    assert values["battery/BAT0/BAT0/temp_c"] == pytest.approx(30.5)
    if status == "Discharging":
        assert values["battery/BAT0/BAT0/power_w"] == pytest.approx(3.8)
    else:
        assert "is Charging" in silent["battery/BAT0/BAT0/power_w"]


def test_rails_of_an_old_jetson(tmp_path: Path) -> None:
    device = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/"
    values, _ = read(
        write(tmp_path, {device + "rail_name_0": "POM_5V_IN", device + "in_power0_input": "2381"})
    )
    assert values == {"jetson/ina3221x/POM_5V_IN/power_w": pytest.approx(2.381)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "EXT5V_V volt(24)=nanV",
        "EXT5V_V current(24)=5.0V",
        "VDD_CORE_A current(7)=1.4A trailing",
        "error=1",
    ],
)
def test_what_is_no_rail_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="pmic_read_adc"):
        parse_pmic(text)


def test_loads_of_an_npu() -> None:
    assert parse_npu_load("NPU load:  Core0: 12%, Core1:  0%, Core2: 100%,") == {
        "core0": 0.12,
        "core1": 0.0,
        "core2": 1.0,
    }
    assert parse_npu_load("NPU load:  7%") == {"npu": 0.07}
    for text in ("", "NPU load:", "NPU load: Core0 12", "GPU load: 3%"):
        with pytest.raises(Unreadable, match="NPU load"):
            parse_npu_load(text)
    assert parse_devfreq_load("72@800000000Hz") == 0.72
    with pytest.raises(Unreadable, match="devfreq load"):
        parse_devfreq_load("72")


def test_throttle_bits_have_names() -> None:
    assert throttle_names(0x50005) == (
        "under-voltage",
        "throttled",
        "under-voltage has occurred",
        "throttling has occurred",
    )
    assert throttle_names(0) == ()


# --- chips without a driver


class Bus:
    """Registers of one chip, and ways to fail."""

    def __init__(self, **registers: int) -> None:
        self.registers = {int(name[1:], 16): value for name, value in registers.items()}
        self.opened: list[tuple[str, int]] = []
        self.closed = 0
        self.nak = False

    def open(self, path: str, address: int) -> Bus:
        self.opened.append((path, address))
        return self

    def read(self, register: int) -> int:
        if self.nak:
            raise Unreadable("No such device or address")
        return self.registers[register]

    def close(self) -> None:
        self.closed += 1


INA219 = {"chip": "ina219", "bus": 7, "address": 0x40, "shunt_ohm": 0.1, "site": "board"}


def chip(bus: Bus, root: Path | str = "", **more: object) -> dict[str, i2c_ina.Sensor]:
    return {s.kind: s for s in i2c_ina.find(str(root), [{**INA219, **more}], bus.open)}


def test_an_ina219_by_its_data_sheet() -> None:
    # SBOS448, section 8.5: 84 mV over 0.1 Ω is 0x20D0 counts of 10 µV; 5 V is 1250 counts of 4 mV and 3 flags
    bus = Bus(r0=0x399F, r1=0x20D0, r2=(1250 << 3) | 0b010)
    found = chip(bus)
    assert found["current_a"].read() == pytest.approx(0.84)
    assert found["voltage_v"].read() == pytest.approx(5.0)
    assert found["power_w"].read() == pytest.approx(4.2)
    assert bus.opened == [("/dev/i2c-7", 0x40)]
    assert found["power_w"].id == "i2c/ina219/board/power_w"
    bus.registers[1] = 0x10000 - 100
    assert found["current_a"].read() == pytest.approx(-0.01)


def test_an_ina226_by_its_data_sheet() -> None:
    # SBOS547, section 7.6: 2.5 µV and 1.25 mV a count
    found = chip(Bus(r0=0x4127, r1=8000, r2=4000), chip="ina226", shunt_ohm=0.02)
    assert found["current_a"].read() == pytest.approx(1.0)
    assert found["voltage_v"].read() == pytest.approx(5.0)


def test_chips_that_give_no_number() -> None:
    bus = Bus(r0=0x399F, r1=32000, r2=0)
    with pytest.raises(Unreadable, match="beyond its range"):
        chip(bus)["current_a"].read()
    bus.registers[0] = 0x3998
    with pytest.raises(Unreadable, match="powered down"):
        chip(bus)["power_w"].read()
    with pytest.raises(ValueError, match="ina219, ina226"):
        chip(bus, chip="ina3221")


def test_a_chip_that_went_away_is_looked_for_anew() -> None:
    bus = Bus(r0=0x399F, r1=100, r2=0)
    sensor = chip(bus)["current_a"]
    assert sensor.read() == pytest.approx(0.01)
    bus.nak = True
    with pytest.raises(Unreadable, match="No such device"):
        sensor.read()
    bus.nak = False
    assert sensor.read() == pytest.approx(0.01)
    assert (len(bus.opened), bus.closed) == (2, 1)


def test_a_bus_goes_by_its_adapters_name(tmp_path: Path) -> None:
    names = {"i2c-0": "bcm2835 (i2c@7e804000)", "i2c-5": "i2c-tiny-usb at bus 001 device 002"}
    root = write(tmp_path, {f"sys/bus/i2c/devices/{bus}/name": name for bus, name in names.items()})
    assert bus_path(root, "i2c-tiny-usb") == "/dev/i2c-5"
    with pytest.raises(Unreadable, match="bcm2835"):
        bus_path(root, "fxl")
    with pytest.raises(Unreadable, match="several"):
        bus_path(root, "")


def test_a_device_file_that_is_not_there_says_what_to_load() -> None:
    with pytest.raises(Unreadable, match="i2c-dev"):
        i2c_ina.Registers("/dev/i2c-250", 0x40)
