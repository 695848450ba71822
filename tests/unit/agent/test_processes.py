"""Why a child died, told from the evidence; and the page of the protocol names every op."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent.faults import KINDS, Fault
from harness.agent.ops import OPS
from harness.agent.probes import Probes
from harness.agent.processes import ChildProcess, check_cpus, child_environment

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "agent-protocol.md").read_text("utf-8")
SOAK_PAGE = (DOCS / "soak-format.md").read_text("utf-8")


class Kernel(Probes):
    """A kernel that has killed `kills` processes for want of memory."""

    def __init__(self, kills: int | None) -> None:
        super().__init__("/nowhere")
        self.kills = kills

    def oom_kills(self) -> int | None:
        return self.kills


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    code = "import sys, time; print('last words', file=sys.stderr, flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    made = ChildProcess("c", process, 5)
    yield made
    process.kill()
    process.wait()
    made.close()


@pytest.mark.parametrize(
    ("before", "after", "oom"), [(5, 6, True), (5, 5, False), (None, 6, False), (5, None, False)]
)
def test_oom_needs_evidence(child: ChildProcess, before: int | None, after: int | None, oom: bool) -> None:
    child._oom_kills = before
    child.process.kill()
    fault = child.death(Kernel(after))
    assert fault.details["oom"] is oom
    assert fault.details["signal"] == 9
    assert ("out of memory" in fault.message) is oom


def test_what_the_agent_killed_is_no_oom(child: ChildProcess) -> None:
    child.kill("it wrote rubbish")
    fault = child.death(Kernel(6))
    assert not fault.details["oom"]
    assert fault.details["killed_by_agent"]
    assert "ended by the agent: it wrote rubbish" in fault.message


def test_last_words_are_kept(child: ChildProcess) -> None:
    assert child.process.stderr is not None
    while not child._stderr:
        child.read_stderr()
    child.process.terminate()
    fault = child.death(Kernel(5))
    assert fault.message == "child `c` died of signal 15 (SIGTERM): last words"
    assert fault.details["stderr_tail"] == "last words\n"
    assert fault.details["exit_code"] is None


@pytest.mark.parametrize("extra", [{"A=B": "1"}, {"": "1"}, {"A": 1}, {"A": "x\0"}])
def test_odd_environment_variables_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(Fault, match="env_vars"):
        child_environment(1, extra)


def test_no_cpus_means_no_pinning() -> None:
    assert check_cpus([]) == []


def test_the_pages_name_every_op_and_kind() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE + SOAK_PAGE, re.MULTILINE))
    assert set(OPS) | {"spawn", "child", "sample", "reap", "bye"} <= rows
    assert {"load", "set_inputs", "first", "measure", "infer", "exit"} <= rows
    assert all(f"`{kind}`" in PAGE for kind in KINDS)
