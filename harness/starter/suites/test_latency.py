"""Load time, first inference and steady-state latency, also beside a baseline; the plan's other scenarios."""

import pytest

pytestmark = pytest.mark.latency


def test_single_stream(latency_run, gate, replay):
    replay(latency_run)
    gate(latency_run)


def test_offline(offline_run, gate):
    gate(offline_run)


def test_against_baseline(duet_run, gate):
    gate(duet_run)


def test_multi_stream(multi_stream_run, gate):
    gate(multi_stream_run)


def test_server(server_run, gate):
    gate(server_run)


def test_periodic(periodic_run, gate):
    gate(periodic_run)
