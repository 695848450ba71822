"""The model is on the device, whole and active, and its runtime loads and runs it there."""

import pytest

pytestmark = pytest.mark.deploy


def test_loads(deploy_run, gate):
    gate(deploy_run)


def test_size_against_baseline(size_against_run, gate):
    gate(size_against_run)
