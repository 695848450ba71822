"""A measured process on the device, and what it sends back."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

from harness.agent import wire
from harness.errors import HarnessError, WireError
from harness.model import Signature, TensorSpec
from harness.remote.requests import Pending, Reply

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Arrays = Mapping[str, npt.NDArray[Any]]

ANSWER_GRACE_S = 10.0  # the device's own deadline comes first and says more


class Agent(Protocol):
    """What a child needs of the client."""

    def submit(
        self,
        op: str,
        args: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        *,
        timeout_s: float | None = None,
    ) -> Pending: ...


@dataclass(frozen=True)
class Loaded:
    """A model loaded in a child. `quantised`: it holds quantised integers; None: nobody can tell."""

    load_time_ns: int
    signature: Signature
    quantised: bool | None = None


@dataclass(frozen=True)
class FedInputs:
    n_samples: int
    sha256: str
    batch_size: int


@dataclass(frozen=True)
class MeasuredBlock:
    """Timed calls of one child, warm-up excluded. `latency_ns` and `start_ns` are int64 of shape (n,).

    `clock` names what they were read from. A command that only prints a summary leaves both arrays empty and
    fills `summary`; one that times itself leaves `start_ns` empty. `warmup_flat` is None where nobody looked.
    """

    latency_ns: npt.NDArray[np.int64] = field(repr=False)
    start_ns: npt.NDArray[np.int64] = field(repr=False)
    warmup_iterations: int
    warmup_flat: bool | None
    iterations_requested: int
    ended_by: str  # "iterations" | "max_duration" | "capacity"
    clock: str
    elapsed_ns: int | None = None
    clock_check: Mapping[str, int] = field(
        default_factory=dict
    )  # ns each clock went: monotonic, raw, realtime
    usage: Mapping[str, int] = field(default_factory=dict)  # getrusage over the block
    summary: Mapping[str, float] = field(default_factory=dict)
    calls_per_query: int = 1  # each sample is so many calls
    instructions: int | None = None  # in user space, over all timed calls; None: `not_counted` says why
    not_counted: str | None = None


@dataclass(frozen=True)
class PacedBlock:
    """Calls on a schedule, int64 clock readings of shape (n,): when due, begun and ended.

    A call is begun when it is due, or as soon as the one before has ended. `iterations_requested` is the
    length of the schedule.
    """

    due_ns: npt.NDArray[np.int64] = field(repr=False)
    start_ns: npt.NDArray[np.int64] = field(repr=False)
    end_ns: npt.NDArray[np.int64] = field(repr=False)
    warmup_iterations: int
    warmup_flat: bool
    iterations_requested: int
    ended_by: str  # "schedule" | "overload"
    clock: str
    elapsed_ns: int
    clock_check: Mapping[str, int]
    usage: Mapping[str, int]

    @property
    def latency_ns(self) -> npt.NDArray[np.int64]:
        """Return each call's end against when it was due: waiting for the ones before it counts."""
        return self.end_ns - self.due_ns


@dataclass(frozen=True)
class MemorySample:
    """A child's memory as its parent reads it from /proc. None: this kernel doesn't say."""

    vm_hwm_bytes: int
    vm_rss_bytes: int
    rss_bytes: int
    pss_bytes: int
    pss_file_bytes: int | None
    pss_anon_bytes: int | None
    private_clean_bytes: int | None
    private_dirty_bytes: int | None
    threads: int
    fds: int
    monotonic_ns: int  # when, on the device's clock
    cost_ns: int  # what taking it cost the parent
    swap_bytes: int | None = None
    model_pages_bytes: int | None = None  # of the model's own file, mapped and unchanged; 0: it isn't mapped
    cgroup_peak_bytes: int | None = None  # None also where it has no cgroup of its own
    cgroup_max_bytes: int | None = None


class Child:
    """A measured process on the device. Close it."""

    def __init__(self, agent: Agent, name: str, spawned: Mapping[str, Any], timeout_s: float) -> None:
        self._agent = agent
        self._timeout_s = timeout_s
        self._closed = False
        self.name = name
        self.pid = int(spawned["pid"])
        self.runtime_version = str(spawned["runtime_version"])
        self.import_time_ns = int(spawned["import_time_ns"])

    def submit(
        self, op: str, args: Mapping[str, Any], payload: bytes = b"", *, timeout_s: float | None = None
    ) -> Pending:
        """Send an op of the child without waiting, so that several children can work at once."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        outer = {"child": self.name, "op": op, "args": dict(args), "deadline_s": limit_s}
        pending = self._agent.submit("child", outer, payload, timeout_s=limit_s + ANSWER_GRACE_S)
        pending.op = op
        return pending

    def load(
        self,
        model_path: str,
        *,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Loaded:
        """Load a model from a path on the device. Raises ModelRejected when the runtime refuses it."""
        args = {"model_path": model_path, "threads": threads, "options": dict(options or {})}
        reply = self.submit("load", args, timeout_s=timeout_s).wait().args
        self.runtime_version = str(reply.get("runtime_version", self.runtime_version))
        signature = reply["signature"]
        return Loaded(
            int(reply["load_time_ns"]),
            Signature(_specs(signature["inputs"]), _specs(signature["outputs"])),
            reply.get("quantised"),
        )

    def set_inputs(
        self,
        *,
        npz_path: str | None = None,
        arrays: Arrays | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int = 1,
    ) -> FedInputs:
        """Choose the samples: an .npz on the device, or arrays from here (first axis: samples).

        Raises ConfigError where they don't fit the model's inputs, Unsupported for a batch it can't take.
        """
        args: dict[str, Any] = {"batch_size": batch_size}
        payload = b""
        if npz_path is not None:
            args["npz_path"] = npz_path
        if arrays is not None:
            args["arrays"], payload = wire.pack_tensors([_to_tensor(n, a) for n, a in arrays.items()])
        if indices is not None:
            args["indices"] = [int(index) for index in indices]
        reply = self.submit("set_inputs", args, payload).wait().args
        return FedInputs(int(reply["n_samples"]), str(reply["sha256"]), int(reply["batch_size"]))

    def first(self, *, timeout_s: float | None = None) -> int:
        """Return the time of the first call after `load` in ns."""
        return int(self.submit("first", {}, timeout_s=timeout_s).wait().args["first_inference_ns"])

    def measure(
        self,
        *,
        iterations: int,
        warmup_max: int = 100,
        min_duration_ns: int = 0,
        max_duration_ns: int | None = None,
        calls_per_query: int = 1,
        timeout_s: float | None = None,
    ) -> MeasuredBlock:
        """Warm up, then time `iterations` calls (fewer past `max_duration_ns`; two at least).

        With `calls_per_query` an iteration is so many calls, timed as one; a command then raises Unsupported.
        """
        args = measure_args(iterations, warmup_max, min_duration_ns, max_duration_ns)
        if calls_per_query != 1:
            args["calls_per_query"] = calls_per_query
        block = parse_block(self.submit("measure", args, timeout_s=timeout_s).wait())
        return replace(block, calls_per_query=calls_per_query)

    def paced(
        self,
        offset_ns: Sequence[int] | npt.NDArray[np.int64],
        *,
        warmup_max: int = 100,
        spin_ns: int | None = None,
        max_behind_ns: int | None = None,
        timeout_s: float | None = None,
    ) -> PacedBlock:
        """Warm up, then call on a schedule: ns from its start, ascending.

        The last `spin_ns` of each wait are a busy loop (default: 200 µs). With an only core let it cover the
        whole wait: what has slept loses the core for a tick in its next call. Ends early ("overload") where a
        call would begin more than `max_behind_ns` late. Raises Unsupported for a command.
        """
        import numpy as np

        schedule = np.asarray(offset_ns, dtype=np.int64)
        entries, payload = wire.pack_tensors([_to_tensor("offset_ns", schedule)])
        args: dict[str, Any] = {"warmup_max": warmup_max, "arrays": entries}
        if spin_ns is not None:
            args["spin_ns"] = spin_ns
        if max_behind_ns is not None:
            args["max_behind_ns"] = max_behind_ns
        return parse_paced(self.submit("paced", args, payload, timeout_s=timeout_s).wait())

    def count_call(self, *, timeout_s: float | None = None) -> int:
        """Make a few calls, the last between the marks of an emulator's counting plugin; return 1.

        Raises Unsupported for a command, and on a device that isn't aarch64.
        """
        return int(self.submit("count", {}, timeout_s=timeout_s).wait().args["counted"])

    def infer(self, start: int, count: int, *, timeout_s: float | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the outputs of samples [start, start + count) by name, stacked on axis 0."""
        import numpy as np

        parts: list[dict[str, npt.NDArray[Any]]] = []
        end = start + count
        while start < end:  # the agent sends what fits into one message
            reply = self.submit("infer", {"start": start, "count": end - start}, timeout_s=timeout_s).wait()
            parts.append(unpack(reply))
            start += int(reply.args["count"])
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def sample(self) -> MemorySample:
        """Return its memory as it is now. Raises Unsupported where the kernel doesn't show it."""
        reply = self._agent.submit("sample", {"child": self.name}).wait().args
        return MemorySample(**{f.name: reply[f.name] for f in fields(MemorySample)})

    def close(self) -> None:
        """End the process. Safe to call twice, and after it has died."""
        if self._closed:
            return
        self._closed = True
        # it is gone, or the agent is: then there is nothing left to end, and the first error is told already
        with contextlib.suppress(HarnessError):
            self._agent.submit("reap", {"child": self.name}).wait()


def measure_args(
    iterations: int, warmup_max: int, min_duration_ns: int = 0, max_duration_ns: int | None = None
) -> dict[str, Any]:
    """Return the args of the op `measure`, for `Child.submit`."""
    args = {"iterations": iterations, "warmup_max": warmup_max, "min_duration_ns": min_duration_ns}
    return args if max_duration_ns is None else {**args, "max_duration_ns": max_duration_ns}


def parse_block(reply: Reply) -> MeasuredBlock:
    """Return the reply to `measure` as a block."""
    import numpy as np

    arrays, args = unpack(reply), reply.args
    none = np.empty(0, dtype=np.int64)
    return MeasuredBlock(
        latency_ns=arrays.get("latency_ns", none),
        start_ns=arrays.get("start_ns", none),
        warmup_iterations=int(args["warmup_iterations"]),
        warmup_flat=args["warmup_flat"],
        iterations_requested=int(args["iterations_requested"]),
        ended_by=str(args["ended_by"]),
        clock=str(args["clock"]),
        elapsed_ns=args.get("elapsed_ns"),
        clock_check=args.get("clock_check", {}),
        usage=args.get("usage", {}),
        summary=args.get("summary", {}),
        instructions=args.get("instructions"),
        not_counted=args.get("not_counted"),
    )


def parse_paced(reply: Reply) -> PacedBlock:
    """Return the reply to `paced`."""
    arrays, args = unpack(reply), reply.args
    return PacedBlock(
        due_ns=arrays["due_ns"],
        start_ns=arrays["start_ns"],
        end_ns=arrays["end_ns"],
        warmup_iterations=int(args["warmup_iterations"]),
        warmup_flat=bool(args["warmup_flat"]),
        iterations_requested=int(args["iterations_requested"]),
        ended_by=str(args["ended_by"]),
        clock=str(args["clock"]),
        elapsed_ns=int(args["elapsed_ns"]),
        clock_check=args["clock_check"],
        usage=args["usage"],
    )


def unpack(reply: Reply) -> dict[str, npt.NDArray[Any]]:
    """Return a reply's arrays by name. Raises WireError when its checksum doesn't hold."""
    import numpy as np

    wanted = reply.args.get("sha256")
    if wanted is not None and hashlib.sha256(reply.payload).hexdigest() != wanted:
        raise WireError(f"samples arrived changed: their sha256 is not {wanted}.")
    try:
        tensors = wire.unpack_tensors(reply.args["arrays"], reply.payload)
    except wire.WireFault as fault:
        raise WireError(f"bad arrays from the agent: {fault}.") from fault
    return {t.name: np.frombuffer(t.data, dtype=t.dtype).reshape(t.shape).copy() for t in tensors}


def _to_tensor(name: str, array: npt.NDArray[Any]) -> wire.Tensor:
    import numpy as np

    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return wire.Tensor(name, array.dtype.name, array.shape, little.tobytes())


def _specs(entries: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(str(e["name"]), tuple(e["shape"]), str(e["dtype"])) for e in entries)
