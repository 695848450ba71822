"""Duets and schedules over every connection, with real processes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from support.bench import Bench
from support.turns import agent_on, calls_of, loaded

from harness.remote import AgentClient, Child, DuetArm

MS = 1_000_000
Ready = tuple[AgentClient, str]


@pytest.fixture(scope="module")
def ready(bench: Bench) -> Iterator[Ready]:
    with agent_on(bench.connection) as started:
        yield started


@pytest.fixture
def pair(ready: Ready) -> Iterator[list[Child]]:
    client, sha256 = ready
    children = [loaded(client, name, sha256, call_s=0.001) for name in ("candidate", "baseline")]
    yield children
    for child in children:
        child.close()


def test_two_children_take_turns(ready: Ready, pair: list[Child]) -> None:
    duet = ready[0].duet(pair, pairs=6, seed=11, block_ns=5 * MS, block_calls=3, warmup_max=20)
    draw = random.Random(11)
    assert duet.order.tolist() == [draw.getrandbits(1) for _ in range(6)]
    assert (duet.pairs_got, duet.ended_by, duet.seed, duet.clock) == (6, "pairs", 11, "CLOCK_MONOTONIC")
    assert [arm.child for arm in duet.arms] == ["candidate", "baseline"]
    for arm, child in zip(duet.arms, pair, strict=True):
        assert arm.calls >= 3
        assert arm.block.tolist() == [k for k in range(6) for _ in range(arm.calls)]
        assert arm.latency_ns.dtype == arm.start_ns.dtype == np.int64
        assert (arm.latency_ns >= MS).all()
        assert (np.diff(arm.start_ns) >= MS).all()
        # warm-up, one dropped call a block, the timed ones, and the look at the state itself
        assert calls_of(child) == arm.warmup_iterations + 6 * (1 + arm.calls) + 1
        assert (arm.instructions is None) == bool(arm.not_counted)
    check_that_blocks_alternate(duet.arms, duet.order.tolist())


def check_that_blocks_alternate(arms: tuple[DuetArm, DuetArm], order: list[int]) -> None:
    """Every block lies whole between the other arm's: nobody called out of turn."""
    spans = []
    for pair, first in enumerate(order):
        for arm in (first, 1 - first):
            mine = arms[arm].block == pair
            begun, took = arms[arm].start_ns[mine], arms[arm].latency_ns[mine]
            spans += [begun[0], begun[-1] + took[-1]]
    assert spans == sorted(spans)


def test_a_duet_ends_in_time_with_whole_pairs(ready: Ready, pair: list[Child]) -> None:
    duet = ready[0].duet(pair, pairs=1000, seed=1, block_ns=1, block_calls=2, max_duration_ns=30 * MS)
    assert duet.ended_by == "max_duration"
    assert 2 <= duet.pairs_got < 1000
    assert [len(arm.latency_ns) for arm in duet.arms] == [duet.pairs_got * arm.calls for arm in duet.arms]


def test_a_schedule_is_kept(pair: list[Child]) -> None:
    offsets = np.arange(20) * 4 * MS
    block = pair[0].paced(offsets, warmup_max=10)
    assert block.ended_by == "schedule"
    assert np.array_equal(block.due_ns - block.due_ns[0], offsets)
    assert (block.start_ns >= block.due_ns).all()
    assert (block.end_ns - block.start_ns >= MS).all()
    assert (block.latency_ns >= MS).all()
    assert block.clock == "CLOCK_MONOTONIC"


def test_a_rate_that_is_too_high_ends_early(pair: list[Child]) -> None:
    block = pair[0].paced(np.arange(2000) * 1000, max_behind_ns=5 * MS)
    assert block.ended_by == "overload"
    assert len(block.due_ns) == len(block.end_ns) < 2000
    assert block.iterations_requested == 2000
    assert (np.diff(block.start_ns) >= MS).all()  # first in, first out, none left out


def test_a_query_of_several_calls(pair: list[Child]) -> None:
    block = pair[0].measure(iterations=5, warmup_max=4, calls_per_query=3)
    assert block.calls_per_query == 3
    assert len(block.latency_ns) == 5
    assert (block.latency_ns >= 3 * MS).all()
    assert (block.instructions is None) == bool(block.not_counted)
