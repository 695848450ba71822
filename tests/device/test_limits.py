"""Limits of a measured process on a real kernel: memory, CPU, and what is left of them afterwards."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.device import emulated_device

from harness.connect.qemu import QemuConnection
from harness.errors import (
    AgentError,
    ConfigError,
    ConnectionLost,
    ModelRejected,
    RuntimeUnavailable,
    Unsupported,
)
from harness.remote import AgentClient, Child

pytestmark = pytest.mark.device
LONG_S = 600.0  # only ends what hangs
MIB = 1 << 20
GROUPS = "/sys/fs/cgroup/harness"
ADAPTER = b"""
NAME = "eater"


def version():
    return "1"


def load(model_path, threads, options):
    return Session(options)


class Session:
    inputs = [{"name": "x", "shape": [None, 1], "dtype": "float32"}]
    outputs = inputs
    raw = True

    def __init__(self, options):
        self.held = bytearray(b"x") * options.get("bytes", 0)
        self.turns = options.get("turns", 0)

    def prepare(self, feeds):
        def invoke():
            for _ in range(self.turns):
                pass
            self.last = feeds["x"]

        return invoke

    def read_outputs(self):
        return {"x": self.last}
"""


class Bench:
    """An agent on a board, with an environment that only eats."""

    def __init__(self, connection: QemuConnection) -> None:
        self.connection = connection
        self.client = AgentClient.start(connection, timeout_s=LONG_S)
        self.env = ""

    def install(self, folder: Path) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo("adapter.py")
            member.size = len(ADAPTER)
            tar.addfile(member, io.BytesIO(ADAPTER))
        data = buffer.getvalue()
        self.env = hashlib.sha256(data).hexdigest()
        (folder / "env.tar").write_bytes(data)
        self.connection.push(
            folder / "env.tar", f"{self.connection.home()}/incoming/env.tar", timeout_s=LONG_S
        )
        self.client.request("env_install", {"incoming": "env.tar", "sha256": self.env})

    def spawn(self, **cgroup: int) -> Child:
        return self.client.spawn("it", env=self.env, adapter="env", cgroup=cgroup)

    def groups(self) -> list[str]:
        """Return the groups of children that there are."""
        names = self.connection.run(["ls", GROUPS], timeout_s=LONG_S).stdout.decode().split()
        return [name for name in names if name.startswith("hil-")]


def load(child: Child, **options: Any) -> None:
    child.load("/etc/hostname", options=options)
    child.set_inputs(arrays={"x": np.zeros((1, 1), dtype=np.float32)})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    device = emulated_device("rpi4-limits")
    connection = QemuConnection.open(device, profile="timing")
    try:
        made = Bench(connection)
        made.install(tmp_path_factory.mktemp("env"))
        yield made
        made.client.close()
        assert made.groups() == []
    finally:
        connection.close()


def test_a_child_within_its_memory_shows_its_peak(bench):
    child = bench.spawn(memory_max_bytes=64 * MIB)
    load(child, bytes=24 * MIB)
    sample = child.sample()
    assert sample.cgroup_max_bytes == 64 * MIB
    assert 24 * MIB < sample.cgroup_peak_bytes < 64 * MIB
    assert len(bench.groups()) == 1
    child.close()
    assert bench.groups() == []


def test_a_child_over_its_memory_is_killed_and_told_by_its_limit(bench):
    child = bench.spawn(memory_max_bytes=64 * MIB)
    with pytest.raises(ModelRejected, match="out of memory") as caught:
        load(child, bytes=100 * MIB)
    text = str(caught.value)
    assert f"its limit is {64 * MIB} bytes (memory.max), its peak was {64 * MIB}" in text
    assert "during `load`" in text
    assert bench.groups() == []
    child.close()


def test_another_child_is_not_touched_by_it(bench):
    other = bench.client.spawn("other", env=bench.env, adapter="env")
    child = bench.spawn(memory_max_bytes=32 * MIB)
    with pytest.raises(ModelRejected, match="out of memory"):
        load(child, bytes=100 * MIB)
    load(other, bytes=100 * MIB)
    sample = other.sample()
    assert sample.vm_hwm_bytes > 100 * MIB
    assert (sample.cgroup_max_bytes, sample.cgroup_peak_bytes) == (None, None)
    other.close()


def test_half_a_core_takes_twice_as_long(bench):
    medians = []
    for cgroup in ({}, {"cpu_quota_us": 1000, "cpu_period_us": 2000}):
        child = bench.spawn(**cgroup)
        load(child, turns=200_000)
        block = child.measure(iterations=40, warmup_max=8)
        medians.append(float(np.median(block.latency_ns)))
        child.close()
    assert 1.8 < medians[1] / medians[0] < 2.2  # seen: 2.017 and 2.019


def test_a_runtime_that_does_not_fit_its_memory(bench):
    with pytest.raises(RuntimeUnavailable, match="out of memory"):
        bench.spawn(memory_max_bytes=2 * MIB)
    assert bench.groups() == []


@pytest.mark.parametrize(
    ("cgroup", "text"),
    [
        ({"memory_max_byte": 1}, "`memory_max_byte` is unknown"),
        ({"cpu_quota_us": 10}, "`cpu_quota_us` is 10, expected a whole number from 1000"),
        ({"cpu_period_us": 2000}, "give `memory_max_bytes`, `cpu_quota_us` or both"),
        ({"memory_max_bytes": 0}, "`memory_max_bytes` is 0"),
    ],
)
def test_limits_that_make_no_sense(bench, cgroup, text):
    with pytest.raises(ConfigError, match=text):
        bench.spawn(**cgroup)
    assert bench.groups() == []


def test_groups_of_a_killed_agent_are_removed_by_the_next(bench):
    second = AgentClient.start(bench.connection, timeout_s=LONG_S)
    second.spawn("left", env=bench.env, adapter="env", cgroup={"memory_max_bytes": 64 * MIB})
    (left,) = bench.groups()
    assert str(second.hello["pid"]) in left
    bench.connection.run(["kill", "-9", str(second.hello["pid"])], timeout_s=LONG_S)
    with pytest.raises((AgentError, ConnectionLost)):
        second.request("facts")
    second.close()
    mine = bench.spawn(memory_max_bytes=64 * MIB)
    AgentClient.start(bench.connection, timeout_s=LONG_S).close()
    assert len(bench.groups()) == 1  # that of the living agent
    mine.close()


def test_memory_under_the_limit_is_not_swapped(bench):
    child = bench.spawn(memory_max_bytes=64 * MIB)
    (group,) = bench.groups()
    read = bench.connection.run(
        ["cat", *(f"{GROUPS}/{group}/{file}" for file in ("memory.swap.max", "memory.oom.group"))],
        timeout_s=LONG_S,
    )
    assert read.stdout.decode().split() == ["0", "1"]
    child.close()
    assert os.path.basename(group) not in bench.groups()


def test_what_the_board_shows_of_its_load(bench):
    found = bench.client.request("conditions").args
    for name in ("cpu", "memory", "io"):
        assert 0.0 <= found[f"psi_{name}_some_avg10"] <= 100.0
    assert set(found["cpu_busy_ns"]) == {"total", "cpu0"}
    assert 0 < found["agent_cpu_ns"] < found["cpu_busy_ns"]["total"]
    assert (found["steal_ns"], found["swap_used_bytes"]) == (0, 0)


def test_a_board_without_frequencies_has_no_governor(bench):
    with pytest.raises(Unsupported, match=r"no governor: .*/scaling_governor: no such file"):
        bench.client.request("set_governor", {"governor": "performance"})
