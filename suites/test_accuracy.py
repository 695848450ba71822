"""On the device the model answers as on the host, and as well as the plan asks."""

import pytest

pytestmark = pytest.mark.accuracy


def test_accuracy(accuracy_run, gate):
    gate(accuracy_run)


def test_against_baseline(accuracy_against_run, gate):
    gate(accuracy_against_run)
