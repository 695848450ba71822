"""When a silent peer is asked, and when it is given up."""

from __future__ import annotations

import pytest

from harness.connect.liveness import DEAD_AFTER_S, PROBE_AFTER_S, ListeningSocket, Silence, Step


def steps(silence: Silence, received: list[int], quiet: bool = False) -> list[Step]:
    return [silence.tick(count, quiet) for count in received]


def test_a_peer_that_talks_is_left_alone() -> None:
    assert set(steps(Silence(4, 10), list(range(1, 100)))) == {Step.NOTHING}


def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    nothing, probe = [Step.NOTHING], [Step.PROBE]
    assert steps(Silence(4, 10), [0] * 10) == nothing * 3 + probe * 6 + [Step.GIVE_UP]


def test_an_answer_starts_the_count_again() -> None:
    silence = Silence(4, 10)
    steps(silence, [0] * 9)
    assert silence.tick(1, False) is Step.NOTHING
    assert steps(silence, [1] * 4) == [Step.NOTHING] * 3 + [Step.PROBE]


def test_nothing_is_judged_while_it_is_quiet() -> None:
    silence = Silence(4, 10)
    assert set(steps(silence, [0] * 100, quiet=True)) == {Step.NOTHING}
    assert silence.tick(0, False) is Step.NOTHING  # and the count starts afresh


def test_a_dead_peer_is_noticed_in_seconds() -> None:
    assert PROBE_AFTER_S < DEAD_AFTER_S <= 10


class _Socket:
    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def recv(self, size: int) -> bytes:
        return self.chunks.pop(0)

    def getpeername(self) -> str:
        return "peer"


@pytest.mark.parametrize(("chunks", "received"), [([b"a", b"b"], 2), ([b"a", b""], 1), ([b""], 0)])
def test_a_socket_counts_what_arrives(chunks: list[bytes], received: int) -> None:
    sock = ListeningSocket(_Socket(list(chunks)))
    assert [sock.recv(10) for _ in chunks] == chunks
    assert sock.received == received
    assert sock.getpeername() == "peer"
