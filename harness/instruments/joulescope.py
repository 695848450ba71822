"""Joulescope JS110 and JS220 through their maker's driver (the optional extra `joulescope`).

Interface: pyjoulescope_driver 2.2, its `record` and `entry_points/record`: topics `s/p/ctrl` and
`s/p/!data` (power; `v` and `i` likewise) under the device's path, `h/fs` for the rate. A message holds
`sample_id` of its first sample (counted at the full rate), `sample_rate`, `decimate_factor`, `utc` of that
sample and `data` (float32). `utc` is the driver's time64: seconds since 2018-01-01 times 2^30, by this
host's clock.

Not tried on the instrument itself: its tests script the driver.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigError, ConnectionLost, DeadlineExceeded, HostSetupError
from harness.instruments.base import (
    Context,
    InstrumentKind,
    already_started,
    check_rate,
    find_channel,
    not_started,
)
from harness.instruments.health import compute_health
from harness.instruments.options import make_channel, parse_common, parse_uncertainty
from harness.model import Capture, Channel, ChannelKind, InstrumentSpec, Mode, Reading
from harness.toml_schema import Section

# JS220 User's Guide: the host decimates 1 MHz to these
RATES_HZ = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
DEFAULT_RATE_HZ = 1e6
SIGNALS = {ChannelKind.POWER_W: "p", ChannelKind.VOLTAGE_V: "v", ChannelKind.CURRENT_A: "i"}
_EPOCH_NS = 1_514_764_800 * 10**9  # of time64, 2018-01-01, since 1970


def time64_ns(time64: int) -> int:
    """Return nanoseconds since 1970 of a time64 (Q34.30 seconds since 2018)."""
    return (time64 * 10**9 >> 30) + _EPOCH_NS


def choose_rate_hz(rate_hz: float) -> int:
    """Return the lowest rate of the instrument that is at least `rate_hz`."""
    return next((rate for rate in RATES_HZ if rate >= rate_hz), RATES_HZ[-1])


@dataclass(frozen=True)
class Piece:
    """One message of a stream: samples from `first` on, counted at `rate_hz`."""

    first: int
    rate_hz: float
    utc_ns: int
    values: npt.NDArray[np.float64]


def parse_piece(message: Mapping[str, Any]) -> Piece:
    """Return a message as samples counted at the rate that they have."""
    factor = int(message["decimate_factor"])
    return Piece(
        first=int(message["sample_id"]) // factor,
        rate_hz=float(message["sample_rate"]) / factor,
        utc_ns=time64_ns(int(message["utc"])),
        values=np.asarray(message["data"], np.float64),
    )


def join_pieces(pieces: Sequence[Piece]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return times in ns and values (n,): by the meter's own count, from the first piece's time on.

    A piece that got lost leaves its place in time empty.
    """
    if not pieces:
        return np.array([], np.int64), np.array([], np.float64)
    start = pieces[0]
    counts = np.concatenate([p.first - start.first + np.arange(p.values.size) for p in pieces])
    t_ns = start.utc_ns + np.rint(counts * (1e9 / start.rate_hz)).astype(np.int64)
    return t_ns, np.concatenate([p.values for p in pieces])


def _parse(section: Section) -> Mapping[str, Any]:
    return {
        "serial": section.text("serial"),
        **parse_common(section, rate_hz=DEFAULT_RATE_HZ, boundary="rail"),
        **parse_uncertainty(section),
    }


class Joulescope:
    """The one that is connected, or the one whose path ends in `serial`. Opened at once."""

    def __init__(self, spec: InstrumentSpec, context: Context) -> None:
        self.name = spec.name
        self._where = spec.where or spec.name
        self._timeout_s = float(spec.options["timeout_s"])
        self._stale_s = spec.options["stale_after_s"]
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._pieces: dict[str, list[Piece]] = {}
        self._running: tuple[tuple[Channel, ...], int] | None = None
        self._driver: Any = _load_driver()
        try:
            self._path = self._find(spec.options["serial"])
            self._call("open", self._path)
            self._call("publish", f"{self._path}/s/i/range/mode", "auto")
        except BaseException:
            self.close()
            raise
        self._channels = tuple(
            make_channel(
                {
                    **spec.options,
                    "boundary": "" if kind is ChannelKind.VOLTAGE_V else spec.options["boundary"],
                },
                kind.value,
                self.name,
                kind,
                self._path,
                mode=Mode.CONTINUOUS,
                clock="meter",
            )
            for kind in SIGNALS
        )

    def _call(self, name: str, *args: Any) -> Any:
        """Call the driver. Raises ConnectionLost where it fails: it raises RuntimeError and TimeoutError."""
        try:
            return getattr(self._driver, name)(*args)
        except (RuntimeError, OSError, ValueError) as error:
            raise ConnectionLost(
                f"{name} failed: {error}.", where=self._where, next_step="Check its cable."
            ) from error

    def _find(self, serial: str | None) -> str:
        paths = [str(path) for path in self._call("device_paths")]
        fits = [path for path in paths if serial is None or path.rsplit("/", 1)[-1] == serial]
        if len(fits) == 1:
            return fits[0]
        there = ", ".join(paths) or "none"
        if serial is None and paths:
            raise ConfigError(
                f"{len(paths)} are connected; name one by `serial`: {there}.", where=self._where
            )
        asked = f"no Joulescope {serial}" if serial else "no Joulescope"
        raise ConnectionLost(
            f"{asked} is connected; there are: {there}.", where=self._where, next_step="Check its cable."
        )

    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    def _on_data(self, topic: str, message: Mapping[str, Any]) -> None:
        piece = parse_piece(message)
        with self._lock:
            self._pieces.setdefault(topic, []).append(piece)
        if piece.values.size:
            self._arrived.set()

    def _topic(self, channel: Channel, what: str) -> str:
        return f"{self._path}/s/{SIGNALS[channel.kind]}/{what}"

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        """Begin to stream at the lowest of the instrument's rates that is at least `rate_hz`."""
        if self._running is not None:
            raise already_started(self.name)
        chosen = tuple(find_channel(self.name, self._channels, id_) for id_ in channel_ids)
        for channel in chosen:
            check_rate(self.name, channel, rate_hz)
        own_hz = choose_rate_hz(rate_hz)
        self._pieces = {}
        self._arrived.clear()
        self._running = chosen, own_hz
        self._call("publish", f"{self._path}/h/fs", own_hz)
        for channel in chosen:
            self._call("subscribe", self._topic(channel, "!data"), "pub", self._on_data)
            self._call("publish", self._topic(channel, "ctrl"), 1)

    def stop(self) -> tuple[Capture, ...]:
        if self._running is None:
            raise not_started(self.name)
        (chosen, own_hz), self._running = self._running, None
        errors = self._end(chosen)
        captures = []
        with self._lock:
            pieces, self._pieces = self._pieces, {}
        for channel in chosen:
            t_ns, values = join_pieces(pieces.get(self._topic(channel, "!data"), ()))
            health = compute_health(
                channel, t_ns, values, rate_hz=own_hz, stale_s=self._stale_s, errors=errors
            )
            captures.append(Capture(channel, t_ns, values, health))
        return tuple(captures)

    def _end(self, channels: Sequence[Channel]) -> tuple[str, ...]:
        """End the streams; return what went wrong, for the captures' health: what came before still
        counts."""
        errors = []
        for channel in channels:
            try:
                self._call("publish", self._topic(channel, "ctrl"), 0)
                self._call("unsubscribe", self._topic(channel, "!data"), self._on_data)
            except ConnectionLost as error:
                errors.append(str(error))
        return tuple(dict.fromkeys(errors))

    def read(self, channel_id: str) -> Reading:
        """Return the first sample of a short stream."""
        channel = find_channel(self.name, self._channels, channel_id)
        if self._running is not None:
            raise already_started(self.name)
        self.start([channel_id], RATES_HZ[0])
        came = self._arrived.wait(self._timeout_s)
        (capture,) = self.stop()
        good = np.flatnonzero(np.isfinite(capture.values))
        if not came or good.size == 0:
            raise DeadlineExceeded(
                f"no sample of `{channel.id}` within {self._timeout_s:g} s (timeout_s).",
                where=self._where,
                next_step="Check its cable, and that no other program uses it.",
            )
        return Reading(int(capture.t_ns[good[0]]), float(capture.values[good[0]]))

    def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        if self._running is not None:
            (chosen, _), self._running = self._running, None
            self._driver = driver
            self._end(chosen)
            self._driver = None
        driver.finalize()


def _load_driver() -> Any:
    try:
        from pyjoulescope_driver import Driver
    except ImportError:
        raise HostSetupError(
            "pyjoulescope_driver is not installed.", next_step="Run: pip install 'hil-harness[joulescope]'."
        ) from None
    return Driver()


KIND = InstrumentKind(parse=_parse, open=Joulescope)
