"""An executable that prints what TensorFlow Lite's benchmark_model prints. No samples, only a summary.

Format: tensorflow/lite/tools/benchmark/benchmark_model.cc, BenchmarkLoggingListener, and
tensorflow/core/util/stat_summarizer (`count=… first=… avg=…`), all in microseconds. A log level (`INFO: `)
may stand in front; runs before 2.1 print `Average inference timings in us: Warmup: …, Init: …, Inference: …`.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from .base import ModelError

if TYPE_CHECKING:
    from .command import Command

_OUTPUT_BYTES = 1 << 20
_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"
_TIMINGS = re.compile(
    r"Inference timings in us: Init: %s, First inference: %s, Warmup \(avg\): %s, Inference \(avg\): %s"
    % ((_NUMBER,) * 4)
)
_OLD_TIMINGS = re.compile(
    r"Average inference timings in us: Warmup: %s, Init: %s, (?:Inference|no stats): %s" % ((_NUMBER,) * 3)
)
_TIMING_NAMES = ["load_time_ns", "first_inference_ns", "warmup_avg_ns", "latency_avg_ns"]
_OLD_TIMING_NAMES = ["warmup_avg_ns", "load_time_ns", "latency_avg_ns"]
_COUNTS = re.compile(r"count=([0-9]+) (.*)")
_PAIR = re.compile(r"(\w+)=" + _NUMBER)
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: " + _NUMBER)
_STATISTICS = {
    "min": "latency_min_ns",
    "max": "latency_max_ns",
    "std": "latency_std_ns",
    "p5": "latency_p5_ns",
    "median": "latency_p50_ns",
    "p95": "latency_p95_ns",
}


def parse_output(text: str) -> Dict[str, float]:
    """Return what the tool says, in ns and bytes; what it doesn't say is absent. Raises ModelError."""
    found, old = _TIMINGS.search(text), _OLD_TIMINGS.search(text)
    match, names = (found, _TIMING_NAMES) if found else (old, _OLD_TIMING_NAMES)
    if match is None:
        raise ModelError(complaint(text))
    summary = {name: _ns(value) for name, value in zip(names, match.groups())}
    counts = _COUNTS.findall(text)
    if len(counts) > 1:  # warm-up's line comes first, the measured runs' last
        summary["count"] = int(counts[-1][0])
        values = dict(_PAIR.findall(counts[-1][1]))
        summary.update({name: _ns(values[key]) for key, name in _STATISTICS.items() if key in values})
    peak = _PEAK.search(text)
    if peak:
        summary["peak_memory_bytes"] = float(peak.group(1)) * (1 << 20)
    return summary


def complaint(text: str) -> str:
    """Return the line of the output that says best what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if line.startswith("ERROR") or "fail" in line.lower() or "error" in line.lower():
            return line[:500]
    return "the command printed no inference timings; its last line: %s" % (
        lines[-1][:300] if lines else "(none)"
    )


def _ns(microseconds: str) -> float:
    return float(microseconds) * 1000.0


class Session:
    """Runs the whole tool anew for each measurement; it makes its own inputs and shows no outputs."""

    makes_inputs = True
    inputs: List[Dict[str, Any]] = []
    outputs: List[Dict[str, Any]] = []

    def __init__(self, command: "Command") -> None:
        self._command = command
        self.runtime_version = command.identity()
        # one run shows whether the model loads, and how long that and the first call take
        summary = self.summarise(1, 1, 10**9)
        self.load_time_ns = int(summary["load_time_ns"])
        if "first_inference_ns" in summary:
            self.first_inference_ns = int(summary["first_inference_ns"])

    def summarise(self, iterations: int, warmup: int, max_duration_ns: int) -> Dict[str, float]:
        """Return one run's summary."""
        max_secs = "%.3f" % (max_duration_ns / 1e9)
        process = self._command.start(
            subprocess.DEVNULL, subprocess.STDOUT, iterations=iterations, warmup=warmup, max_secs=max_secs
        )
        code, text = read_to_end(process, self._command.timeout_s)
        if code != 0:
            raise ModelError("the command exited with %d: %s" % (code, complaint(text)))
        return parse_output(text)


def read_to_end(process: "subprocess.Popen[bytes]", timeout_s: float) -> Tuple[int, str]:
    """Return exit code and output (its last MiB). Raises TimeoutError when it takes too long."""
    assert process.stdout is not None  # asked for
    output = bytearray()
    due = time.monotonic() + timeout_s
    try:
        while True:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, due - time.monotonic()))
            if not ready:
                raise TimeoutError("the command ran longer than %g s" % timeout_s)
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            output += data
            del output[:-_OUTPUT_BYTES]
        code = process.wait(max(1.0, due - time.monotonic()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return code, output.decode("utf-8", "replace")
