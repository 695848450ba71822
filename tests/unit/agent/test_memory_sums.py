"""Memory of a child: a sum over its mappings that lacks some of them is read again."""

from __future__ import annotations

from typing import Any

import pytest

from harness.agent.probes import READ_TRIES, read_whole

MB = 1 << 20


def reading(summed_mb: float | None, counted_mb: float | None = 59.0) -> dict[str, Any]:
    sizes = {"rss_bytes": summed_mb, "vm_rss_bytes": counted_mb}
    return {key: None if mb is None else int(mb * MB) for key, mb in sizes.items()}


@pytest.mark.parametrize(
    "whole",
    [reading(59.0), reading(57.0), reading(61.0), reading(None), reading(59.0, None), reading(0.5, 1.2), {}],
)
def test_a_reading_that_has_all_is_taken_at_once(whole: dict[str, Any]) -> None:
    readings = iter([whole])
    assert read_whole(lambda: next(readings)) is whole


def test_one_that_lacks_mappings_is_read_again() -> None:
    readings = iter([reading(28.0), reading(50.0), reading(59.0), reading(1.0)])
    assert read_whole(lambda: next(readings)) == reading(59.0)


def test_where_it_stays_so_the_largest_counts() -> None:
    readings = iter([reading(28.0), reading(50.0), reading(28.0), *[reading(1.0)] * READ_TRIES])
    assert read_whole(lambda: next(readings)) == reading(50.0)
