"""An executable that answers one JSON object per line on stdout to one per line on stdin. It times itself.

Arrays travel in a file of the child's, laid out as on the wire (`arrays` entries, offsets into the file);
its path is in /proc, so nothing is left behind whatever dies.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from ..samples import Raw
from ..wire import MAX_PAYLOAD_BYTES, Tensor, WireFault, pack_tensors, unpack_tensors
from .base import ModelError, UnsupportedError

if TYPE_CHECKING:
    from .command import Command

_LINE_BYTES = 1 << 20


class CommandError(Exception):
    """The command broke the protocol or failed for a reason that isn't the model's."""


class Session:
    """A model loaded in the command."""

    raw = True

    def __init__(self, command: "Command") -> None:
        self._timeout_s = command.timeout_s
        self._buffer = b""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._path = "/proc/%d/fd/%d" % (os.getpid(), self._file.fileno())
        self._process = command.start(subprocess.PIPE, None)
        self.measured_pid = self._process.pid
        try:
            self._load(command)
        except Exception:
            self.close()
            raise

    def _load(self, command: "Command") -> None:
        answer = self._ask(
            {"op": "load", "model": command.values["model"], "threads": int(command.values["threads"])}
        )
        self.inputs: List[Dict[str, Any]] = check_specs(answer, "inputs")
        self.outputs: List[Dict[str, Any]] = check_specs(answer, "outputs")
        self.clock = str(answer.get("clock", "the command's own"))
        self.runtime_version = str(answer.get("version") or command.identity())
        if isinstance(answer.get("load_time_ns"), int):
            self.load_time_ns = answer["load_time_ns"]

    def prepare(self, feeds: Dict[str, Raw]) -> Callable[[], Any]:
        """Hand over the inputs; return a call that runs them once."""
        entries, payload = pack_tensors([Tensor(name, *raw) for name, raw in feeds.items()])
        self._file.seek(0)
        self._file.truncate()
        self._file.write(payload)
        self._file.flush()
        self._ask({"op": "feed", "path": self._path, "arrays": entries})
        return lambda: self.timed_run(1)

    def timed_run(self, count: int) -> List[int]:
        """Return the times of `count` calls in ns, as the command took them."""
        samples = self._ask({"op": "run", "count": count}).get("latency_ns")
        if not isinstance(samples, list) or len(samples) != count:
            raise CommandError("`run` of %d answered with latency_ns %.80r" % (count, samples))
        if not all(isinstance(sample, int) and sample >= 0 for sample in samples):
            raise CommandError(
                "`run` answered with a latency_ns that is no whole number of ns: %.80r" % samples
            )
        return samples

    def read_outputs(self) -> Dict[str, Raw]:
        """Return the last call's outputs by name."""
        self._file.seek(0)
        self._file.truncate()
        entries = self._ask({"op": "read", "path": self._path}).get("arrays")
        self._file.seek(0)
        payload = self._file.read(MAX_PAYLOAD_BYTES)
        try:
            tensors = unpack_tensors(entries, payload)
        except WireFault as error:
            raise CommandError("`read` answered with bad arrays: %s" % error) from None
        return {tensor.name: Raw(tensor.dtype, tensor.shape, bytes(tensor.data)) for tensor in tensors}

    def exit_code(self) -> Optional[int]:
        """Return how the command ended (negative: the signal), None while it lives."""
        return self._process.poll()

    def close(self) -> None:
        """End the command."""
        self._process.kill()
        self._process.wait()
        self._file.close()

    def _ask(self, request: Dict[str, Any]) -> Dict[str, Any]:
        op = request["op"]
        assert self._process.stdin is not None  # asked for
        try:
            self._process.stdin.write(json.dumps(request).encode("utf-8") + b"\n")
        except BrokenPipeError:
            raise self._ended(op) from None
        line = self._read_line(op)
        try:
            answer = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            raise CommandError("`%s` answered with %.80r, expected a JSON object" % (op, line)) from None
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            raise CommandError("`%s` answered with %.80r, expected an object with `ok`" % (op, line))
        if answer["ok"]:
            return answer
        message = str(answer.get("message", "(no message)"))
        kinds = {"model": ModelError, "unsupported": UnsupportedError}
        raise kinds.get(str(answer.get("kind")), CommandError)(message)

    def _read_line(self, op: str) -> bytes:
        assert self._process.stdout is not None  # asked for
        due = time.monotonic() + self._timeout_s
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LINE_BYTES:
                raise CommandError("`%s` answered with a line longer than %d bytes" % (op, _LINE_BYTES))
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, due - time.monotonic()))
            if not ready:
                raise CommandError("`%s` was not answered within %g s" % (op, self._timeout_s))
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise self._ended(op)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ended(self, op: str) -> Exception:
        """Return the error for a command that is gone: a crash while it works is the model's."""
        code = self._process.wait(5)
        if code < 0:
            return ModelError("the command died of signal %d during `%s`" % (-code, op))
        return CommandError("the command exited with %d during `%s`" % (code, op))


def check_specs(answer: Dict[str, Any], key: str) -> List[Dict[str, Any]]:
    """Return the answer's list of inputs or outputs. Raises CommandError."""
    specs = answer.get(key)
    if not isinstance(specs, list):
        raise CommandError("`load` answered without a list `%s`" % key)
    for spec in specs:
        fits = (
            isinstance(spec, dict)
            and isinstance(spec.get("name"), str)
            and isinstance(spec.get("dtype"), str)
        )
        if not fits or not isinstance(spec.get("shape"), list):
            raise CommandError("`load`: %s holds %.80r, expected name, shape, dtype" % (key, spec))
    return specs
