"""A model at work for hours or days: what leaks, drifts or breaks. As long as `--soak` says."""

import pytest

pytestmark = pytest.mark.soak


def test_soak(soak_run, gate):
    gate(soak_run)
