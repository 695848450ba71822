"""Counting instructions: what a reading means, and what stands in for a count that can't be had."""

from __future__ import annotations

import errno
import os

import pytest

from harness.agent import instructions
from harness.agent.instructions import Counter, Reading, open_counter, refusal


def test_a_difference_is_exact_or_none() -> None:
    counter = Counter(-1)
    assert counter.between(Reading(1000, 10, 10), Reading(5500, 30, 30)) == 4500
    assert counter.between(None, Reading(5500, 30, 30)) is None
    assert counter.reason == ""


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (Reading(5500, 40, 30), "others used the counter too"),
        (Reading(1000, 30, 30), "stands still"),
    ],
)
def test_a_share_of_a_count_is_none(after: Reading, reason: str) -> None:
    counter = Counter(-1)
    assert counter.between(Reading(1000, 10, 10), after) is None
    assert reason in counter.reason
    assert counter.read() is None  # it doesn't try again
    counter.stop("something else")
    assert reason in counter.reason


def test_a_counter_reads_three_numbers() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"".join(n.to_bytes(8, "little") for n in (7, 8, 9)))
    counter = Counter(reader)
    assert counter.read() == (7, 8, 9)
    counter.close()
    counter.close()
    assert counter.read() is None
    assert counter.reason
    os.close(writer)


def test_several_threads_are_not_counted() -> None:
    counter = open_counter(2)
    assert counter.read() is None
    assert "only one thread can be counted, the runtime has 2" in counter.reason


def test_another_architecture_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "_NUMBERS", {})
    assert f"perf_event_open on {os.uname().machine}" in open_counter(1).reason


def test_here_it_counts_or_says_why() -> None:
    counter = open_counter(1)
    before = counter.read()
    for _ in range(10_000):
        pass
    count = counter.between(before, counter.read())
    assert (count is None) == bool(counter.reason)
    assert count is None or count > 10_000
    counter.close()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOENT, "shows no instruction counter"),
        (errno.EACCES, "perf_event_paranoid is"),
        (errno.EPERM, "at most 2 lets a user count"),
        (errno.ENOSYS, "perf_event_open: Function not implemented"),
    ],
)
def test_a_refusal_says_what_can_be_done(number: int, text: str) -> None:
    assert text in refusal(number)
