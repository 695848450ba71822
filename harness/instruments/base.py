"""What every instrument can do. A meter on the bench, a plug, a chamber and the board's own sensors obey
the same contract tests.

An instrument has channels: a site, and a kind with its unit. Values are in that unit from here on; a parser
that meets a foreign one converts it. A reading that failed is NaN in a capture and told in its health, or
raises; it is never 0. Everything that waits has a deadline.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.errors import ConfigError, DeviceError, Unsupported, nearest
from harness.model import Capture, Channel, ChannelKind, InstrumentSpec, Reading
from harness.toml_schema import Section


class Instrument(Protocol):
    """An open instrument. Close it."""

    @property
    def name(self) -> str:
        """Its name in devices.toml, for messages."""

    def channels(self) -> tuple[Channel, ...]:
        """Return what it can read, each id once. Raises TransientError or DeviceError where it has to
        look."""

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        """Begin to take samples of these channels, `rate_hz` of each, until `stop`.

        Raises Unsupported for a rate beyond what a channel gives, ConfigError for a channel that it hasn't
        (with those that it has), DeviceError when it is taking samples already.
        """

    def stop(self) -> tuple[Capture, ...]:
        """End taking samples; return a capture for each channel that was started, in that order.

        A meter that stopped half-way gives what there is, with the rest missing in its health. Raises
        DeviceError when nothing was started.
        """

    def read(self, channel_id: str) -> Reading:
        """Return one reading, taken now. Raises TransientError when no answer comes, DataError when the
        answer is no number, ConfigError for a channel that it hasn't."""

    def close(self) -> None:
        """Release it; what was started is ended. Safe to call twice."""


@dataclass(frozen=True)
class Context:
    """What an instrument may use of the world; tests put their own in."""

    board: Instrument | None = None  # the open device's own channels; None: no device is open
    clock_ns: Callable[[], int] = time.monotonic_ns  # the host's
    sleep: Callable[[float], None] = time.sleep
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)  # where secrets come from


@dataclass(frozen=True)
class InstrumentKind:
    """A row of the table of kinds.

    `parse` takes the instrument's table of devices.toml and returns its options, converted; it asks for
    each key by the section's getters, so that a typo is refused, and leaves `kind` and the end to the
    caller. `open` returns the instrument; it raises ConfigError (also HostSetupError for a package that
    isn't installed) or TransientError.
    """

    parse: Callable[[Section], Mapping[str, Any]]
    open: Callable[[InstrumentSpec, Context], Instrument]


def find_channel(instrument: str, channels: Sequence[Channel], channel_id: str) -> Channel:
    """Return the channel of this id. Raises ConfigError that lists those there are."""
    by_id = {channel.id: channel for channel in channels}
    if channel_id not in by_id:
        close = nearest(channel_id, by_id)
        there = "" if "valid:" in close else f" There are: {', '.join(sorted(by_id)) or 'none'}."
        raise ConfigError(f"no channel `{channel_id}`{close}.{there}", where=instrument)
    return by_id[channel_id]


def select_channels(
    instrument: str, channels: Sequence[Channel], kind: ChannelKind, site: str | None = None
) -> tuple[Channel, ...]:
    """Return the channels of this kind (and site). Raises Unsupported that lists what there is instead."""
    found = tuple(c for c in channels if c.kind is kind and site in (None, c.site))
    if found:
        return found
    there = ", ".join(f"{c.id} ({c.kind})" for c in channels) or "no channel at all"
    at = "" if site is None else f" at `{site}`"
    raise Unsupported(f"it has no channel of kind {kind}{at}; there are: {there}.", where=instrument)


def check_rate(instrument: str, channel: Channel, rate_hz: float) -> None:
    """Raise Unsupported where `channel` can't give `rate_hz`."""
    if not rate_hz > 0:
        raise ConfigError(f"expected a rate above 0 Hz, got {rate_hz:g}.", where=instrument)
    if channel.rate_hz is not None and rate_hz > channel.rate_hz * (1 + 1e-9):
        raise Unsupported(
            f"channel `{channel.id}` gives {channel.rate_hz:g} Hz, {rate_hz:g} Hz were asked for.",
            where=instrument,
            next_step="Ask for less, or raise its `rate` in devices.toml if the meter keeps it up.",
        )


def not_started(instrument: str) -> DeviceError:
    """Return the error of a `stop` without a `start`."""
    return DeviceError("it was asked to stop taking samples, and had not begun.", where=instrument)


def already_started(instrument: str) -> DeviceError:
    """Return the error of a second `start`."""
    return DeviceError("it is taking samples already.", where=instrument, next_step="Stop it first.")
