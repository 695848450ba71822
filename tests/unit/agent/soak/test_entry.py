"""The runner's process around its run: the log, and the boot hook that goes when the soak has ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.agent.soak.folder import SoakFolder

ROOT = Path(__file__).parents[4]
ID = "20260102-030405-abcd"
# a run that writes `end` when told to, in a home whose user has only ~/.hil-boot
CODE = """
import os, sys
from harness.agent.soak import entry, hooks, runner
from harness.agent.soak.folder import SoakFolder

home, soak_id, reason = sys.argv[1:]
hooks.hook_path = lambda: home + "/.hil-boot"

def run_soak(home, soak_id, location):
    print("runs", location, os.getcwd(), os.readlink("/proc/self/fd/0"), flush=True)
    spool = SoakFolder(home, soak_id).open_spool()
    spool.write([{"k": "life", "life": 1, "t_ns": 0}])
    if reason:
        spool.write([{"k": "end", "life": 1, "t_ns": 1, "reason": reason}])
    return 0

runner.run_soak = run_soak
sys.exit(entry.run_entry(home, soak_id, "/agent"))
"""


def run(home: Path, reason: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE, str(home), ID, reason],
        env={"PATH": str(home), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def soak(tmp_path: Path) -> SoakFolder:
    folder = SoakFolder(str(tmp_path), ID)
    Path(folder.path).mkdir(parents=True)
    folder.write_object("spec.json", {"max_spool_bytes": 1 << 20, "reserve_bytes": 0})
    (tmp_path / ".hil-boot").write_text(f"mine\nrunner & # hil-soak {ID}\n")
    return folder


def test_an_ended_soak_leaves_no_hook(soak: SoakFolder, tmp_path: Path) -> None:
    done = run(tmp_path, "duration")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert soak.log_tail() == "runs /agent / /dev/null"
    assert (tmp_path / ".hil-boot").read_text() == "mine\n"


def test_a_life_that_ends_leaves_the_hook(soak: SoakFolder, tmp_path: Path) -> None:
    assert run(tmp_path, "").returncode == 0
    assert ID in (tmp_path / ".hil-boot").read_text()


def test_a_soak_whose_folder_is_gone_is_not_started_again(soak: SoakFolder, tmp_path: Path) -> None:
    Path(soak.file("spec.json")).unlink()
    done = run(tmp_path, "duration")
    assert done.returncode == 5
    assert "there is none on this device" in done.stderr
    assert (tmp_path / ".hil-boot").read_text() == "mine\n"
