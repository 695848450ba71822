"""Raspberry Pi: the firmware's throttle bits, and the rails of the Pi 5's power chip.

Formats: Raspberry Pi documentation, computers/os.html#get_throttled (`throttled=0x50005`; the kernel's file
holds the digits alone, drivers/firmware/raspberrypi.c of Raspberry Pi kernels); `vcgencmd pmic_read_adc`
prints a line for each rail's current and voltage, `  VDD_CORE_A current(7)=1.42880000A`, `  VDD_CORE_V
volt(15)=0.90659250V` (Raspberry Pi 5 with DA9091; the same page, vcgencmd).
"""

from __future__ import annotations

import re
from typing import Callable, Dict, List, Tuple

from ..parsing import Unreadable, parse_integer, parse_throttled, read_text
from .commands import Command
from .sensor import Sensor, folders, shown

# the node `soc` has its address in its name since bcm2712.dtsi came into the mainline kernel
THROTTLED = "/sys/devices/platform/soc*/soc*:firmware/get_throttled"
FILES = (THROTTLED,)
COMMANDS = (["vcgencmd", "get_throttled"], ["vcgencmd", "pmic_read_adc"])
COMMAND_RATE_HZ = 10.0  # chosen: each reading is a process of its own

_RAIL = re.compile(r"^\s*(\w+)_([AV])\s+(current|volt)\((\d+)\)=(-?\d+(?:\.\d+)?)([AV])\s*$")
_UNITS = (("A", "current", "A"), ("V", "volt", "V"))
Rails = Dict[str, Dict[str, float]]


def parse_pmic(text: str) -> Rails:
    """Return amperes ("A") and volts ("V") by rail from `vcgencmd pmic_read_adc`. Raises Unreadable."""
    rails: Rails = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        match = _RAIL.match(line)
        if not match or (match.group(2), match.group(3), match.group(6)) not in _UNITS:
            raise Unreadable("vcgencmd pmic_read_adc: %r, expected `NAME_A current(7)=1.0A`" % line[:80])
        rails.setdefault(match.group(1), {})[match.group(2)] = float(match.group(5))
    if not rails:
        raise Unreadable("vcgencmd pmic_read_adc: printed no rail")
    return rails


def find(root: str = "") -> List[Sensor]:
    """Return the throttle bits and, on a Pi 5, current, voltage and power by rail and in all."""
    return _throttle_bits(root) + _pmic(root)


def _throttle_bits(root: str) -> List[Sensor]:
    command = Command(root, COMMANDS[0])
    for path in folders(root, THROTTLED):
        return [
            Sensor("raspberry", "firmware", "soc", "throttle_bits", shown(root, path), _hexadecimal(path))
        ]
    if command.is_there():

        def ask() -> float:
            return float(parse_throttled(command.output()))

        source = " ".join(COMMANDS[0])
        return [Sensor("raspberry", "firmware", "soc", "throttle_bits", source, ask, rate_hz=COMMAND_RATE_HZ)]
    return []


def _hexadecimal(path: str) -> Callable[[], float]:
    return lambda: float(parse_integer(read_text(path), path, 16))


def _pmic(root: str) -> List[Sensor]:
    command = Command(root, COMMANDS[1])
    if not command.is_there():
        return []
    try:
        rails = parse_pmic(command.output())
    except Unreadable:
        return []  # a Pi 4 has the command and no such chip: it prints an error
    source = " ".join(COMMANDS[1])
    found = []

    def add(site: str, kind: str, boundary: str, value: Callable[[Rails], float]) -> None:
        def read() -> float:
            try:
                return value(parse_pmic(command.output()))
            except KeyError as rail:
                raise Unreadable("%s: no longer prints %s" % (source, rail)) from None

        found.append(Sensor("raspberry", "pmic", site, kind, source, read, boundary, COMMAND_RATE_HZ))

    for rail, letters in rails.items():
        for letter, kind in (("A", "current_a"), ("V", "voltage_v")):
            if letter in letters:
                add(rail, kind, "rail" if letter == "A" else "", _value_of(rail, letter))
        if len(letters) == 2:
            add(rail, "power_w", "rail", _power_of([rail]))
    both = [rail for rail, letters in rails.items() if len(letters) == 2]
    if both:
        # what the board takes beside these rails (USB ports, fan) isn't in it
        add("total", "power_w", "rails of the power chip", _power_of(both))
    return found


def _value_of(rail: str, letter: str) -> Callable[[Rails], float]:
    return lambda rails: rails[rail][letter]


def _power_of(names: List[str]) -> Callable[[Rails], float]:
    return lambda rails: sum(rails[name]["A"] * rails[name]["V"] for name in names)


def throttle_names(bits: int) -> Tuple[str, ...]:
    """Return what set bits mean (documentation as above)."""
    return tuple(name for bit, name in _BITS.items() if bits & (1 << bit))


_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage has occurred",
    17: "frequency capping has occurred",
    18: "throttling has occurred",
    19: "soft temperature limit has occurred",
}
