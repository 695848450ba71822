"""Soaks of the emulated Pi as a user has them: hours in minutes, interrupted, attached to; a leak."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.repository import Repository

from harness.emulation import list_machines, stop_machine
from harness.soak.table import read_table
from harness.store import read_session

pytestmark = pytest.mark.device
ROOT = Path(__file__).resolve().parents[2]
LEAKING = ROOT / "tests" / "support" / "leaking_command.py"
TIMEOUT_S = 1200.0  # only ends what hangs
# the script is the model's file, so that it goes to the device as any model does
PLAN = f"""
[runtimes.leaky]
kind = "command"
argv = ["python3", "{{model}}", "--leak", "20000"]
protocol = "json-lines"
[runtimes.cached]
kind = "command"
argv = ["python3", "{{model}}", "--leak", "50000", "--drop-every", "6"]
protocol = "json-lines"
[soak.limits.per_h]
rss_bytes = "50 kB"
[models.leaking]
path = "{LEAKING}"
runtime = "leaky"
[models.leaking.soak]
beside = ["sawtooth"]
[models.sawtooth]
path = "{LEAKING}"
runtime = "cached"
[models.digits]
path = "{ROOT / "models" / "digits_int8.onnx"}"
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Repository]:
    """Return a repository with an emulated unit of its own; its machine is down afterwards."""
    made = Repository.make(tmp_path / "theirs")
    devices = made.root / "devices.toml"
    name = f"rpi4-{secrets.token_hex(4)}"
    devices.write_text(devices.read_text().replace("rpi4-emulated", name))
    made.write_plan(PLAN)
    yield made
    if name in {machine.name for machine in list_machines()}:
        stop_machine(name)


def harness(repository: Repository, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli.main", *argv],
        cwd=repository.root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HIL_HARNESS_STATE": str(repository.root / "state")},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
    )


def test_six_hours_interrupted_and_gone_on_with(theirs):
    running = theirs.start("--device", "rpi4", "--soak", "6h", "--model", "digits")
    soaks = theirs.root / "reports" / "soaks"
    running.wait_for_match(soaks, "*/segments/00000001.seg")
    (ledger,) = soaks.iterdir()
    running.interrupt()
    left = running.finish()
    assert left.returncode == 2, left.output
    assert f"harness soak attach {ledger.name}" in left.output
    shown = harness(theirs, "soak", "status", ledger.name)
    assert "compressed" in shown.stdout.splitlines()[0], shown.stdout + shown.stderr
    done = harness(theirs, "soak", "attach", ledger.name)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = read_session(theirs.root / "reports" / f"soak-{ledger.name}").runs
    told = run.settings["soak"]
    assert (told["compressed"], told["duration_s"], told["window_s"]) == (True, 21600.0, 60.0)
    assert told["coverage_ratio"] > 0.99
    assert len(told["lives"]) == 1
    times = next(s for s in run.series if s.name == "soak.t_s").values
    # none lost, none twice; on a busy host several may be one long window
    table = read_table(ledger)
    assert (table.missing_seq, table.doubled_seq, table.merged.sum()) == ((), (), 360)
    assert times.size == len(set(times.tolist())) == len(table.merged)
    verdicts = {row["metric"]: row["verdict"] for row in told["drift"]}
    assert verdicts["rss_drift_bytes_per_h"] == "PASS"
    assert not [m for m in list_machines() if m.name == run.device.name]  # it ended with its soak


def test_a_leak_is_found_and_a_cache_that_fills_and_is_dropped_beside_it_is_none(theirs):
    devices = theirs.root / "devices.toml"
    # a window a call, as in 72 hours
    devices.write_text(devices.read_text().replace('window_s = "60 s"', 'window_s = "300 s"'))
    done = theirs.pytest("--device", "rpi4", "--soak", "8h", "--model", "leaking")
    assert done.returncode == 1, done.output
    found = {row["scenario"]: row for row in done.results("rss_drift_bytes_per_h")}
    leak, cache = found["soak"], found["soak: sawtooth"]
    assert leak["verdict"] == "FAIL"
    assert 200e3 < leak["value"] < 300e3  # 20 kB a call, twelve calls an hour
    assert "FAIL: rss_drift_bytes_per_h" in done.output
    assert cache["verdict"] == "PASS", cache["reasons"]
