"""A user's repository whose plan has labels and margins, and sessions in it that take few samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.cli.main import main
from support.repository import Finished, Repository
from support.tiny import MODELS

# What a session says is tested here, not how well it measures: fewer processes and shorter windows will do,
# and a busy host must not make times INVALID (as ANY_LOAD). The rules stay the product's own.
FEWER = """
import dataclasses

from harness.measure import duet, envelope, latency, paced, rate_search, server, single_stream

single_stream.MIN_CPU_SHARE = 0.0
envelope.MAX_STEAL_RATIO = envelope.MAX_MEMORY_PRESSURE_RATIO = 64.0
envelope.MAX_SWAP_GROWTH_BYTES = 1 << 60

duet.MEASURED = dataclasses.replace(duet.MEASURED, duets=3, pairs=4)
latency.MEASURED = dataclasses.replace(
    latency.MEASURED, processes=3, iterations=250, min_process_s=0.05, batch_sizes=(1, 2)
)
paced.MEASURED = dataclasses.replace(paced.MEASURED, processes=2, min_s=0.3)
rate_search.TOLERANCE = 2.0
server.LONGEST_S = 1.0
"""
N_SAMPLES, N_WRONG = 400, 20
# tiny.onnx takes some us a call, heavy.onnx some 20 times as long (tests/data/models/README.md). Margins are
# wide: a busy host must not turn what is the same into a regression.
PLAN = f"""
[release]
device_types = ["local"]
required_suites = ["deploy"]
[models.door]
path = "{MODELS}/tiny.onnx"
inputs = "in.npz"
task = "accuracy"
[models.gate]
path = "{MODELS}/tiny.onnx"
[budgets.local.door]
latency_p50_ns = {{ margin = "50 %" }}
private_dirty_bytes = {{ margin = "50 %" }}
[budgets.local.gate]
latency_p50_ns = {{ margin = "50 %" }}
"""
TINY, HEAVY = str(MODELS / "tiny.onnx"), str(MODELS / "heavy.onnx")
AGAINST_LATENCY = "test_latency and against"


def make(root: Path, plan: str = PLAN) -> Repository:
    """Return a repository in the new folder `root` with PLAN, its inputs and fewer samples."""
    repository = Repository.make(root)
    repository.write_plan(plan)
    write_inputs(root / "suites" / "in.npz")
    with (root / "suites" / "conftest.py").open("a") as file:
        file.write(FEWER)
    return repository


def write_inputs(path: Path) -> None:
    """Write N_SAMPLES seeded samples of tiny.onnx and their labels: its own answers, but for N_WRONG."""
    import onnxruntime

    x = np.random.default_rng(5).normal(size=(N_SAMPLES, 4)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(MODELS / "tiny.onnx").run(None, {"x": x})
    labels = y.argmax(axis=1)
    labels[:N_WRONG] = (labels[:N_WRONG] + 1) % y.shape[1]
    np.savez(path, x=x, labels=labels)


def on_local(repository: Repository, report: str, *args: str) -> Finished:
    """Run a session on this host whose folder is `report`."""
    return repository.pytest("--device", "local", *args, report=report)


def harness(repository: Repository, *args: str) -> int:
    """Call the `harness` command as in the repository's folder; return its exit code."""
    command, *rest = args
    return main([command, "--devices", str(repository.root / "devices.toml"), *rest])


def compared(done: Finished, metric: str) -> dict[str, Any]:
    """Return the one row that compares `metric`."""
    (row,) = (row for row in done.results(metric) if row.get("comparison"))
    return row
