"""The chips as their drivers read them: registers against the formulas of data sheets and drivers."""

import pytest

from harness.emulation.sensors.i2c_chips import Bus, Nak, Reading

LM75, LTC4151, INA219 = 0x48, 0x6F, 0x40


@pytest.fixture
def bus():
    made = Bus()
    made.set(Reading(temp_c=52.27, voltage_v=5.1, current_a=0.7106))
    return made


def word(bus, address, register):
    bus.write(address, bytes([register]))
    return int.from_bytes(bus.read(address, 2), "big")


def lm75_c(bus):
    raw = word(bus, LM75, 0)
    signed = raw - (1 << 16) if raw & 0x8000 else raw
    return (signed >> 5) * 0.125  # NXP LM75B, section 7.4.3


def test_lm75_in_steps_of_an_eighth_of_a_degree(bus):
    assert lm75_c(bus) == 52.25
    for temp_c, shown in ((-10.1, -10.125), (0.0, 0.0), (200.0, 127.875), (-200.0, -128.0)):
        bus.set(Reading(temp_c, 5.1, 0.5))
        assert lm75_c(bus) == shown


def test_lm75_keeps_its_configuration_and_limits(bus):
    bus.write(LM75, bytes([1, 0x60]))
    bus.write(LM75, bytes([3, 0x55, 0x00]))
    bus.write(LM75, bytes([1]))
    assert bus.read(LM75, 1) == b"\x60"
    assert word(bus, LM75, 3) == 0x5500
    bus.write(LM75, bytes([0, 0xFF, 0xFF]))  # the temperature can't be written
    assert lm75_c(bus) == 52.25


def test_ina219_by_its_calibration(bus):
    assert word(bus, INA219, 0) == 0x399F
    assert word(bus, INA219, 1) * 10e-6 / 0.1 == pytest.approx(0.7106, abs=1e-4)
    assert (word(bus, INA219, 2) >> 3) * 4e-3 == pytest.approx(5.1, abs=4e-3)
    assert word(bus, INA219, 2) & 0b11 == 0b10  # ready, no overflow
    assert (word(bus, INA219, 3), word(bus, INA219, 4)) == (0, 0)  # not calibrated
    bus.write(INA219, bytes([5, 4096 >> 8, 4096 & 0xFF]))  # 0.04096 / (0.1 mA × 0.1 Ω)
    assert word(bus, INA219, 4) * 1e-4 == pytest.approx(0.7106, abs=1e-4)
    assert word(bus, INA219, 3) * 2e-3 == pytest.approx(5.1 * 0.7106, abs=4e-3)  # power LSB: 20 × current's


def test_ltc4151_as_linux_reads_it(bus):
    def value(register):  # ltc4151_get_value(): two bytes, the upper 12 bits
        bus.write(LTC4151, bytes([register]))
        high = bus.read(LTC4151, 1)[0]
        bus.write(LTC4151, bytes([register + 1]))
        return (high << 4) + (bus.read(LTC4151, 1)[0] >> 4)

    assert value(2) * 25 == 5100  # mV
    assert value(0) * 20 == 720  # µV over 1 mΩ: mA
    bus.write(LTC4151, bytes([6, 0x10]))
    bus.write(LTC4151, bytes([6]))
    assert bus.read(LTC4151, 1) == b"\x10"


def test_no_reading_is_an_error_and_never_0():
    bus = Bus()
    for address, register in ((LM75, 0), (INA219, 1), (INA219, 2), (INA219, 3), (LTC4151, 0), (LTC4151, 3)):
        bus.write(address, bytes([register]))
        with pytest.raises(Nak):
            bus.read(address, 1)
    bus.set(Reading(20.0, 5.0, 0.5))
    bus.set(None)
    with pytest.raises(Nak):
        word(bus, LM75, 0)


def test_nobody_answers_where_no_chip_is(bus):
    with pytest.raises(Nak):
        bus.read(0x50, 1)
    with pytest.raises(Nak):
        bus.write(0x50, b"\0")


def test_faults_of_one_chip_leave_the_others_alone(bus):
    bus.chips["lm75"].is_silent = True
    with pytest.raises(Nak):
        word(bus, LM75, 0)
    assert word(bus, INA219, 1) == 7106
    bus.chips["lm75"].heal()
    bus.chips["ina219"].is_stuck = True
    bus.set(Reading(60.0, 5.1, 1.0))
    assert (lm75_c(bus), word(bus, INA219, 1)) == (60.0, 7106)
    bus.chips["ina219"].heal()
    bus.set(Reading(60.0, 5.1, 1.0))
    assert word(bus, INA219, 1) == 10000


def test_a_spike_lasts_for_as_many_readings_as_asked(bus):
    bus.chips["ina219"].spike(2.0, 2)
    shown = []
    for _ in range(3):
        bus.set(Reading(50.0, 5.0, 0.5))
        shown.append(word(bus, INA219, 1))
    assert shown == [10000, 10000, 5000]
    assert lm75_c(bus) == 50.0


def test_a_stuck_chip_is_gone_with_its_board(bus):
    bus.chips["lm75"].is_stuck = True
    bus.set(None)  # nothing is measured any more: not even a stuck value
    with pytest.raises(Nak):
        word(bus, LM75, 0)
