"""The device's own channels: what there is, one reading now, and a sampler that runs there by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from harness.errors import DataError, HarnessError, WireError
from harness.instruments.base import already_started, check_rate, find_channel, not_started
from harness.instruments.health import compute_health
from harness.model import Capture, Channel, ChannelKind, Fidelity, Mode, Reading
from harness.remote.child import unpack
from harness.remote.requests import Reply

# of the emulated board: its firmware says what stands behind the chips
BOARD_MODEL = "board model"
# the sampler ends by itself after so many readings: nobody came for them (chosen: beyond any window)
_MAX_SAMPLES = 1_000_000
_MAX_BYTES = 128 << 20  # half of what a message holds


class Agent(Protocol):
    """What is needed of the client."""

    def request(
        self, op: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Reply: ...


@dataclass(frozen=True)
class SamplerReport:
    """How well a sampler kept its rate, and what it cost the device."""

    rate_asked_hz: float
    rate_got_hz: float | None
    jitter_p99_ns: int | None
    samples: int
    missed: int
    cpu_ns: int
    elapsed_ns: int

    @property
    def cpu_ratio(self) -> float | None:
        """Return the share of one core that it used."""
        return self.cpu_ns / self.elapsed_ns if self.elapsed_ns > 0 else None


class DeviceSampler:
    """The channels that a device shows of itself, as an instrument on its CLOCK_MONOTONIC. Close it.

    `report` is that of the last `stop`, `silent` says by id why sensors that are there don't answer. `i2c`
    declares chips without a driver, `cpus` are those that the sampler may use (none: all). `emulated`: what
    it reads stands on a board model, whose numbers are estimates.
    """

    name = "device"

    def __init__(
        self,
        agent: Agent,
        *,
        where: str,
        emulated: bool = False,
        i2c: Sequence[Mapping[str, Any]] = (),
        cpus: Sequence[int] = (),
    ) -> None:
        self._agent = agent
        self._where = where
        self._emulated = emulated
        self._i2c = [dict(chip) for chip in i2c]
        self._cpus = list(cpus)
        self._channels: tuple[Channel, ...] | None = None
        self._running: tuple[str, ...] = ()
        self.report: SamplerReport | None = None
        self.silent: dict[str, str] = {}

    def channels(self) -> tuple[Channel, ...]:
        """Return what the device shows, looked up once."""
        if self._channels is None:
            told = self._agent.request("channels", {"i2c": self._i2c} if self._i2c else None).args
            self.silent = {str(id_): str(why) for id_, why in told["silent"].items()}
            self._channels = tuple(self._channel(entry) for entry in told["channels"])
        return self._channels

    def _channel(self, entry: Mapping[str, Any]) -> Channel:
        try:
            rate_hz = entry["rate_hz"]
            return Channel(
                id=str(entry["id"]),
                site=str(entry["site"]),
                kind=ChannelKind(entry["kind"]),
                mode=Mode.CONTINUOUS,
                rate_hz=None if rate_hz is None else float(rate_hz),
                uncertainty_ratio=entry["uncertainty_ratio"],
                uncertainty_abs=entry["uncertainty_abs"],
                boundary=BOARD_MODEL if self._emulated else str(entry["boundary"]),
                clock="device",
                fidelity=Fidelity.ESTIMATED if self._emulated else Fidelity.MEASURED,
                source=str(entry["source"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"a channel that is none: {dict(entry)!r} ({error})."
            raise WireError(what, where=self._where) from error

    def read(self, channel_id: str) -> Reading:
        """Return one reading taken now. Raises DataError where it failed."""
        find_channel(self.name, self.channels(), channel_id)
        (told,) = self._read([channel_id])
        if told["value"] is None:
            raise DataError(f"`{channel_id}` can't be read: {told['error']}.", where=self._where)
        return Reading(int(told["t_ns"]), float(told["value"]))

    def read_all(self, channel_ids: Sequence[str]) -> list[Reading]:
        """Return one reading of each, in their order; NaN where one failed."""
        nan = float("nan")
        told = self._read(channel_ids)
        return [Reading(int(r["t_ns"]), nan if r["value"] is None else float(r["value"])) for r in told]

    def _read(self, channel_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        return list(self._agent.request("sampler_read", {"channels": list(channel_ids)}).args["readings"])

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        """Start sampling on the device. Nothing travels until `stop`."""
        if self._running:
            raise already_started(self.name)
        for id_ in channel_ids:
            check_rate(self.name, find_channel(self.name, self.channels(), id_), rate_hz)
        most = min(_MAX_SAMPLES, _MAX_BYTES // (16 * max(1, len(channel_ids))))
        args: dict[str, Any] = {"channels": list(channel_ids), "rate_hz": rate_hz, "max_samples": most}
        self._agent.request("sampler_start", {**args, "cpus": self._cpus})
        self._running = tuple(channel_ids)

    def stop(self) -> tuple[Capture, ...]:
        """Return what was sampled, one capture a channel. Raises AgentError where the sampler has died."""
        if not self._running:
            raise not_started(self.name)
        ids, self._running = self._running, ()
        reply = self._agent.request("sampler_stop")
        arrays, args = unpack(reply), reply.args
        report = self.report = SamplerReport(**{f.name: args[f.name] for f in fields(SamplerReport)})
        known = {channel.id: channel for channel in self.channels()}
        ended = ("it was full and ended early",) if args["full"] else ()
        captures = []
        for i, id_ in enumerate(ids):
            t_ns, values = arrays[f"t_ns_{i}"], arrays[f"value_{i}"]
            errors = (*ended, *(f"{why} ({n} times)" for why, n in args["errors"][i].items()))
            health = compute_health(known[id_], t_ns, values, rate_hz=report.rate_asked_hz, errors=errors)
            captures.append(Capture(known[id_], t_ns, values, health))
        return tuple(captures)

    def close(self) -> None:
        """End a sampler that still runs. Safe to call twice, and after the agent has ended."""
        if self._running:
            self._running = ()
            # the agent is gone or going: then its sampler is too, and the first error is told already
            with contextlib.suppress(HarnessError):
                self._agent.request("sampler_stop")
