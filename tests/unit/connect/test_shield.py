"""Work that Ctrl-C may stop between its steps only."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from harness.connect.shield import Stopped, shielded


def test_it_reports_and_ends():
    seen = []
    shielded(lambda report: report(1, 2), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2)]


def test_errors_come_through_as_they_are():
    error = OSError("no room")

    def fail(report):
        raise error

    with pytest.raises(OSError, match="no room") as raised:
        shielded(fail, None)
    assert raised.value is error


def test_what_the_progress_function_raises_comes_through():
    def fail(done, total):
        raise ValueError("bad terminal")

    with pytest.raises(ValueError, match="bad terminal"):
        shielded(lambda report: report(1, 2), fail)


def test_an_interrupt_waits_for_the_step_and_its_clean_up():
    steps = []
    in_step = threading.Event()

    def work(report):
        try:
            in_step.set()
            while True:
                steps.append("whole")
                report(len(steps), 0)
        except Stopped:
            steps.append("cleaned up")
            raise

    def interrupt():
        in_step.wait(240)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        shielded(work, None)
    assert steps[-1] == "cleaned up"
