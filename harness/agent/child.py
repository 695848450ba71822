"""The measured process: one model in one runtime, driven by frames from the parent.

It loads nothing but the stdlib, its own environment's `site/` and one adapter. Whatever the runtime prints
goes to stderr; the wire is a descriptor of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import resource
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from .args import Args
from .faults import Fault, first_line, to_fault
from .lifeline import end_with_parent
from .model import Model
from .wire import Decoder, Frame, WireFault, encode_header

if TYPE_CHECKING:
    from .arm import Arm
    from .soak.calls import Soak

BUILT_IN = ("onnxruntime", "litert", "tflite_runtime", "command")
OWN_ADAPTER = "env"  # the environment's own adapter.py
EXIT_WIRE = 3

Answer = Tuple[Dict[str, Any], bytes]


def import_adapter(name: str, env: str) -> Any:
    """Return the adapter's module. Raises `bad_request` for an unknown name, `runtime_unavailable`."""
    if env:
        sys.path.insert(1, os.path.join(env, "site"))
    wanted = name.replace("-", "_")
    try:
        if wanted in BUILT_IN:
            return importlib.import_module("%s.adapters.%s" % (__package__, wanted))
        if name != OWN_ADAPTER:
            known = ", ".join([*BUILT_IN, OWN_ADAPTER])
            raise Fault("bad_request", "spawn: unknown adapter `%s`; valid: %s" % (name, known))
        path = os.path.join(env, "adapter.py")
        spec = importlib.util.spec_from_file_location("hil_env_adapter", path)
        if not env or spec is None or spec.loader is None or not os.path.isfile(path):
            raise Fault("runtime_unavailable", "the environment has no adapter.py (%s)" % path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except Fault:
        raise
    except Exception as error:  # noqa: BLE001 (whatever a foreign module raises while it is imported)
        cause = error.__cause__ or error.__context__
        why = first_line(error) + (" (%s)" % first_line(cause) if cause else "")
        raise Fault("runtime_unavailable", "adapter `%s` can't be imported: %s" % (name, why)) from error


class Child:
    """Answers the parent's requests. Each op returns args and payload."""

    def __init__(self) -> None:
        self._adapter: Any = None
        self._model: Optional[Model] = None
        self._arm: Optional["Arm"] = None  # while it takes part in a duet
        self._soak: Optional["Soak"] = None  # while it takes part in a soak
        self._ops: Dict[str, Callable[[Frame], Answer]] = {
            "start": self._start,
            "load": self._load,
            "set_inputs": lambda frame: self._loaded().set_inputs(
                Args("set_inputs", frame.args), frame.payload
            ),
            "first": lambda frame: self._loaded().first(Args("first", frame.args)),
            "measure": lambda frame: self._loaded().measure(Args("measure", frame.args)),
            "paced": self._paced,
            "count": self._count,
            "duet_start": self._duet_start,
            "duet_block": self._duet_block,
            "duet_end": self._duet_end,
            "soak_begin": self._soak_begin,
            "soak": self._soak_slice,
            "infer": lambda frame: self._loaded().infer(Args("infer", frame.args)),
            "exit": self._exit,
        }

    def answer(self, frame: Frame) -> Frame:
        """Return the result or error frame for a request."""
        try:
            args, payload = self._ops[frame.op](frame)
            return Frame(frame.id, "result", frame.op, args, payload)
        except Exception as error:  # noqa: BLE001 (recorded: it becomes the answer)
            self._leave_duet()
            fault = adapter_fault(error)
            return Frame(frame.id, "error", frame.op, fault.to_args())

    def close(self) -> None:
        if self._soak is not None:
            self._soak.close()
        if self._model is not None:
            self._model.close()

    def _start(self, frame: Frame) -> Answer:
        args = Args("spawn", frame.args)
        cpus, nice = args.integers("cpus"), args.integer("nice", 0, -20, 19)
        name, env = args.text("adapter"), args.text("env")
        args.done()
        if cpus:
            os.sched_setaffinity(0, cpus)  # before the runtime starts its threads
        if nice:
            try:
                os.nice(nice)
            except PermissionError:
                raise Fault("unsupported", "spawn: no right to set nice to %d" % nice) from None
        begin = time.monotonic_ns()
        self._adapter = import_adapter(name, env)
        import_time_ns = time.monotonic_ns() - begin
        return {
            "runtime_version": str(self._adapter.version()),
            "adapter": str(self._adapter.NAME),
            "import_time_ns": import_time_ns,
        }, b""

    def _load(self, frame: Frame) -> Answer:
        if self._model is not None:
            raise Fault("bad_request", "load: a model is loaded already; spawn a fresh child")
        if self._adapter is None:
            raise Fault("bad_request", "load: the child has not been started")
        self._model, answer = Model.load(self._adapter, Args("load", frame.args))
        return answer, b""

    def _loaded(self) -> Model:
        if self._model is None:
            raise Fault("bad_request", "no model is loaded; load one first")
        return self._model

    # what few children do is imported when they do it: the others' memory and start-up are measured too

    def _paced(self, frame: Frame) -> Answer:
        from .paced import paced

        return paced(self._loaded(), Args("paced", frame.args), frame.payload)

    def _count(self, frame: Frame) -> Answer:
        from .marks import counted_call

        Args("count", frame.args).done()
        model = self._loaded()
        calls = model.calls("count")
        return model.refusable(lambda: counted_call(calls)), b""

    def _soak_begin(self, frame: Frame) -> Answer:
        from .soak.calls import Soak

        if self._soak is not None:
            raise Fault("bad_request", "soak_begin: the child takes part in a soak already")
        self._soak = Soak(self._loaded(), Args("soak_begin", frame.args), frame.payload)
        return {"after_ns": self._soak.after_ns}, b""

    def _soak_slice(self, frame: Frame) -> Answer:
        if self._soak is None:
            raise Fault("bad_request", "soak: the child takes part in no soak; `soak_begin` comes first")
        return self._soak.slice(Args("soak", frame.args)), b""

    def _duet_start(self, frame: Frame) -> Answer:
        from .arm import Arm, read_plan

        self._leave_duet()
        self._arm = Arm(self._loaded(), read_plan(Args("duet_start", frame.args)))
        return self._arm.started(), b""

    def _duet_block(self, frame: Frame) -> Answer:
        self._taking_part().turn(int(frame.args["pair"]))
        return {}, b""

    def _duet_end(self, frame: Frame) -> Answer:
        answer = self._taking_part().finish(int(frame.args["pairs"]))
        self._leave_duet()
        return answer

    def _taking_part(self) -> "Arm":
        if self._arm is None:
            raise Fault("bad_request", "the child takes part in no duet")
        return self._arm

    def _leave_duet(self) -> None:
        arm, self._arm = self._arm, None
        if arm is not None:
            arm.close()

    def _exit(self, frame: Frame) -> Answer:
        Args("exit", frame.args).done()
        return {}, b""


def adapter_fault(error: BaseException) -> Fault:
    """Return the fault for an exception out of an adapter, told by the name of its class."""
    kinds = {"ModelError": "model_rejected", "UnsupportedError": "unsupported", "OptionError": "bad_request"}
    for cls in type(error).__mro__:
        if cls.__name__ in kinds:
            return Fault(kinds[cls.__name__], first_line(error))
    if isinstance(error, MemoryError):
        return Fault("model_rejected", "out of memory: %s" % first_line(error))
    return to_fault(error)


def _write_all(descriptor: int, data: Any) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[: 1 << 20]) :]


def run_child() -> int:
    """Answer requests until the wire ends; return the exit code."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill a board's disk
    end_with_parent()
    child, decoder = Child(), Decoder()
    try:
        while True:
            data = os.read(wire_in, 1 << 20)
            if not data:
                return 0
            for frame in decoder.feed(data):
                answer = child.answer(frame)
                try:
                    header = encode_header(answer)
                except (WireFault, ValueError) as error:
                    fault = Fault("internal", "the answer can't travel: %s" % error)
                    answer = Frame(frame.id, "error", frame.op, fault.to_args())
                    header = encode_header(answer)
                _write_all(wire_out, header)
                _write_all(wire_out, answer.payload)
                if frame.op == "exit" and answer.type == "result":
                    return 0
    except WireFault as fault:
        sys.stderr.write("agent child: bad frame: %s\n" % fault)
        return EXIT_WIRE
    except BrokenPipeError:
        return 0  # the parent is gone
    finally:
        child.close()
