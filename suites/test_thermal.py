"""What stays of the throughput once the board is warm. Takes minutes to hours: asked for by `-m thermal`."""

import pytest

pytestmark = pytest.mark.thermal


def test_sustained(thermal_run, gate):
    gate(thermal_run)


def test_against_baseline(thermal_against_run, gate):
    gate(thermal_against_run)
