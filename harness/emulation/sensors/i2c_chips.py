"""The chips on the emulated board's I2C bus, register by register.

A register that has no reading yet isn't acknowledged, so that the guest's drivers report an error: a missing
reading is never 0. Faults stand between a chip and the bus.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

SHUNT_OHM = 0.1  # of the INA219, as on Adafruit's breakout board 904
LTC4151_SENSE_OHM = 0.001  # what the Linux driver takes where no device tree says otherwise (ltc4151.c)


@dataclass(frozen=True)
class Reading:
    """What the chips measure now."""

    temp_c: float
    voltage_v: float
    current_a: float


class Nak(Exception):
    """The chip doesn't acknowledge."""


class Chip(Protocol):
    """A chip: told a reading, written and read by a bus master."""

    def set(self, reading: Reading | None) -> None:
        """Take the reading to show; None: none yet."""

    def write(self, data: bytes) -> None:
        """Take what a master writes: the register's number, then data. Raises Nak."""

    def read(self, count: int) -> bytes:
        """Return `count` bytes from the register last named. Raises Nak."""


def _limited(value: float, low: int, high: int) -> int:
    """Return the nearest code that the register can hold."""
    return min(max(round(value), low), high)


class WordChip:
    """Registers of 16 bits, high byte first, named by a pointer."""

    def __init__(self, registers: dict[int, int], writable: frozenset[int]) -> None:
        self.registers: dict[int, int | None] = dict(registers)
        self._writable = writable
        self._pointer = 0

    def write(self, data: bytes) -> None:
        if data:
            self._pointer = data[0]
        if len(data) >= 3 and self._pointer in self._writable:
            self.registers[self._pointer] = data[1] << 8 | data[2]

    def read(self, count: int) -> bytes:
        value = self.registers.get(self._pointer)
        if value is None:
            raise Nak
        return struct.pack(">H", value).ljust(count, b"\xff")[:count]


class Lm75(WordChip):
    """NXP LM75B (data sheet, section 7): temperature in 11 bits, 0.125 °C; its configuration has 8 bits."""

    def __init__(self) -> None:
        super().__init__({2: 0x4B00, 3: 0x5000}, frozenset({2, 3}))
        self.registers[0] = None
        self._configuration = 0

    def set(self, reading: Reading | None) -> None:
        code = None if reading is None else _limited(reading.temp_c / 0.125, -(1 << 10), (1 << 10) - 1)
        self.registers[0] = None if code is None else (code << 5) & 0xFFFF

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(data) == 2 and data[0] == 1:
            self._configuration = data[1]

    def read(self, count: int) -> bytes:
        if self._pointer == 1:
            return bytes([self._configuration]).ljust(count, b"\xff")
        return super().read(count)


class Ina219(WordChip):
    """TI INA219 (SBOS448G, section 8.6): shunt in 10 µV, bus in 4 mV from bit 3 on.

    Current and power follow from the calibration that the master writes.
    """

    def __init__(self) -> None:
        super().__init__({0: 0x399F, 5: 0}, frozenset({0, 5}))
        self._reading: Reading | None = None
        self.set(None)

    def set(self, reading: Reading | None) -> None:
        self._reading = reading
        for register in (1, 2, 3, 4):
            self.registers[register] = None
        if reading is None:
            return
        shunt = _limited(reading.current_a * SHUNT_OHM / 10e-6, -32000, 32000)
        bus = _limited(reading.voltage_v / 4e-3, 0, 8000)
        # equations 4 and 5
        current = _limited(shunt * (self.registers[5] or 0) / 4096, -32768, 32767)
        self.registers[1] = shunt & 0xFFFF
        self.registers[2] = bus << 3 | 0b10  # CNVR: a conversion is ready
        self.registers[3] = _limited(abs(current) * bus / 5000, 0, 0xFFFF)
        self.registers[4] = current & 0xFFFF

    def write(self, data: bytes) -> None:
        super().write(data)
        self.set(self._reading)  # a new calibration counts at once


class Ltc4151:
    """Analog Devices LTC4151 (data sheet, table 3): sense in 20 µV, input in 25 mV, 12 bits each."""

    def __init__(self) -> None:
        self._pointer = 0
        self._control = 0
        self._words: dict[int, int] | None = None

    def set(self, reading: Reading | None) -> None:
        if reading is None:
            self._words = None
            return
        sense = _limited(reading.current_a * LTC4151_SENSE_OHM / 20e-6, 0, 4095)
        self._words = {0: sense << 4, 2: _limited(reading.voltage_v / 25e-3, 0, 4095) << 4, 4: 0}

    def write(self, data: bytes) -> None:
        if data:
            self._pointer = data[0] & 7
        if len(data) >= 2 and self._pointer == 6:
            self._control = data[1]

    def read(self, count: int) -> bytes:
        return bytes(self._byte((self._pointer + i) % 7) for i in range(count))

    def _byte(self, register: int) -> int:
        if register == 6:
            return self._control
        if self._words is None:
            raise Nak
        word = self._words[register & ~1]
        return word & 0xFF if register & 1 else word >> 8


class Faulty:
    """A chip with what can go wrong in front of it."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._reading: Reading | None = None
        self._held: Reading | None = None  # what the chip was told last
        self.is_silent = False
        self.is_stuck = False
        self._spike: tuple[float, int] = (1.0, 0)  # factor, for how many more readings

    def set(self, reading: Reading | None) -> None:
        if reading is not None and self.is_stuck:
            return
        self._reading = reading
        factor, left = self._spike
        if reading is not None and left:
            self._spike = (factor, left - 1)
            reading = Reading(reading.temp_c * factor, reading.voltage_v, reading.current_a * factor)
        self._show(reading)

    def _show(self, reading: Reading | None) -> None:
        self._held = reading
        self._chip.set(reading)

    @property
    def shown(self) -> Reading | None:
        """Return what a master would read now, before the registers' resolution; None: it gets no answer."""
        return None if self.is_silent else self._held

    def spike(self, factor: float, readings: int) -> None:
        """Show `factor` times the temperature or the current, in the next `readings` readings."""
        self._spike = (factor, readings)

    def heal(self) -> None:
        """End every fault of it."""
        self.is_silent = self.is_stuck = False
        self._spike = (1.0, 0)
        self._show(self._reading)

    def write(self, data: bytes) -> None:
        if self.is_silent:
            raise Nak
        self._chip.write(data)

    def read(self, count: int) -> bytes:
        if self.is_silent:
            raise Nak
        return self._chip.read(count)


class Bus:
    """The chips by name and by address."""

    def __init__(self) -> None:
        # addresses as their address pins allow them
        self.chips = {"lm75": Faulty(Lm75()), "ltc4151": Faulty(Ltc4151()), "ina219": Faulty(Ina219())}
        self._by_address = {0x48: "lm75", 0x6F: "ltc4151", 0x40: "ina219"}

    def set(self, reading: Reading | None) -> None:
        """Have every chip show `reading`; None: nothing is measured."""
        for chip in self.chips.values():
            chip.set(reading)

    def write(self, address: int, data: bytes) -> None:
        """Raises Nak where no chip answers."""
        self._find(address).write(data)

    def read(self, address: int, count: int) -> bytes:
        """Raises Nak where no chip answers."""
        return self._find(address).read(count)

    def _find(self, address: int) -> Faulty:
        name = self._by_address.get(address)
        if name is None:
            raise Nak
        return self.chips[name]
