"""INA219 and INA226 read through /dev/i2c-N where the kernel has no driver for them.

Sources: TI SBOS448 (INA219), SBOS547 (INA226): registers, big-endian; kernel,
Documentation/i2c/dev-interface.rst. Only reads: a chip is in continuous conversion after its power comes
on. Current is the shunt's voltage over its resistance, which needs no calibration register.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple

from ..parsing import Unreadable
from .sensor import Sensor, folders, text_or

I2C_SLAVE = 0x0703  # linux/i2c-dev.h
NAMES = "/sys/bus/i2c/devices/i2c-*/name"
FILES = (NAMES,)

_CONFIG, _SHUNT, _BUS = 0, 1, 2
_OFF = {0, 4}  # MODE bits of the configuration register, both chips: powered down, ADC off


class Chip(NamedTuple):
    """What differs between the two. Gain errors are the data sheets' largest over temperature."""

    shunt_v: float  # of one count of the shunt's register
    bus_v: float
    bus_shift: int  # lowest bits of the bus register that are flags
    full_scale: int  # counts at which the shunt's register ends
    uncertainty_ratio: float


CHIPS = {
    # PGA ±320 mV after power-on: 0x7D00; SBOS448, table 4 and "Electrical characteristics" (A grade: 1%)
    "ina219": Chip(10e-6, 4e-3, 3, 32000, 0.01),
    # SBOS547, "Electrical characteristics": gain error 0.1%
    "ina226": Chip(2.5e-6, 1.25e-3, 0, 32767, 0.001),
}
OpenChip = Callable[[str, int], Any]  # (path, address) → what has `read` and `close` as Registers


def bus_path(root: str, bus: Any) -> str:
    """Return /dev/i2c-N of a bus by its number, or by how its adapter's name begins. Raises Unreadable."""
    if isinstance(bus, int):
        return "/dev/i2c-%d" % bus
    names = {os.path.dirname(path): text_or(path, "?") for path in folders(root, NAMES)}
    fits = [folder for folder, name in names.items() if name.startswith(str(bus))]
    if len(fits) != 1:
        what = "several I2C adapters have" if fits else "no I2C adapter has"
        there = ", ".join(sorted(names.values())) or "none"
        raise Unreadable("%s a name that begins with %r; there are: %s" % (what, bus, there))
    return "/dev/" + os.path.basename(fits[0])


class Registers:
    """The 16-bit registers of a chip on /dev/i2c-N. Close it. Raises Unreadable where it can't be opened."""

    def __init__(self, path: str, address: int) -> None:
        self._where = "%s, address 0x%02x" % (path, address)
        try:
            self._device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            hint = "; load the module i2c-dev" if isinstance(error, FileNotFoundError) else ""
            raise Unreadable("%s: %s%s" % (path, error.strerror, hint)) from None
        try:
            fcntl.ioctl(self._device, I2C_SLAVE, address)
        except OSError as error:
            os.close(self._device)
            busy = error.errno == errno.EBUSY
            why = "a kernel driver has it; it is an hwmon chip then" if busy else error.strerror
            raise Unreadable("%s: %s" % (self._where, why)) from None

    def read(self, register: int) -> int:
        """Return one register. Raises Unreadable when nobody acknowledges (ENXIO, EREMOTEIO)."""
        try:
            os.write(self._device, bytes([register]))
            data = os.read(self._device, 2)
        except OSError as error:
            raise Unreadable("%s: %s" % (self._where, error.strerror)) from None
        if len(data) != 2:
            raise Unreadable("%s: %d bytes, expected 2" % (self._where, len(data)))
        return int.from_bytes(data, "big")

    def close(self) -> None:
        os.close(self._device)


def signed(value: int) -> int:
    """Return a 16-bit register as a two's complement number."""
    return value - 0x10000 if value & 0x8000 else value


class Monitor:
    """One open chip. Close it. Raises Unreadable where it can't be opened, or converts nothing."""

    def __init__(self, path: str, address: int, chip: Chip, shunt_ohm: float, opener: OpenChip) -> None:
        self.where = "%s, address 0x%02x" % (path, address)
        self._chip = chip
        self._shunt_ohm = shunt_ohm
        self._registers = opener(path, address)
        try:
            mode = self._registers.read(_CONFIG) & 7
            if mode in _OFF:
                raise Unreadable("%s: it is powered down (mode %d)" % (self.where, mode))
        except Unreadable:
            self.close()
            raise

    def close(self) -> None:
        self._registers.close()

    def _current(self, raw: int) -> float:
        counts = signed(raw)
        if abs(counts) >= self._chip.full_scale:
            raise Unreadable("%s: the shunt's voltage is beyond its range" % self.where)
        return counts * self._chip.shunt_v / self._shunt_ohm

    def _voltage(self, raw: int) -> float:
        return (raw >> self._chip.bus_shift) * self._chip.bus_v

    def current_a(self) -> float:
        return self._current(self._registers.read(_SHUNT))

    def voltage_v(self) -> float:
        return self._voltage(self._registers.read(_BUS))

    def power_w(self) -> float:
        return self.current_a() * self.voltage_v()


def find(root: str, declared: List[Mapping[str, Any]], opener: OpenChip = Registers) -> List[Sensor]:
    """Return the sensors of chips that are declared: nothing is probed, a wrong write can harm a board.

    Each is {`chip`: "ina219" | "ina226", `bus`: number or begin of the adapter's name, `address`,
    `shunt_ohm`, `site`?, `boundary`?, `uncertainty_ratio`? (of the shunt)}. Raises ValueError for a chip
    that is none of these.
    """
    found = []
    for entry in declared:
        name = str(entry["chip"])
        if name not in CHIPS:
            raise ValueError("no chip %r; there are: %s" % (name, ", ".join(sorted(CHIPS))))
        chip, address = CHIPS[name], int(entry["address"])
        monitor = _Late(root, entry["bus"], address, chip, float(entry["shunt_ohm"]), opener)
        site = str(entry.get("site") or "0x%02x" % address)
        boundary = str(entry.get("boundary") or "rail")
        uncertainty = chip.uncertainty_ratio + float(entry.get("uncertainty_ratio") or 0.0)
        source = "%s at 0x%02x of I2C bus %s" % (name, address, entry["bus"])
        for kind in ("power_w", "voltage_v", "current_a"):
            limits: Dict[str, Any] = {
                "boundary": boundary if kind != "voltage_v" else "",
                "uncertainty_ratio": uncertainty if kind != "voltage_v" else chip.uncertainty_ratio,
            }
            found.append(Sensor("i2c", name, site, kind, source, monitor.reader(kind), **limits))
    return found


class _Late:
    """A chip on a bus that is looked for when it is first read: a USB adapter may come and go."""

    def __init__(
        self, root: str, bus: Any, address: int, chip: Chip, shunt_ohm: float, opener: OpenChip
    ) -> None:
        self._make: Callable[[], Monitor] = lambda: Monitor(
            bus_path(root, bus), address, chip, shunt_ohm, opener
        )
        self._monitor: Any = None  # Monitor, once it is known which bus it is on

    def reader(self, kind: str) -> Callable[[], float]:
        def read() -> float:
            if self._monitor is None:
                self._monitor = self._make()
            try:
                return float(getattr(self._monitor, kind)())
            except Unreadable:
                self._monitor.close()
                self._monitor = None  # its adapter may have come back under another number
                raise

        return read
