"""What the timing profile promises: time and instructions that repeat, for user `pi` too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.device import emulated_device
from support.turns import LONG_S, agent_on, loaded

from harness.agent.model import SETTLE_NS
from harness.connect.qemu import QemuConnection
from harness.remote import AgentClient, Child

pytestmark = pytest.mark.device
TURNS = 100_000  # some ms of guest time


@pytest.fixture(scope="module")
def connection() -> Iterator[QemuConnection]:
    device = dataclasses.replace(emulated_device(), name="rpi4-virtual-clock")
    connection = QemuConnection.open(device, profile="timing")
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def ready(connection: QemuConnection) -> Iterator[tuple[AgentClient, str]]:
    with agent_on(connection) as started:
        yield started


@pytest.fixture
def pair(ready: tuple[AgentClient, str]) -> Iterator[list[Child]]:
    children = [loaded(ready[0], name, ready[1], turns=TURNS) for name in ("candidate", "baseline")]
    yield children
    for child in children:
        child.close()


def test_instructions_repeat(pair: list[Child]) -> None:
    windows = [child.measure(iterations=16, warmup_max=8, timeout_s=LONG_S) for child in pair for _ in "123"]
    counts = [window.instructions for window in windows]
    assert all(counts), windows[0].not_counted
    assert max(counts) / min(counts) < 1.0005
    assert min(counts) > 16 * TURNS


def test_a_duet_of_one_model_shows_no_difference(ready: tuple[AgentClient, str], pair: list[Child]) -> None:
    duet = ready[0].duet(
        pair, pairs=6, seed=5, block_calls=4, settle_ns=SETTLE_NS, warmup_max=8, timeout_s=LONG_S
    )
    medians = np.array(
        [[np.median(arm.latency_ns[arm.block == k]) for k in range(duet.pairs_got)] for arm in duet.arms]
    )
    assert abs(np.median(np.log(medians[0] / medians[1]))) < 5e-4
    for arm in duet.arms:
        assert arm.instructions is not None, arm.not_counted
        assert np.ptp(arm.instructions) / arm.instructions.min() < 1e-3


def test_a_schedule_holds_on_one_core(pair: list[Child]) -> None:
    block = pair[0].paced(np.arange(10) * 20_000_000, spin_ns=10**9, timeout_s=LONG_S)
    assert block.ended_by == "schedule"
    assert np.median(block.start_ns - block.due_ns) < 100_000


def loop_state(connection: QemuConnection) -> str:
    argv = ["sh", "-c", "cat /proc/$(cat /run/hil/spin.pid)/stat"]
    stat = connection.run(argv, timeout_s=LONG_S).stdout
    return stat.decode().rpartition(")")[2].split()[0]


def test_the_busy_loop_takes_no_turn_in_what_is_timed(connection: QemuConnection, pair: list[Child]) -> None:
    # it took 4 ms of one call every 1.3 s
    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(pair[0].measure, iterations=2000, warmup_max=8, timeout_s=LONG_S)
        states = {"R"}
        while "T" not in states and not measured.done():
            states.add(loop_state(connection))
        assert measured.result().latency_ns.size == 2000
    assert "T" in states
    assert loop_state(connection) == "R"


# holds memory that huge pages could be made of, and prints how often khugepaged ran: at first, and 40 s later
WATCH = """
import glob, time
held = bytearray(32 << 20)
def switches():
    folders = (p[: -len("comm")] for p in glob.glob("/proc/[0-9]*/comm") if open(p).read() == "khugepaged\\n")
    (folder,) = folders
    return sum(int(line.split()[1]) for line in open(folder + "status") if "ctxt_switches" in line)
time.sleep(2)
print(switches())
time.sleep(40)
print(switches())
"""


def test_no_huge_page_is_made_behind_the_back_of_what_is_timed(connection: QemuConnection) -> None:
    # at its default of every 10 s it took 5 ms out of a timed call; here idle seconds fly by
    connection.machine.set_spin(False)
    said = connection.run(["python3", "-c", WATCH], timeout_s=LONG_S).stdout
    connection.machine.set_spin(True)
    before, after = map(int, said.split())
    assert after == before > 0
