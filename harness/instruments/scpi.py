"""Supplies and meters that speak SCPI, through PyVISA.

SCPI-1999, volume 2, MEASure: a query returns one number in the unit of the quantity. Which queries a meter
has, and what its channels are, devices.toml says; the defaults are the standard's.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import ConfigError
from harness.instruments.base import Context, InstrumentKind, find_channel
from harness.instruments.options import KIND_NAMES, make_channel, parse_common, parse_uncertainty
from harness.instruments.polling import Poller
from harness.instruments.visa import VisaLine, parse_scpi_number
from harness.model import Capture, Channel, ChannelKind, InstrumentSpec, Reading
from harness.toml_schema import Section

DEFAULT_LIBRARY = "@py"
DEFAULT_RATE_HZ = 10.0  # chosen: a bench meter's MEASure takes some 20 to 100 ms
QUERIES = {
    ChannelKind.POWER_W: "MEAS:POW?",
    ChannelKind.VOLTAGE_V: "MEAS:VOLT?",
    ChannelKind.CURRENT_A: "MEAS:CURR?",
    ChannelKind.TEMP_C: "MEAS:TEMP?",
    ChannelKind.FREQ_HZ: "MEAS:FREQ?",
}


def parse_line(section: Section) -> dict[str, Any]:
    """Return `address`, `library` and `idn`: how to reach a VISA resource and what it must call itself."""
    return {
        "address": section.text("address", required=True) or "",
        "library": section.text("visa_library") or DEFAULT_LIBRARY,
        "idn": section.text("idn"),
    }


def open_line(spec: InstrumentSpec) -> VisaLine:
    """Return an open line to what answers at `address`, its identity checked; close it.

    Raises ConfigError where `*IDN?` (IEEE 488.2) doesn't fit `idn`, as "KEYSIGHT*E36312A*"; TransientError
    where nothing answers.
    """
    options = spec.options
    where, timeout_s = spec.where or spec.name, float(options["timeout_s"])
    line = VisaLine(options["address"], library=options["library"], timeout_s=timeout_s, where=where)
    try:
        line.open()
        _check_identity(line, options["idn"])
    except BaseException:
        line.close()
        raise
    return line


def _check_identity(line: VisaLine, pattern: str | None) -> None:
    if pattern is None:
        return
    told = line.query("*IDN?").strip()
    if not fnmatch.fnmatchcase(told.lower(), pattern.lower()):
        raise ConfigError(
            f"calls itself {told!r}, expected {pattern!r}.",
            where=line.where,
            next_step="Check `address`, or correct `idn`.",
        )


def _parse(section: Section) -> Mapping[str, Any]:
    options = {**parse_line(section), **parse_common(section, rate_hz=DEFAULT_RATE_HZ, boundary="rail")}
    channels = []
    for name, table in section.tables("channels"):
        channels.append(_parse_channel(name, table))
    if not channels and isinstance(section.data.get("channels", {}), dict):
        section.problem("channels", "is missing; expected a table for each channel, with its `kind`")
    return {**options, "channels": tuple(channels)}


def _parse_channel(name: str, table: Section) -> dict[str, Any]:
    kind = table.text("kind", required=True, choices=KIND_NAMES)
    query = table.text("query")
    if kind is not None and query is None and ChannelKind(kind) not in QUERIES:
        table.problem("query", f"is missing; SCPI has none of its own for {kind}")
    found: dict[str, Any] = {"id": name, "kind": kind, "query": query, "site": table.text("site") or name}
    found["scale"] = table.quantity("scale", "1")
    found.update(parse_uncertainty(table))
    table.finish()
    return found


class ScpiMeter:
    """A meter whose channels are queries. Opened at once, so that a wrong address shows before a run."""

    def __init__(self, spec: InstrumentSpec, context: Context) -> None:
        options = spec.options
        self.name = spec.name
        self._queries: dict[str, tuple[str, float]] = {}
        channels = []
        for entry in options["channels"]:
            kind = ChannelKind(entry["kind"])
            query = entry["query"] or QUERIES[kind]
            source = f"{options['address']} {query}"
            boundary = options["boundary"] if kind in (ChannelKind.POWER_W, ChannelKind.CURRENT_A) else ""
            merged = {**options, **entry, "boundary": boundary}
            channels.append(make_channel(merged, entry["id"], entry["site"], kind, source))
            self._queries[entry["id"]] = query, entry["scale"] or 1.0
        self._channels = tuple(channels)
        self._poller = Poller(
            self.name,
            self._read_now,
            clock_ns=context.clock_ns,
            timeout_s=float(options["timeout_s"]),
            stale_s=options["stale_after_s"],
        )
        self._line = open_line(spec)

    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    def _read_now(self, channels: Sequence[Channel]) -> Sequence[float]:
        values = []
        for channel in channels:
            query, scale = self._queries[channel.id]
            values.append(parse_scpi_number(self._line.query(query), self._line.where, query) * scale)
        return values

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        self._poller.start(self._channels, channel_ids, rate_hz)

    def stop(self) -> tuple[Capture, ...]:
        return self._poller.stop()

    def read(self, channel_id: str) -> Reading:
        return self._poller.read(find_channel(self.name, self._channels, channel_id))

    def close(self) -> None:
        try:
            self._poller.close()
        finally:
            self._line.close()


KIND = InstrumentKind(parse=_parse, open=ScpiMeter)
