"""Energy per inference, also beside a baseline's. Takes minutes: asked for by `-m power`."""

import pytest

pytestmark = pytest.mark.power


def test_energy(energy_run, gate):
    gate(energy_run)


def test_against_baseline(energy_against_run, gate):
    gate(energy_against_run)
