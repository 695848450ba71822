"""Load time, first inference and steady-state latency; throughput over batch sizes."""

import pytest

pytestmark = pytest.mark.latency


def test_single_stream(latency_run, gate, replay):
    replay(latency_run)
    gate(latency_run)


def test_offline(offline_run, gate):
    gate(offline_run)
