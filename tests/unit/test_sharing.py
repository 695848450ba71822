"""How `make test` shares out its files: by what is named here, as long as it is there."""

from __future__ import annotations

from support.sharing import LONGEST, TESTS, compute_place


def test_each_file_that_is_named_is_there_once():
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_the_longest_comes_first_and_what_isnt_named_last():
    places = [compute_place(TESTS / name) for name in (*LONGEST, "unit/test_units.py")]
    assert places == sorted(set(places))
    assert compute_place(TESTS.parent / "suites" / "test_latency.py") == places[-1]
