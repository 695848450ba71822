"""The device's own channels: what there is, one reading now, and a sampler that runs there by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.errors import WireError
from harness.instruments.base import Sampled
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


class AgentSampler:
    """The agent's sampler, on the device's CLOCK_MONOTONIC. Close it.

    `report` is that of the last `stop`, `silent` says by id why sensors that are there don't answer. `cpus`
    are those that the process may use (none: all).
    """

    def __init__(
        self, agent: Agent, *, i2c: Sequence[Mapping[str, Any]] = (), cpus: Sequence[int] = ()
    ) -> None:
        self._agent = agent
        self._i2c = [dict(chip) for chip in i2c]
        self._cpus = list(cpus)
        self._running: tuple[str, ...] = ()
        self.report: SamplerReport | None = None
        self.silent: dict[str, str] = {}

    def channels(self) -> Sequence[Mapping[str, Any]]:
        """Return what the agent tells of each sensor that answers now."""
        told = self._agent.request("channels", {"i2c": self._i2c} if self._i2c else None).args
        self.silent = {str(id_): str(why) for id_, why in told["silent"].items()}
        return list(told["channels"])

    def read(self, channel_id: str) -> Reading:
        """Return one reading taken now; NaN where it failed."""
        return self.read_all([channel_id])[0]

    def read_all(self, channel_ids: Sequence[str]) -> list[Reading]:
        """Return one reading of each, in their order; NaN where one failed."""
        told = self._agent.request("sampler_read", {"channels": list(channel_ids)}).args["readings"]
        nan = float("nan")
        return [Reading(int(r["t_ns"]), nan if r["value"] is None else float(r["value"])) for r in told]

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        """Start sampling on the device. Nothing travels until `stop`. Raises Unsupported: no such id."""
        most = min(_MAX_SAMPLES, _MAX_BYTES // (16 * max(1, len(channel_ids))))
        args: dict[str, Any] = {"channels": list(channel_ids), "rate_hz": rate_hz, "max_samples": most}
        self._agent.request("sampler_start", {**args, "cpus": self._cpus})
        self._running = tuple(channel_ids)

    def stop(self) -> Sequence[Sampled]:
        """Return what was sampled since `start`, in the order asked. Raises AgentError where it has died."""
        ids, self._running = self._running, ()
        reply = self._agent.request("sampler_stop")
        arrays, args = unpack(reply), reply.args
        fields = (
            "rate_asked_hz",
            "rate_got_hz",
            "jitter_p99_ns",
            "samples",
            "missed",
            "cpu_ns",
            "elapsed_ns",
        )
        self.report = SamplerReport(**{name: args[name] for name in fields})
        ended = ("it was full and ended early",) if args["full"] else ()
        return [
            Sampled(
                id_,
                arrays[f"t_ns_{i}"],
                arrays[f"value_{i}"],
                (*ended, *(f"{why} ({n} times)" for why, n in args["errors"][i].items())),
            )
            for i, id_ in enumerate(ids)
        ]

    def close(self) -> None:
        """End a sampler that still runs."""
        if self._running:
            self._running = ()
            self._agent.request("sampler_stop")


class DeviceSampler:
    """The channels that a device shows of itself, as an instrument. Close it.

    `emulated`: what it reads stands on a board model, whose numbers are estimates.
    """

    name = "device"

    def __init__(self, sampler: AgentSampler, *, where: str, emulated: bool = False) -> None:
        self.sampler = sampler
        self._where = where
        self._emulated = emulated
        self._channels: tuple[Channel, ...] | None = None
        self._rate_hz = 0.0

    def channels(self) -> tuple[Channel, ...]:
        """Return what the device shows, looked up once."""
        if self._channels is None:
            self._channels = tuple(self._channel(entry) for entry in self.sampler.channels())
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
        return self.sampler.read(channel_id)

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        self.sampler.start(channel_ids, rate_hz)
        self._rate_hz = rate_hz

    def stop(self) -> tuple[Capture, ...]:
        """Return one capture a channel, on the device's clock."""
        known = {c.id: c for c in self.channels()}
        captures = []
        for seen in self.sampler.stop():
            channel = known[seen.channel_id]
            health = compute_health(
                channel, seen.t_ns, seen.values, rate_hz=self._rate_hz, errors=seen.errors
            )
            captures.append(Capture(channel, seen.t_ns, seen.values, health))
        return tuple(captures)

    def close(self) -> None:
        self.sampler.close()
