"""Two children that take turns on the device (docs/agent-protocol.md, op `duet`), and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import WireError
from harness.remote.child import ANSWER_GRACE_S, Agent, Child, unpack
from harness.remote.requests import Reply

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class DuetArm:
    """One child's part: `calls` timed calls in each of `pairs_got` blocks, in order.

    `latency_ns`, `start_ns` (int64) and `block` (int32, the pair each sample belongs to) have shape
    (pairs_got * calls,). `instructions`, int64 of shape (pairs_got,), are user-space instructions of all
    `calls` of a block; None where the kernel gives none, and `not_counted` says why.
    """

    child: str
    latency_ns: npt.NDArray[np.int64] = field(repr=False)
    start_ns: npt.NDArray[np.int64] = field(repr=False)
    block: npt.NDArray[np.int32] = field(repr=False)
    instructions: npt.NDArray[np.int64] | None = field(repr=False)
    not_counted: str | None
    calls: int
    warmup_iterations: int
    warmup_flat: bool
    warmup_median_ns: int
    turns_ns: int  # how long its turns lasted, the dropped calls included
    usage: Mapping[str, int]  # getrusage from the end of its warm-up to the duet's
    clock_check: Mapping[str, int]  # ns each clock went meanwhile: monotonic, raw, realtime


@dataclass(frozen=True)
class DuetBlocks:
    """A whole duet. `order` (uint8, one per pair) says which arm went first."""

    arms: tuple[DuetArm, DuetArm]
    order: npt.NDArray[np.uint8] = field(repr=False)
    pairs_requested: int
    pairs_got: int
    ended_by: str  # "pairs" | "max_duration" | "capacity"
    seed: int
    clock: str
    elapsed_ns: int  # from the first turn to the end of the last, warm-up excluded


def run_duet(
    agent: Agent,
    children: Sequence[Child],
    *,
    pairs: int,
    seed: int,
    block_ns: int = 20_000_000,
    block_calls: int = 4,
    drop: int = 1,
    settle_ns: int = 0,
    warmup_max: int = 100,
    max_duration_ns: int | None = None,
    timeout_s: float,
) -> DuetBlocks:
    """Let two loaded children on one device take turns; return their samples.

    A block is `block_ns` of calls by the arm's own warm-up, at least `block_calls`; `drop` calls before it
    are left out. Ends after `pairs`, or with the pair in which `max_duration_ns` passes (device time from the
    first turn on; two pairs at least). Raises ConfigError for a busy child or the same one twice, Unsupported
    for a command that times itself, ModelRejected and AgentError with the name of the child that failed.
    """
    args: dict[str, Any] = {
        "children": [child.name for child in children],
        "pairs": pairs,
        "seed": seed,
        "block_ns": block_ns,
        "block_calls": block_calls,
        "drop": drop,
        "settle_ns": settle_ns,
        "warmup_max": warmup_max,
        "deadline_s": timeout_s,
    }
    if max_duration_ns is not None:
        args["max_duration_ns"] = max_duration_ns
    return parse_duet(agent.submit("duet", args, timeout_s=timeout_s + ANSWER_GRACE_S).wait())


def parse_duet(reply: Reply) -> DuetBlocks:
    """Return the reply to `duet`. Raises WireError where counts and arrays disagree."""
    args, arrays = reply.args, unpack(reply)
    arms = tuple(_arm(arrays, report, number) for number, report in enumerate(args["arms"]))
    pairs_got = int(args["pairs_got"])
    whole = len(arms) == 2 and len(arrays["order"]) == pairs_got
    if not whole or any(len(arm.latency_ns) != pairs_got * arm.calls for arm in arms):
        raise WireError(f"a duet of {pairs_got} pairs came with arrays of other lengths.")
    return DuetBlocks(
        arms=(arms[0], arms[1]),
        order=arrays["order"],
        pairs_requested=int(args["pairs_requested"]),
        pairs_got=pairs_got,
        ended_by=str(args["ended_by"]),
        seed=int(args["seed"]),
        clock=str(args["arms"][0]["clock"]),
        elapsed_ns=int(args["elapsed_ns"]),
    )


def _arm(arrays: Mapping[str, Any], report: Mapping[str, Any], number: int) -> DuetArm:
    return DuetArm(
        child=str(report["child"]),
        latency_ns=arrays[f"latency_ns_{number}"],
        start_ns=arrays[f"start_ns_{number}"],
        block=arrays[f"block_{number}"],
        instructions=arrays.get(f"instructions_{number}"),
        not_counted=report.get("not_counted"),
        calls=int(report["calls"]),
        warmup_iterations=int(report["warmup_iterations"]),
        warmup_flat=bool(report["warmup_flat"]),
        warmup_median_ns=int(report["warmup_median_ns"]),
        turns_ns=int(report["turns_ns"]),
        usage=report["usage"],
        clock_check=report["clock_check"],
    )
