"""What a device's instruments read now, for `harness devices check`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness import instruments
from harness.board import Board
from harness.errors import HarnessError
from harness.instruments import onboard
from harness.instruments.base import Context, Instrument
from harness.model import ChannelKind, InstrumentSpec
from harness.remote.sampler import DeviceSampler
from harness.units import format_quantity


def describe_instruments(board: Board) -> Iterator[str]:
    """Yield a line for each channel of each instrument that the unit declares, with its reading.

    Raises HarnessError for the first that can't be opened or read.
    """
    device = board.device
    own = DeviceSampler(board.client, where=device.name, i2c=onboard.declared_chips(device.instruments))
    try:
        for spec in device.instruments:
            instrument = instruments.open_instrument(spec, Context(board=own))
            try:
                yield from _readings(spec, instrument)
            finally:
                instrument.close()
    finally:
        own.close()


def _shown(kind: ChannelKind, value: float) -> str:
    if kind is ChannelKind.THROTTLE_BITS:
        return f"{int(value):#x}"
    if kind is ChannelKind.FREQ_HZ:
        return f"{value / 1e6:.5g} MHz"
    return format_quantity(value, kind.unit)


def _readings(spec: InstrumentSpec, instrument: Instrument) -> Iterator[str]:
    for channel in instrument.channels():
        boundary = f", {channel.boundary}" if channel.boundary else ""
        try:
            shown = _shown(channel.kind, instrument.read(channel.id).value)
        except HarnessError:
            if spec.kind != "csv" or Path(spec.options["path"]).exists():
                raise
            shown = "its file is read after a run"  # nobody has written it yet
        yield f"  {spec.name}/{channel.id}: {shown} ({channel.kind}{boundary})"
