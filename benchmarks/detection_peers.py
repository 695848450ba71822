"""The peers of the detection table in their own flows, and what they would have said of banked results.

pytest-benchmark: one process saves a baseline, another compares, `--benchmark-compare-fail=median:N%`.
pyperf: `run` in 20 processes each, then `compare_to`, which asks for significance.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bank import Around

HERE = Path(__file__).parent
ENV = "HIL_BENCH_PEER"
PYTEST_BENCHMARK, PYPERF = "pytest-benchmark", "pyperf"
NAMES = (PYTEST_BENCHMARK, PYPERF)
# of one pytest-benchmark process: two of them take about as long as our comparison at its cap
MAX_TIME_S = 8.0
PYPERF_PROCESSES = 20  # pyperf's default
# whole percents are what --benchmark-compare-fail takes; 0.5% is that of its check, asked from Python
THRESHOLDS = (5.0, 1.0, 0.5)


@dataclass(frozen=True)
class PeerRun:
    """One side of a peer's comparison: what it kept, and the wall time that took."""

    wall_s: float
    data: Mapping[str, Any]


def encode_run(run: PeerRun, around: Around) -> bytes:
    return json.dumps({"wall_s": run.wall_s, "data": run.data, "around": asdict(around)}).encode()


def decode_run(data: bytes) -> tuple[PeerRun, Around]:
    """Return what `encode_run` wrote."""
    found = json.loads(data)
    return PeerRun(found["wall_s"], found["data"]), Around(**found["around"])


def take(name: str, load_args: Sequence[Any]) -> PeerRun:
    """Run one side of a peer's comparison; `load_args` are those of bare.load.

    Raises RuntimeError with the tail of its output where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        argv = _argv(name, target)
        begin = time.monotonic()
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**os.environ, ENV: json.dumps(list(load_args)), "PYTHONPATH": str(HERE)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        wall_s = time.monotonic() - begin
        if done.returncode or not target.is_file():
            tail = (done.stdout + done.stderr).strip()[-600:]
            raise RuntimeError(f"{name} exited with {done.returncode}: {tail}")
        data = json.loads(target.read_text())
    if name == PYTEST_BENCHMARK:
        (only,) = data["benchmarks"]
        stats = {k: v for k, v in only["stats"].items() if k != "data"}
        data = {"stats": stats}
    return PeerRun(wall_s, data)


def _argv(name: str, target: Path) -> list[str]:
    if name == PYTEST_BENCHMARK:
        argv = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider"]
        argv += [f"--rootdir={HERE}", f"--benchmark-json={target}", f"--benchmark-max-time={MAX_TIME_S}"]
        return [*argv, str(HERE / "peer_test.py")]
    argv = [sys.executable, str(HERE / "peer_pyperf.py"), "--quiet", "-o", str(target)]
    return [*argv, "--processes", str(PYPERF_PROCESSES), "--inherit-environ", f"{ENV},PYTHONPATH"]


# --- what they say --------------------------------------------------------------------------------


def pytest_benchmark_trial(
    baseline: Sequence[PeerRun], candidate: Sequence[PeerRun], threshold: float, seed: int
) -> bool:
    """Return whether `--benchmark-compare-fail=median:<threshold>%` fails one run of each.

    The two runs are never the same one. Raises ValueError where there aren't two.
    """
    from pytest_benchmark.utils import PercentageRegressionCheck

    order = random.Random(seed)
    old = order.choice(baseline)
    others = [run for run in candidate if run is not old]
    if not others:
        raise ValueError("a comparison takes two runs")
    new = order.choice(others)
    check = PercentageRegressionCheck("median", threshold)
    return check.fails(new.data["stats"], old.data["stats"]) is not None


def pyperf_trial(
    baseline: Sequence[Any], candidate: Sequence[Any], min_speed: float | None, seed: int
) -> bool:
    """Return whether `pyperf compare_to [--min-speed]` says that the candidate is slower, significantly.

    Each side is PYPERF_PROCESSES processes (`processes_of`), drawn anew with replacement.
    """
    import pyperf
    from pyperf._compare import CompareData, CompareResult

    order = random.Random(seed)
    old, new = (
        pyperf.Benchmark([order.choice(processes) for _ in range(PYPERF_PROCESSES)])
        for processes in (baseline, candidate)
    )
    result = CompareResult(CompareData("baseline", old), CompareData("candidate", new), min_speed)
    return bool(result.significant) and result.norm_mean > 1


def processes_of(runs: Sequence[PeerRun]) -> list[Any]:
    """Return the processes of pyperf's runs that hold values; its calibration holds none."""
    import pyperf

    suites = [pyperf.BenchmarkSuite.loads(json.dumps(run.data)) for run in runs]
    return [p for suite in suites for p in suite.get_benchmarks()[0].get_runs() if p.values]
