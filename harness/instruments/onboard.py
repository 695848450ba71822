"""A board's own channels, some of them picked by name, as an instrument of devices.toml.

What they are and how they are read is the agent's (harness/agent/sensors/); the open device hands them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.agent.sensors.i2c_ina import CHIPS
from harness.errors import ConfigError, DeviceError
from harness.instruments.base import Context, Instrument, InstrumentKind, find_channel
from harness.instruments.options import parse_uncertainty
from harness.model import Capture, Channel, InstrumentSpec, Reading
from harness.toml_schema import Section

NAME = "onboard"
_ADDRESSES = (0x08, 0x77)  # the rest of the seven bits is reserved (UM10204, section 3.1.12)


def _parse(section: Section) -> Mapping[str, Any]:
    return {
        "sensors": section.texts("sensors"),
        "boundary": section.text("boundary"),
        "i2c": tuple(_parse_chip(name, table) for name, table in section.tables("i2c")),
        **parse_uncertainty(section),
    }


def _parse_chip(name: str, table: Section) -> dict[str, Any]:
    """Return one chip as harness/agent/sensors/i2c_ina.py takes it."""
    bus = table.text("bus", required=True) or ""
    address = table.integer("address", required=True, at_least=_ADDRESSES[0])
    if address is not None and address > _ADDRESSES[1]:
        table.problem("address", f"expected a 7-bit address from 0x08 to 0x77, got {address:#x}")
    shunt_ohm = table.quantity("shunt", "Ω", required=True)
    if shunt_ohm is not None and shunt_ohm <= 0:
        table.problem("shunt", f"expected a resistance above 0, got {shunt_ohm:g}")
    chip = {
        "site": name,
        "chip": table.text("chip", required=True, choices=tuple(sorted(CHIPS))),
        # a number, or how its adapter's name begins, which stays when numbers change
        "bus": int(bus) if bus.isdecimal() else bus,
        "address": address,
        "shunt_ohm": shunt_ohm,
        "boundary": table.text("boundary"),
        "uncertainty_ratio": table.quantity("shunt_tolerance", "ratio", at_least=0),
    }
    table.finish()
    return chip


def declared_chips(specs: Sequence[InstrumentSpec]) -> tuple[Mapping[str, Any], ...]:
    """Return the I2C chips without a driver that a unit's instruments declare, for the board's sampler."""
    return tuple(chip for spec in specs if spec.kind == NAME for chip in spec.options["i2c"])


class Onboard:
    """The channels named by `sensors`, all where none is named. The device stays open when this is closed."""

    def __init__(self, spec: InstrumentSpec, context: Context) -> None:
        if context.board is None:
            raise ConfigError(
                "it reads sensors through the agent of an open device, and no device is open here.",
                where=spec.where or spec.name,
            )
        self.name = spec.name
        self._board: Instrument = context.board
        self._started = False
        there = self._board.channels()
        silent: Mapping[str, str] = getattr(self._board, "silent", {})
        where = spec.where or spec.name
        for id_ in spec.options["sensors"]:
            if id_ in silent and all(channel.id != id_ for channel in there):
                raise DeviceError(f"`{id_}` is there and doesn't answer: {silent[id_]}.", where=where)
        chosen = [find_channel(where, there, id_) for id_ in spec.options["sensors"]] or there
        stated = {
            key: spec.options[key]
            for key in ("boundary", "uncertainty_ratio", "uncertainty_abs")
            if spec.options[key] is not None
        }
        self._channels = tuple(replace(channel, **stated) for channel in chosen)

    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        for id_ in channel_ids:
            find_channel(self.name, self._channels, id_)
        self._board.start(channel_ids, rate_hz)
        self._started = True

    def stop(self) -> tuple[Capture, ...]:
        self._started = False
        by_id = {channel.id: channel for channel in self._channels}
        return tuple(replace(c, channel=by_id[c.channel.id]) for c in self._board.stop())

    def read(self, channel_id: str) -> Reading:
        find_channel(self.name, self._channels, channel_id)
        return self._board.read(channel_id)

    def close(self) -> None:
        if self._started:
            self._started = False
            self._board.stop()


KIND = InstrumentKind(parse=_parse, open=Onboard)
