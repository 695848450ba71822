"""The ops `soak_*` of docs/soak-format.md, typed. What a soak's records mean is harness/soak's job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.errors import WireError
from harness.remote.requests import Reply

STOP_GRACE_S = 15.0  # beyond the deadline that the device was given


class Requests(Protocol):
    """What this needs of AgentClient."""

    def request(
        self, op: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Reply: ...


@dataclass(frozen=True)
class SoakStatus:
    """How a soak stands on its device.

    `seq` is the last fsynced record; `beat_age_ns` is None in another boot than the runner's last;
    `segments` maps their numbers to sizes in bytes; `collector` is empty before the first claim.
    """

    id: str
    state: str  # "running", "ended", "dead", "unknown"
    pid: int | None
    boot_id: str | None
    life: int
    seq: int
    t_ns: int
    duration_ns: int
    beat_age_ns: int | None
    segments: Mapping[int, int]
    collector: Mapping[str, Any]
    spool_bytes: int
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False)  # as it came


@dataclass(frozen=True)
class SoakPiece:
    """Whole lines of a segment. `size_bytes` is where its whole lines end now, `last` the newest segment."""

    data: bytes
    size_bytes: int
    last: int


class SoakClient:
    """Soaks on the device behind an open agent. Raises as `AgentClient.request` does.

    That is DeviceBusy where another collects a soak, FencedError where another has taken it over.
    """

    def __init__(self, agent: Requests) -> None:
        self._agent = agent

    def start(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """Start a soak; return its `pid` and `boot_hook`. Harmless when it was started by the same spec."""
        return self._agent.request("soak_start", {"spec": dict(spec)}).args

    def resume(self, soak_id: str) -> bool:
        """Start the runner again if none lives and the soak hasn't ended; return whether one was started."""
        return bool(self._agent.request("soak_resume", {"id": soak_id}).args["started"])

    def list(self) -> tuple[SoakStatus, ...]:
        """Return the soaks on the device by id, oldest first."""
        found = self._agent.request("soak_list").args["soaks"]
        return tuple(sorted((parse_status(entry) for entry in found), key=lambda status: status.id))

    def status(self, soak_id: str) -> SoakStatus:
        return parse_status(self._agent.request("soak_status", {"id": soak_id}).args)

    def spec(self, soak_id: str) -> dict[str, Any]:
        return dict(self._agent.request("soak_spec", {"id": soak_id}).args["spec"])

    def claim(self, soak_id: str, holder: str, *, take_over: bool = False, lease_s: float = 120.0) -> int:
        """Return a token that fences out every collector before."""
        args = {"id": soak_id, "holder": holder, "take_over": take_over, "lease_s": lease_s}
        return int(self._agent.request("soak_claim", args).args["token"])

    def read(self, soak_id: str, token: int, segment: int, offset: int, max_bytes: int) -> SoakPiece:
        """Return what a segment has from `offset` on, whole lines only."""
        args = {"id": soak_id, "token": token, "segment": segment, "offset": offset, "max_bytes": max_bytes}
        reply = self._agent.request("soak_read", args)
        try:
            return SoakPiece(reply.payload, int(reply.args["size_bytes"]), int(reply.args["last"]))
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(
                f"the answer to `soak_read` isn't as docs/soak-format.md says: {error}."
            ) from error

    def ack(self, soak_id: str, token: int, segment: int) -> None:
        """Let the device remove this segment and those before, when it needs room."""
        self._agent.request("soak_ack", {"id": soak_id, "token": token, "segment": segment})

    def stop(self, soak_id: str, token: int, reason: str, *, deadline_s: float = 30.0) -> bool:
        """End a soak after its slice; return whether its runner had ended by the deadline."""
        args = {"id": soak_id, "token": token, "reason": reason, "deadline_s": deadline_s}
        timeout_s = deadline_s + STOP_GRACE_S
        return bool(self._agent.request("soak_stop", args, timeout_s=timeout_s).args["ended"])

    def remove(self, soak_id: str, token: int) -> None:
        """Remove an ended soak and its boot hook from the device."""
        self._agent.request("soak_remove", {"id": soak_id, "token": token})


def parse_status(args: Mapping[str, Any]) -> SoakStatus:
    """Return the answer to `soak_status`. Raises WireError where it lacks something."""
    try:
        return SoakStatus(
            id=str(args["id"]),
            state=str(args["state"]),
            pid=args["pid"],
            boot_id=args["boot_id"],
            life=int(args["life"] or 0),
            seq=int(args["seq"] or 0),
            t_ns=int(args["t_ns"] or 0),
            duration_ns=int(args["duration_ns"] or 0),
            beat_age_ns=args["beat_age_ns"],
            segments={int(s["number"]): int(s["size_bytes"]) for s in args["segments"]},
            collector=dict(args["collector"] or {}),
            spool_bytes=int(args["spool_bytes"] or 0),
            raw=dict(args),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"the answer to `soak_status` isn't as docs/soak-format.md says: {error}.") from error
