"""A whole warm session on the emulated Pi: time to the first sample, and the share outside measured windows.

    pytest suites/ --device rpi4 --model models/digits_fp32.onnx

Warm: image, snapshots and runtimes are in the cache. *Measured windows* are when the device loads or runs
the model for a suite (windows.py), as the host's clock sees them; everything else counts as outside: start
of Python and pytest, restores, pushes, processes and imports on the device, the reference on the host, the
store, the report. The limit of the first sample is a script that needs no harness: restore the same state,
then run bare.py there over ssh.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import devices
from benchmarks.boots import until_command_s
from benchmarks.processes import time_command
from benchmarks.table import Goal, Row, compute_covered, compute_paired_ratio
from benchmarks.windows import ENV_FILE
from harness import board as boards
from harness.connect.openssh import ssh_argv
from harness.connect.qemu import QemuConnection, compute_address
from harness.emulation import Profile
from harness.errors import EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_INVALID, EXIT_PASS

FIRST_SAMPLE_GOAL = 2.0  # times the script's: chosen
VERDICTS = (EXIT_PASS, EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_INVALID)  # time is asked for, not quality


@dataclass(frozen=True)
class Timeline:
    """One session: all of it, until the first sample, and what lies outside measured windows, in s."""

    whole_s: float
    first_sample_s: float
    outside_s: float


def run(quick: bool) -> list[Row]:
    """Return two rows."""
    count = 1 if quick else 2
    take_session()  # warms the cache
    sessions, scripts = [], []
    for _ in range(count):
        sessions.append(take_session())
        scripts.append(_script_s())
    first = [s.first_sample_s for s in sessions]
    outside = [s.outside_s / s.whole_s for s in sessions]
    whole_s = statistics.median(s.whole_s for s in sessions)
    return [
        Row(
            "pytest command to first sample, warm", "s", statistics.median(first), statistics.median(scripts),
            "restore and a bare script over ssh", Goal("ratio", high=FIRST_SAMPLE_GOAL), count,
            compute_paired_ratio(first, scripts),
        ),
        Row(
            f"share outside measured windows, of a session of {whole_s:.0f} s", "share",
            statistics.median(outside), n=count,
        ),
    ]  # fmt: skip


def take_session() -> Timeline:
    """Run the suites once, on a device of its own name, and return how its time went."""
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as folder:
        windows = Path(folder) / "windows.json"
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.windows", "suites/"]
        argv += ["--device", devices.EMULATED, "--model", str(devices.MODEL)]
        argv += ["--report-dir", str(Path(folder) / "report")]
        begin_s = time.monotonic()
        whole_s = time_command(argv, env={ENV_FILE: str(windows)}, expected=VERDICTS)
        return compute_timeline(json.loads(windows.read_text()), begin_s, whole_s)


def compute_timeline(windows: list[dict[str, Any]], begin_s: float, whole_s: float) -> Timeline:
    """Return the timeline of a session. A sample is the reply to the first call or block of calls."""
    on_device = [w for w in windows if w["device"] == devices.EMULATED]
    sampled_s = min(w["end_s"] for w in on_device if w["op"] in ("first", "measure"))
    spans = [(w["begin_s"], w["end_s"]) for w in on_device]
    covered_s = compute_covered(spans, begin_s, begin_s + whole_s)
    return Timeline(whole_s, sampled_s - begin_s, whole_s - covered_s)


def _script_s() -> float:
    """Return how long it takes without any suite: restore, ssh, import, load, two calls."""
    case, device = devices.resolve(devices.MODEL), devices.emulated_device()
    restore_s = until_command_s(Profile.FUNCTIONAL)
    board = boards.open_board(device, boards.FUNCTIONAL, [devices.request_of(case)], devices.quiet())
    with devices.closing(board):
        bench = devices.ready(board, case)
        script = f"{board.connection.home()}/bare.py"
        board.connection.push(Path(__file__).with_name("bare.py"), script, timeout_s=60)
        if not isinstance(board.connection, QemuConnection):
            raise TypeError(f"{type(board.connection).__name__} leads to no emulated device")
        argv = [device.type.python, script, devices.site_of(bench), bench.deployed.path, bench.inputs_path]
        address = compute_address(board.connection.machine)
        begin = time.monotonic()
        done = subprocess.run(
            ssh_argv(address, [*argv, "1", "-1"]), input="1\n", capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise RuntimeError(f"the bare script exited with {done.returncode}: {done.stderr.strip()[-400:]}")
        return restore_s + time.monotonic() - begin
