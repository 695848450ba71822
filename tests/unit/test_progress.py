"""Progress on a terminal, and nothing anywhere else."""

from __future__ import annotations

import io

import pytest

from harness.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def shown(stream):
    """Return what was shown, one entry each, without control sequences."""
    parts = stream.getvalue().split("\x1b7")[1:]
    return [
        p.split("\x1b8")[0].replace("\x1b[K", "").replace("\x1b[2m", "").replace("\x1b[0m", "") for p in parts
    ]


def test_what_is_no_terminal_gets_nothing():
    stream = io.StringIO()
    with Progress(stream).step("booting") as progress:
        progress.say("still")
        progress.count("process", 1, 3)
    assert stream.getvalue() == ""
    with Progress(None).step("booting"):
        pass


def test_the_innermost_step_is_shown_and_the_line_is_wiped_at_the_end(terminal):
    progress = Progress(terminal)
    with progress.step("model"), progress.step("connecting"):
        pass
    assert shown(terminal) == [" model", " connecting", " model"]
    assert terminal.getvalue().endswith("\x1b[K")


def test_a_counted_step_says_how_long_it_still_takes(terminal):
    clock = Clock()
    progress = Progress(terminal, clock=clock)
    progress.count("process", 0, 4)
    clock.now_s = 10.0
    progress.count("process", 1, 4)
    assert shown(terminal) == [" process 1 of 4", " process 2 of 4, about 30 s left"]


def test_it_keeps_to_the_room_that_others_leave(terminal):
    progress = Progress(terminal, column=lambda: 60)
    progress.say("x" * 100)
    assert len(shown(terminal)[0]) <= 18
    crowded = Terminal()
    Progress(crowded, column=lambda: 79).say("anything")
    assert crowded.getvalue() == ""


def test_transfers_and_shares_are_shown_now_and_then_and_at_their_end(terminal):
    clock = Clock()
    progress = Progress(terminal, clock=clock)
    for done in range(0, 101):
        clock.now_s += 0.001
        progress.bytes(done, 100)
    assert 2 <= len(shown(terminal)) <= 4
    assert shown(terminal)[-1].startswith(" 100% of")


def test_names_are_no_markup(terminal):
    Progress(terminal).say("[red]model[/red]")
    assert shown(terminal) == [" [red]model[/red]"]
