"""Ctrl-C in a session: once ends it, twice is answered, three times stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from harness.interrupts import ANSWER, Interrupts


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    mine = Interrupts()
    mine.install()
    yield mine
    mine.restore()
    signal.signal(signal.SIGINT, before)


def test_the_second_is_answered_and_the_third_obeyed(interrupts, capfd):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err == ANSWER.decode()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_it_gives_the_signal_back(interrupts):
    interrupts.restore()
    interrupts.restore()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_anothers_stays():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Interrupts().install()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_installs_nothing():
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=Interrupts().install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
