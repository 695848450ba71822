"""The item `estimate`: its rows, their goals, and that the docs hold the tables that it would write."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks/ is run from here, not installed

from benchmarks import estimate
from benchmarks.results import DOCS


def test_every_setting_has_its_rows_and_every_goal_is_met():
    rows = estimate.run(quick=True)
    assert len(rows) == 3 * len(list(estimate.settings()))
    with_goals = [row for row in rows if row.goal is not None]
    assert len(with_goals) == len(estimate.GOALS) + 1 + 2  # means, one worst, two coverages
    assert all(row.passed for row in with_goals)


def test_three_terms_leave_less_error_than_one_factor():
    for row in estimate.run(quick=True):
        if row.peer is not None:
            assert row.ours < row.peer, row.what


def test_the_docs_hold_these_tables():
    text = DOCS.read_text(encoding="utf-8")
    _, _, inside = text.partition(estimate.BEGIN)
    assert estimate.render_fits() in inside  # the first table takes ten seconds: it chooses terms anew
    assert estimate.render_networks() in inside
    assert estimate.END in inside
