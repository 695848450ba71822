"""The device's own channels: what there is, one reading now, and a sampler that runs there by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import WireError
from harness.model import Capture, Channel, ChannelKind, Fidelity, Health, Mode, Reading
from harness.remote.child import unpack
from harness.remote.requests import Reply

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# of the emulated board: its firmware says what stands behind the chips
BOARD_MODEL = "board model"
# what no sensor of a board's own reads in between (chosen: wider than any part's rated range)
_RANGES = {
    ChannelKind.TEMP_C: (-60.0, 200.0),
    ChannelKind.POWER_W: (-0.5, 2000.0),
    ChannelKind.FREQ_HZ: (0.0, 1e11),
    ChannelKind.LOAD_RATIO: (0.0, 1.0),
}
# a place where this many periods passed without a reading
GAP_PERIODS = 2.5
# the sampler ends by itself after this long; nobody came for it (chosen: beyond any window)
MAX_SAMPLES = 1_000_000


class Agent(Protocol):
    """What is needed of the client."""

    def request(
        self, op: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Reply: ...


@dataclass(frozen=True)
class SamplerReport:
    """How well a sampler kept its rate, and what it cost."""

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
    """The channels a device shows of itself, as an instrument. Close it.

    `emulated`: what it reads stands on a board model, whose numbers are estimates.
    """

    def __init__(self, agent: Agent, *, where: str, emulated: bool = False, cpus: Sequence[int] = ()) -> None:
        self._agent = agent
        self._where = where
        self._emulated = emulated
        self._cpus = tuple(cpus)
        self._channels: tuple[Channel, ...] | None = None
        self.silent: dict[str, str] = {}  # why sensors that are there don't answer, by id
        self._running: tuple[str, ...] = ()
        self.name = "device"
        self.report: SamplerReport | None = None  # of the last `stop`

    def channels(self) -> tuple[Channel, ...]:
        """Return what the device shows, looked up once."""
        if self._channels is None:
            told = self._agent.request("channels").args
            self._channels = tuple(self._channel(entry) for entry in told["channels"])
            self.silent = {str(id_): str(why) for id_, why in told["silent"].items()}
        return self._channels

    def _channel(self, entry: Mapping[str, Any]) -> Channel:
        try:
            kind = ChannelKind(entry["kind"])
            rate_hz = entry.get("rate_hz")
            return Channel(
                id=str(entry["id"]),
                site=str(entry["site"]),
                kind=kind,
                mode=Mode.CONTINUOUS,
                rate_hz=None if rate_hz is None else float(rate_hz),
                uncertainty_ratio=entry.get("uncertainty_ratio"),
                uncertainty_abs=entry.get("uncertainty_abs"),
                boundary=BOARD_MODEL if self._emulated else str(entry.get("boundary") or ""),
                clock="device",
                fidelity=Fidelity.ESTIMATED if self._emulated else Fidelity.MEASURED,
                source=str(entry.get("source", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(
                f"a channel that isn't one: {dict(entry)!r} ({error}).", where=self._where
            ) from error

    def read(self, channel_id: str) -> Reading:
        """Return one reading taken now; NaN where it failed."""
        return self.read_all([channel_id])[0]

    def read_all(self, channel_ids: Sequence[str]) -> list[Reading]:
        """Return one reading of each, in their order; NaN where one failed."""
        told = self._agent.request("sampler_read", {"channels": list(channel_ids)}).args["readings"]
        return [
            Reading(int(r["t_ns"]), float("nan") if r["value"] is None else float(r["value"])) for r in told
        ]

    def start(self, channel_ids: Sequence[str], rate_hz: float) -> None:
        """Start sampling on the device. Nothing travels until `stop`."""
        most = min(MAX_SAMPLES, (128 << 20) // (16 * max(1, len(channel_ids))))
        args = {
            "channels": list(channel_ids),
            "rate_hz": rate_hz,
            "max_samples": most,
            "cpus": list(self._cpus),
        }
        self._agent.request("sampler_start", args)
        self._running = tuple(channel_ids)

    def stop(self) -> tuple[Capture, ...]:
        """Return what was sampled since `start`, one capture a channel, on the device's clock."""
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
        known = {c.id: c for c in self.channels()}
        captures = []
        for i, id_ in enumerate(ids):
            t_ns, values = arrays[f"t_ns_{i}"], arrays[f"value_{i}"]
            errors = tuple(f"{why} ({n} times)" for why, n in args["errors"][i].items())
            health = check_health(known[id_].kind, t_ns, values, float(args["rate_asked_hz"]), errors)
            captures.append(Capture(known[id_], t_ns, values, health))
        return tuple(captures)

    def close(self) -> None:
        """End a sampler that still runs."""
        if self._running:
            self._running = ()
            self._agent.request("sampler_stop")


def check_health(
    kind: ChannelKind,
    t_ns: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    rate_hz: float,
    errors: tuple[str, ...] = (),
) -> Health:
    """Return what became of samples that were asked for at `rate_hz`. A late reading is no missing one."""
    import numpy as np

    steps = np.diff(t_ns)
    good = np.isfinite(values)
    period_ns = 1e9 / rate_hz
    expected = round(float(t_ns[-1] - t_ns[0]) / period_ns) + 1 if t_ns.size else None
    low, high = _RANGES.get(kind, (-np.inf, np.inf))
    outside = good & ((values < low) | (values > high))
    rollbacks = int((steps < 0).sum())
    if kind is ChannelKind.ENERGY_J:
        rollbacks += int((np.diff(values[good]) < 0).sum())
    return Health(
        expected=expected,
        got=int(good.sum()),
        gaps=int((steps > GAP_PERIODS * period_ns).sum()),
        out_of_range=int(outside.sum()),
        rollbacks=rollbacks,
        errors=errors,
    )
