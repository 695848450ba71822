"""Smart plugs over HTTP: Shelly of the first and later generations, Tasmota. What they meter is at the wall.

Formats: Shelly, shelly-api-docs.shelly.cloud: Gen1 `GET /shelly` and `/status` (`meters`: power in W, total
in watt minutes, is_valid); Gen2+ `Switch.GetStatus` (apower W, voltage V, current A, aenergy.total Wh).
Tasmota, tasmota.github.io/docs/Commands: `Status 8` (StatusSNS.ENERGY: Power W, Voltage V, Current A, Total
kWh; a list where there are several channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from harness.errors import DataError, Unsupported
from harness.instruments.base import Context, InstrumentKind, find_channel
from harness.instruments.http import JsonDevice
from harness.instruments.options import (
    make_channel,
    parse_common,
    parse_uncertainty,
    parse_url,
    parse_variable,
    read_secret,
)
from harness.instruments.polling import Poller
from harness.model import Capture, Channel, ChannelKind, InstrumentSpec, Reading
from harness.toml_schema import Section

RATE_HZ = 1.0  # plugs renew their figures about once a second
STALE_S = 120.0  # chosen: they show tenths of a watt, which may well stand still for a while
_WH, _KWH, _WMIN = 3600.0, 3.6e6, 60.0  # in joules

Values = dict[ChannelKind, float]


def parse_shelly_gen1(status: Mapping[str, Any], index: int, where: str) -> Values:
    """Return what meter `index` of a Gen1 `/status` shows. Raises Unsupported without one, DataError."""
    meters = status.get("meters")
    if not isinstance(meters, list) or index >= len(meters) or not isinstance(meters[index], dict):
        raise _no_meter(where, index)
    meter = meters[index]
    if meter.get("is_valid") is False:
        raise DataError(f"meters[{index}] says of itself that it is not valid.", where=where)
    found = {ChannelKind.POWER_W: _number(meter, "power", where)}
    if "total" in meter:
        found[ChannelKind.ENERGY_J] = _number(meter, "total", where) * _WMIN
    return found


def parse_shelly_gen2(status: Mapping[str, Any], index: int, where: str) -> Values:
    """Return what `Switch.GetStatus` shows. Raises Unsupported for a switch that meters nothing,
    DataError."""
    if "apower" not in status:
        raise _no_meter(where, index)
    found = {ChannelKind.POWER_W: _number(status, "apower", where)}
    for key, kind in (("voltage", ChannelKind.VOLTAGE_V), ("current", ChannelKind.CURRENT_A)):
        if key in status:
            found[kind] = _number(status, key, where)
    energy = status.get("aenergy")
    if isinstance(energy, dict) and "total" in energy:
        found[ChannelKind.ENERGY_J] = _number(energy, "total", where) * _WH
    return found


def parse_tasmota(status: Mapping[str, Any], index: int, where: str) -> Values:
    """Return what `Status 8` shows. Raises Unsupported for a plug that meters nothing, DataError."""
    sensors = status.get("StatusSNS")
    if not isinstance(sensors, dict):
        raise DataError(f"answered {str(status)[:80]!r}, expected StatusSNS.", where=where)
    energy = sensors.get("ENERGY")
    if not isinstance(energy, dict):
        raise _no_meter(where, index)
    found = {}
    for key, kind, scale in (
        ("Power", ChannelKind.POWER_W, 1.0),
        ("Voltage", ChannelKind.VOLTAGE_V, 1.0),
        ("Current", ChannelKind.CURRENT_A, 1.0),
        ("Total", ChannelKind.ENERGY_J, _KWH),
    ):
        value = energy.get(key)
        if isinstance(value, list):
            value = value[index] if index < len(value) else None
        if value is not None:
            found[kind] = _number({key: value}, key, where) * scale
    if ChannelKind.POWER_W not in found:
        raise _no_meter(where, index)
    return found


def _number(table: Mapping[str, Any], key: str, where: str) -> float:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"`{key}` is {value!r}, expected a number.", where=where)
    return float(value)


def _no_meter(where: str, index: int) -> Unsupported:
    return Unsupported(
        f"shows no power of its channel {index}.",
        where=where,
        next_step="Use a plug that meters, or correct `channel`.",
    )


def _parse(section: Section) -> Mapping[str, Any]:
    return {
        "url": parse_url(section, "url"),
        "channel": section.integer("channel", at_least=0) or 0,
        "user": section.text("user") or "admin",
        "password_env": parse_variable(section, "password_env"),
        **parse_common(section, rate_hz=RATE_HZ, boundary="wall"),
        **parse_uncertainty(section),
    }


class Plug:
    """A plug that is asked for all it meters at once. `look` returns what it shows now."""

    def __init__(self, spec: InstrumentSpec, context: Context, look: Callable[[], Values]) -> None:
        options = spec.options
        self.name = spec.name
        self._where = spec.where or spec.name
        self._look = look
        stale_s = options["stale_after_s"]
        self._poller = Poller(
            self.name,
            self._read_now,
            clock_ns=context.clock_ns,
            timeout_s=2 * options["timeout_s"],  # a password takes a second request
            stale_s=STALE_S if stale_s is None else stale_s,
        )
        self._channels = tuple(self._channel(options, kind) for kind in self._look())

    def _channel(self, options: Mapping[str, Any], kind: ChannelKind) -> Channel:
        wall = options["boundary"] if kind is not ChannelKind.VOLTAGE_V else ""
        return make_channel({**options, "boundary": wall}, kind.value, self.name, kind, options["url"])

    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    def _read_now(self, channels: Sequence[Channel]) -> Sequence[float]:
        values = self._look()
        missing = [channel.id for channel in channels if channel.kind not in values]
        if missing:
            raise DataError(f"no longer shows {', '.join(missing)}.", where=self._where)
        return [values[channel.kind] for channel in channels]

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        self._poller.start(self._channels, channel_ids, rate_hz)

    def stop(self) -> tuple[Capture, ...]:
        return self._poller.stop()

    def read(self, channel_id: str) -> Reading:
        return self._poller.read(find_channel(self.name, self._channels, channel_id))

    def close(self) -> None:
        self._poller.close()


def _device(spec: InstrumentSpec, password: str | None, login: str = "") -> JsonDevice:
    options = spec.options
    return JsonDevice(
        options["url"],
        timeout_s=options["timeout_s"],
        where=spec.where or spec.name,
        user=options["user"],
        password=password,
        login=login,
    )


def _open_shelly(spec: InstrumentSpec, context: Context) -> Plug:
    device = _device(spec, read_secret(spec, context, "password_env"))
    index, where = spec.options["channel"], spec.where or spec.name
    # /shelly needs no password; only later generations have `gen`
    generation = device.get("/shelly").get("gen", 1)
    if generation == 1:
        return Plug(spec, context, lambda: parse_shelly_gen1(device.get("/status"), index, where))
    path = f"/rpc/Switch.GetStatus?id={index}"
    return Plug(spec, context, lambda: parse_shelly_gen2(device.get(path), index, where))


def _open_tasmota(spec: InstrumentSpec, context: Context) -> Plug:
    password = read_secret(spec, context, "password_env")
    # Tasmota takes user and password as parameters of the command
    login = urlencode({"user": spec.options["user"], "password": password}) if password else ""
    device = _device(spec, None, login)
    index, where = spec.options["channel"], spec.where or spec.name
    return Plug(spec, context, lambda: parse_tasmota(device.get("/cm?cmnd=Status%208"), index, where))


SHELLY = InstrumentKind(parse=_parse, open=_open_shelly)
TASMOTA = InstrumentKind(parse=_parse, open=_open_tasmota)
