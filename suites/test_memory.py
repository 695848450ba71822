"""A fresh process stays within its memory budget."""

import pytest

pytestmark = pytest.mark.memory


def test_peak_memory(memory_run, gate):
    gate(memory_run)


def test_against_baseline(memory_against_run, gate):
    gate(memory_against_run)
