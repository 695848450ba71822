"""A loaded model inside a child: its inputs, its first call, timed calls, outputs. Adapters do the rest."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import timing
from .args import Args
from .faults import Fault, first_line
from .instructions import open_counter
from .samples import Feeder, Raw, count_items, open_arrays, open_npz, parse_input, shape_text
from .wire import ITEM_BYTES, MAX_PAYLOAD_BYTES, Tensor, pack_tensors

Answer = Tuple[Dict[str, Any], bytes]
# Samples that `measure` takes turns with, held ready in memory: few, so that they hardly show in what a
# memory run measures (chosen).
MAX_READY_BATCHES = 16
MAX_READY_BYTES = 4 << 20


# A task that wakes up soon loses the core once to those that were runnable meanwhile, for a scheduler tick:
# on a single core that is the parent which handed the request over, or the emulated board's idle loop.
# Seen there as +4 ms (250 Hz) in one of seven calls that are timed once, with this in none of 24 processes.
# Busy for some ticks, the child has that behind it.
SETTLE_NS = 20000000

_UNCOUNTED = {"instructions": None, "not_counted": "the command runs the model in a process of its own"}


def settle() -> None:
    """Keep the core busy until others have had their turn, before something is timed once."""
    end = time.monotonic_ns() + SETTLE_NS
    while time.monotonic_ns() < end:
        pass


class Calls(NamedTuple):
    """What is called over and over. `seek` makes the calls go on from the sample batch of that number."""

    next_call: Optional[timing.NextCall]  # None where there is one batch only
    invoke: timing.Invoke
    seek: Callable[[int], None]


class Model:
    """One session of an adapter and what it is fed."""

    def __init__(self, session: Any, shapes: Dict[str, Any], threads: int = 1) -> None:
        self._session = session
        self.threads = threads
        names = [spec["name"] for spec in session.inputs]
        unknown = sorted(set(shapes) - set(names))
        if unknown:
            raise Fault(
                "bad_request",
                "load: shape given for `%s`; the inputs are: %s" % (unknown[0], ", ".join(names) or "none"),
            )
        self._inputs = [parse_input(spec, shapes) for spec in session.inputs]
        self._raw = bool(getattr(session, "raw", False))
        self._feeder: Optional[Feeder] = None
        self._called = False
        self._batch_checked = False

    @classmethod
    def load(cls, adapter: Any, args: Args) -> Tuple["Model", Dict[str, Any]]:
        """Return a loaded model and the answer to `load`."""
        path, threads = args.text("model_path"), args.integer("threads", 1, 1, 1024)
        options = dict(args.mapping("options", {}))
        args.done()
        shapes = options.pop("shapes", {})
        if not isinstance(shapes, dict):
            raise Fault("bad_request", "load: `shapes` is %r, expected an object" % (shapes,))
        try:
            open(path, "rb").close()
        except OSError as error:
            raise Fault("not_found", "model %s can't be read: %s" % (path, error.strerror)) from None
        settle()
        begin = time.monotonic_ns()
        session = adapter.load(path, threads, options)
        elapsed = time.monotonic_ns() - begin
        model = cls(session, shapes, threads)
        answer: Dict[str, Any] = {
            "load_time_ns": getattr(session, "load_time_ns", elapsed),
            "signature": {"inputs": list(session.inputs), "outputs": list(session.outputs)},
            "in_process": not hasattr(session, "timed_run") and not hasattr(session, "summarise"),
        }
        if hasattr(session, "is_quantised"):
            answer["quantised"] = bool(session.is_quantised())
        for extra in ("measured_pid", "runtime_version"):  # of a command
            if hasattr(session, extra):
                answer[extra] = getattr(session, extra)
        return model, answer

    def close(self) -> None:
        close = getattr(self._session, "close", None)
        if close is not None:
            close()

    def set_inputs(self, args: Args, payload: Any) -> Answer:
        """Choose the samples that are fed."""
        path = args.text("npz_path", "")
        entries = args.items("arrays", [])
        indices = args.integers("indices", []) or None
        batch_size = args.integer("batch_size", 1, 1, 1 << 20)
        args.done()
        if bool(path) == bool(entries):
            raise Fault("bad_request", "set_inputs: give `npz_path` or `arrays`, exactly one of them")
        if getattr(self._session, "makes_inputs", False):
            raise Fault("unsupported", "this command makes its own inputs; samples can't be fed")
        columns, names, sha256 = open_npz(path) if path else open_arrays(entries, payload)
        self._feeder = Feeder(self._inputs, columns, names, indices, batch_size)
        self._batch_checked = False
        return {"n_samples": self._feeder.n_samples, "sha256": sha256, "batch_size": batch_size}, b""

    def first(self, args: Args) -> Answer:
        """Time the first call after `load`."""
        args.done()
        if self._called:
            raise Fault("bad_request", "first: the model has been called already; spawn a fresh child")
        self._called = True
        if hasattr(self._session, "timed_run"):
            from . import external  # as rare as commands are

            self._prepare(0)
            return {"first_inference_ns": external.first(self._session)}, b""
        if hasattr(self._session, "first_inference_ns"):
            return {"first_inference_ns": self._session.first_inference_ns}, b""
        if hasattr(self._session, "summarise"):
            raise Fault("unsupported", "this command doesn't tell its first call from the others")
        invoke = self._prepare(0)
        settle()
        begin = time.monotonic_ns()
        self.refusable(invoke)
        first_inference_ns = time.monotonic_ns() - begin
        self._check_batch()
        return {"first_inference_ns": first_inference_ns}, b""

    def measure(self, args: Args) -> Answer:
        """Warm up and time; the samples come back whole."""
        plan = timing.Plan(
            args.integer("iterations", low=1, high=timing.MAX_ITERATIONS),
            args.integer("warmup_max", 0, 0, timing.MAX_ITERATIONS),
            args.integer("min_duration_ns", 0),
            args.integer("max_duration_ns", 600 * 10**9, 1),
            args.integer("calls_per_query", 1, 1, 1 << 16),
        )
        args.done()
        if plan.calls_per_query > 1:
            self._require_timeable("queries of several calls")
        self._called = True
        if hasattr(self._session, "summarise"):
            from . import external

            return dict(external.summarise(self._session, plan), **_UNCOUNTED), b""
        if hasattr(self._session, "timed_run"):
            from . import external

            self._prepare(0)
            timed = external.measure(self._session, plan)
            timed.report.update(_UNCOUNTED)
        else:
            timed = self._measure(plan)
        count = len(timed.latency_ns)
        tensors = [Tensor("latency_ns", "int64", (count,), memoryview(timed.latency_ns).cast("B"))]
        if timed.start_ns:
            tensors.append(Tensor("start_ns", "int64", (count,), memoryview(timed.start_ns).cast("B")))
        return packed(tensors, timed.report)

    def _measure(self, plan: timing.Plan) -> timing.Timed:
        calls = self.calls("measure")
        counter = open_counter(self.threads)
        try:
            settle()
            timed: timing.Timed = self.refusable(
                lambda: timing.measure(calls.next_call, calls.invoke, plan, counter)
            )
            return timed
        finally:
            counter.close()

    def calls(self, what: str) -> Calls:
        """Return the calls to time, for the op `what`. Raises `unsupported` where this process makes none."""
        self._require_timeable("`%s`" % what)
        self._called = True
        if not self._batch_checked and self._fed().batch_size > 1:
            self.refusable(self._prepare(0))
            self._check_batch()
        return self._calls()

    def own_timer(self) -> Any:
        """Return the session, fed with its first samples, where it times its calls itself; else None."""
        if not hasattr(self._session, "timed_run"):
            return None
        self._called = True
        self._prepare(0)
        return self._session

    def _require_timeable(self, what: str) -> None:
        """Raise `unsupported` for a command: its calls are not made here, one by one."""
        if hasattr(self._session, "summarise"):
            raise Fault("unsupported", "%s: this command only prints a summary of a whole run" % what)
        if hasattr(self._session, "timed_run"):
            raise Fault("unsupported", "%s: this command times its calls itself" % what)

    def infer(self, args: Args) -> Answer:
        """Return the outputs of samples [start, start + count), or of as many as fit one message."""
        if hasattr(self._session, "summarise"):
            raise Fault("unsupported", "this command gives no outputs")
        feeder = self._fed()
        start = args.integer("start", 0, 0, feeder.n_samples - 1)
        count = args.integer("count", low=1, high=feeder.n_samples)
        args.done()
        if start + count > feeder.n_samples:
            raise Fault(
                "bad_request",
                "infer: samples %d to %d asked for, there are %d"
                % (start, start + count - 1, feeder.n_samples),
            )
        self._called = True
        stacks: Dict[str, Stack] = {}
        done = 0
        while done < count:
            take = min(feeder.batch_size, count - done)
            self.refusable(self._prepare(start + done))
            for name, output in self._session.read_outputs().items():
                stacks.setdefault(name, Stack(name, feeder.batch_size)).add(to_raw(name, output), take)
            done += take
            per_sample = sum(stack.row_bytes for stack in stacks.values())
            if (done + feeder.batch_size) * per_sample > MAX_PAYLOAD_BYTES:
                break
        return packed([stack.tensor() for stack in stacks.values()], {"start": start, "count": done})

    def _check_batch(self) -> None:
        """Raise `unsupported` if the outputs don't follow the batch: then a batch would measure nonsense."""
        size = self._fed().batch_size
        if size > 1:
            for name, output in self._session.read_outputs().items():
                Stack(name, size).add(to_raw(name, output), size)
        self._batch_checked = True

    def _fed(self) -> Feeder:
        if self._feeder is None:
            raise Fault("bad_request", "no inputs are set; call set_inputs first")
        return self._feeder

    def _prepare(self, start: int) -> Callable[[], Any]:
        prepared: Callable[[], Any] = self._session.prepare(self._feeds(start))
        return prepared

    def _feeds(self, start: int) -> Dict[str, Any]:
        feeds = self._fed().batch(start)
        if self._raw:
            return dict(feeds)
        import numpy

        # copied, so that the runtime gets memory as numpy aligns it
        return {
            name: numpy.frombuffer(raw.data, dtype=raw.dtype).reshape(raw.shape).copy()
            for name, raw in feeds.items()
        }

    def _calls(self) -> Calls:
        feeder = self._fed()
        size = feeder.batch_size
        batches = max(
            1,
            min(
                feeder.n_samples // size,
                MAX_READY_BATCHES,
                MAX_READY_BYTES // max(1, size * feeder.row_bytes),
            ),
        )
        ready = [self._feeds(i * size) for i in range(batches)]
        prepare = self._session.prepare
        if batches == 1:
            return Calls(None, prepare(ready[0]), lambda _number: None)
        turn = 0

        def next_call() -> Any:
            nonlocal turn
            turn = (turn + 1) % batches
            return prepare(ready[turn])

        def seek(number: int) -> None:
            nonlocal turn
            turn = (number - 1) % batches

        return Calls(next_call, prepare(ready[0]), seek)

    @staticmethod
    def refusable(call: Callable[[], Any]) -> Any:
        """Return what `call` returns; an exception out of the runtime's call is the model's rejection."""
        try:
            return call()
        except (Fault, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 (runtimes share no exception type)
            raise Fault("model_rejected", first_line(error)) from error


class Stack:
    """One output, its samples stacked on axis 0."""

    def __init__(self, name: str, batch_size: int) -> None:
        self._name = name
        self._batch_size = batch_size
        self._row: Optional[Tuple[str, Tuple[int, ...]]] = None
        self._parts: List[bytes] = []
        self._count = 0
        self.row_bytes = 0

    def add(self, output: Raw, take: int) -> None:
        """Add the first `take` samples of an output. Raises `unsupported` where they can't be told apart."""
        shape = output.shape
        if shape and shape[0] == self._batch_size:
            row = shape[1:]
        elif self._batch_size == 1:
            row = shape  # no batch axis
        else:
            raise Fault(
                "unsupported",
                "output `%s` has shape %s: its first axis is not the batch of %d"
                % (self._name, shape_text(shape), self._batch_size),
            )
        if self._row is None:
            self._row = (output.dtype, row)
            self.row_bytes = ITEM_BYTES[output.dtype] * count_items(row)
        if self._row != (output.dtype, row):
            raise Fault(
                "unsupported",
                "output `%s` changes its shape between samples: %s, before %s"
                % (self._name, shape_text(row), shape_text(self._row[1])),
            )
        self._parts.append(output.data[: take * self.row_bytes])
        self._count += take

    def tensor(self) -> Tensor:
        assert self._row is not None  # `add` comes before
        return Tensor(self._name, self._row[0], (self._count, *self._row[1]), b"".join(self._parts))


def to_raw(name: str, output: Any) -> Raw:
    """Return an adapter's output as bytes. Raises `unsupported` for types that can't travel."""
    if isinstance(output, tuple):  # Raw, or the like of an adapter without numpy
        dtype, shape, data = output
        return Raw(str(dtype), tuple(shape), bytes(data))
    dtype = getattr(getattr(output, "dtype", None), "name", type(output).__name__)
    if dtype not in ITEM_BYTES:
        raise Fault(
            "unsupported",
            "output `%s` has type %s; valid: %s" % (name, dtype, ", ".join(sorted(ITEM_BYTES))),
        )
    return Raw(dtype, tuple(output.shape), output.tobytes())


def packed(tensors: List[Tensor], args: Dict[str, Any]) -> Answer:
    """Return an answer with arrays; the parent adds their checksum."""
    entries, payload = pack_tensors(tensors)
    return dict(args, arrays=entries), payload
