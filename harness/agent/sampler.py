"""One process that reads sensors at a fixed rate, into arrays made before; nothing travels meanwhile.

Readings are due at start + i / rate; one that comes more than a period late leaves its slots out, so a slow
sensor shows as a lower rate and never as a drift. The parent starts it (`sampler_start`) and takes what it
has (`sampler_stop`).
"""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
import time
from array import array
from typing import Any, Dict, List, Tuple

from . import channels
from .args import Args
from .channels import Channels
from .faults import Fault, to_fault
from .lifeline import end_with_parent
from .processes import ChildProcess, child_environment
from .wire import MAX_PAYLOAD_BYTES, Decoder, Frame, Tensor, WireFault, encode, pack_tensors

NAME = ".sampler"  # no child can be called so
MAX_RATE_HZ = 10000.0  # chosen: beyond what Python keeps up
MAX_CHANNELS = 64
_ITEM_BYTES = 16  # a time and a value
_NOTE_CHARS = 200


def start_sampler(location: str, root: str = "") -> ChildProcess:
    """Start the process; it still waits for `sampler_start`. `root` stands in front of every path."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", location, "sampler", root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=child_environment(1, {}),
        cwd="/",
    )
    return ChildProcess(NAME, process, None)


class Sampling:
    """What one start asked for, and what has come of it."""

    def __init__(self, args: Args, found: Channels) -> None:
        ids = [str(item) for item in args.items("channels")]
        self.rate_hz = args.number("rate_hz", low=0.001, high=MAX_RATE_HZ)
        most = args.integer("max_samples", low=2)
        cpus = args.integers("cpus", [])
        args.done()
        if not 1 <= len(set(ids)) == len(ids) <= MAX_CHANNELS:
            what = "`channels` is %r, expected 1 to %d ids, each once" % (ids, MAX_CHANNELS)
            raise Fault("bad_request", "sampler_start: " + what)
        if most * len(ids) * _ITEM_BYTES > MAX_PAYLOAD_BYTES:
            what = "%d samples of %d channels are more than a message holds" % (most, len(ids))
            raise Fault("bad_request", "sampler_start: " + what)
        self.sensors = found.get(ids)
        if cpus:
            os.sched_setaffinity(0, cpus)
        self.capacity = most
        self.count = 0
        self.missed = 0
        self.errors: List[Dict[str, int]] = [{} for _ in ids]
        self.times = [array("q", bytes(8 * most)) for _ in ids]
        self.values = [array("d", bytes(8 * most)) for _ in ids]
        self.late_ns = array("q", bytes(8 * most))
        self._period_ns = 1e9 / self.rate_hz
        self._slot = 0
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        self.start_ns = time.monotonic_ns()

    def wait_s(self) -> float:
        """Return how long it is until the next reading is due."""
        return max(0.0, (self._due_ns() - time.monotonic_ns()) / 1e9)

    def _due_ns(self) -> int:
        return self.start_ns + int(self._slot * self._period_ns)

    def take(self) -> None:
        """Read each channel once, and make the next slot due that isn't past."""
        at, due = self.count, self._due_ns()
        for i, sensor in enumerate(self.sensors):
            self.times[i][at], self.values[i][at], why = channels.read(sensor)
            if why and (why in self.errors[i] or len(self.errors[i]) < 8):
                self.errors[i][why] = self.errors[i].get(why, 0) + 1
        self.late_ns[at] = max(0, self.times[0][at] - due)
        self.count += 1
        slot = max(self._slot + 1, int((time.monotonic_ns() - self.start_ns) / self._period_ns))
        self.missed += slot - self._slot - 1
        self._slot = slot

    @property
    def full(self) -> bool:
        return self.count >= self.capacity

    def result(self) -> Tuple[Dict[str, Any], bytes]:
        """Return the answer to `sampler_stop`, and its payload."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        before = self._usage
        cpu_s = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
        n, first = self.count, self.times[0]
        tensors = []
        for i in range(len(self.sensors)):
            tensors.append(Tensor("t_ns_%d" % i, "int64", (n,), _little(self.times[i][:n])))
            tensors.append(Tensor("value_%d" % i, "float64", (n,), _little(self.values[i][:n])))
        entries, payload = pack_tensors(tensors)
        late = sorted(self.late_ns[:n])
        report = {
            "channels": [sensor.describe() for sensor in self.sensors],
            "rate_asked_hz": self.rate_hz,
            "rate_got_hz": (n - 1) * 1e9 / (first[n - 1] - first[0]) if n > 1 else None,
            "jitter_p99_ns": late[min(n - 1, 99 * n // 100)] if n else None,
            "samples": n,
            "missed": self.missed,
            "full": self.full,
            "cpu_ns": int(cpu_s * 1e9),
            "elapsed_ns": time.monotonic_ns() - self.start_ns,
            "errors": [{why[:_NOTE_CHARS]: count for why, count in each.items()} for each in self.errors],
            "arrays": entries,
        }
        return report, payload


def _little(values: "array[Any]") -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


class Sampler:
    """Answers `sampler_start` and `sampler_stop` on its pipes, and samples in between."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._sampling: Any = None

    def wait_s(self) -> Any:
        """Return how long the pipe may be waited for; None where nothing is due."""
        sampling = self._sampling
        return None if sampling is None or sampling.full else sampling.wait_s()

    def take(self) -> None:
        self._sampling.take()

    def answer(self, frame: Frame) -> Frame:
        """Return the answer to one request."""
        try:
            args = Args(frame.op, frame.args)
            if frame.op == "sampler_start":
                self._sampling = Sampling(args, Channels(self._root, args.items("i2c", [])))
                told = [sensor.describe() for sensor in self._sampling.sensors]
                return Frame(frame.id, "result", frame.op, {"channels": told})
            args.done()
            report, payload = self._sampling.result()
            self._sampling = None
            return Frame(frame.id, "result", frame.op, report, payload)
        except (Fault, OSError, ValueError, MemoryError) as error:
            return Frame(frame.id, "error", frame.op, to_fault(error).to_args())


def run_sampler(root: str) -> int:
    """Answer requests and sample until the pipe ends; return the exit code."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    end_with_parent()
    sampler, decoder = Sampler(root), Decoder()
    try:
        while True:
            wait_s = sampler.wait_s()
            ready, _, _ = select.select([wire_in], [], [], wait_s)
            if not ready:
                sampler.take()
                continue
            data = os.read(wire_in, 1 << 16)
            if not data:
                return 0
            for frame in decoder.feed(data):
                view = memoryview(encode(sampler.answer(frame)))
                while view:
                    view = view[os.write(wire_out, view[: 1 << 20]) :]
    except WireFault as fault:
        sys.stderr.write("agent sampler: bad frame: %s\n" % fault)
        return 3
    except BrokenPipeError:
        return 0  # the parent is gone
