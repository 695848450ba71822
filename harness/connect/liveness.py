"""Notices within seconds that an SSH peer has gone silent, and ends the transport then.

TCP alone tells neither of a stopped sshd (the kernel still acknowledges) nor of a cut link (its own
keep-alive takes hours), and paramiko's keep-alive expects no answer (paramiko issues 503 and 2463).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from enum import Enum
from typing import Any

import paramiko

_TICK_S = 1.0
PROBE_AFTER_S = 4.0  # chosen: seldom enough to leave a working link alone
DEAD_AFTER_S = 10.0  # chosen: six seconds for an answer, also from a board that is short of memory


class ListeningSocket:
    """A socket that counts what it has received. Everything else is the socket's own."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.received = 0  # calls of `recv` that brought something

    def recv(self, size: int) -> bytes:
        data: bytes = self._inner.recv(size)
        if data:
            self.received += 1
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Step(Enum):
    """What a tick asks for."""

    NOTHING = "nothing"
    PROBE = "probe"
    GIVE_UP = "give up"


class Silence:
    """How long a peer has been silent, counted in ticks in which the host really ran: a host that was
    suspended or overloaded doesn't take its own absence for the peer's."""

    def __init__(self, probe_after_s: float, dead_after_s: float, tick_s: float = _TICK_S) -> None:
        self._probe_after_s, self._dead_after_s, self._tick_s = probe_after_s, dead_after_s, tick_s
        self._heard = 0
        self.seconds = 0.0

    def tick(self, received: int, quiet: bool) -> Step:
        """Return what to do after one more tick. `received` counts what has arrived since the start."""
        if received != self._heard or quiet:
            self._heard, self.seconds = received, 0.0
            return Step.NOTHING
        self.seconds += self._tick_s
        if self.seconds >= self._dead_after_s:
            return Step.GIVE_UP
        return Step.PROBE if self.seconds >= self._probe_after_s else Step.NOTHING


class PeerWatch(threading.Thread):
    """Asks a silent peer for an answer; when none comes, closes the transport and says why."""

    def __init__(
        self,
        transport: paramiko.Transport,
        sock: ListeningSocket,
        *,
        probe_after_s: float = PROBE_AFTER_S,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> None:
        super().__init__(name="ssh-peer-watch", daemon=True)
        self._transport, self._sock = transport, sock
        self._silence = Silence(probe_after_s, dead_after_s)
        self._stop_event, self._probe_wanted = threading.Event(), threading.Event()
        self._quiet = 0
        self._lock = threading.Lock()
        self.verdict: str | None = None  # why the peer counts as dead; None while it doesn't

    def stop(self) -> None:
        self._stop_event.set()
        self._probe_wanted.set()

    def mute(self) -> None:
        """Send no probes and judge nothing from now on."""
        with self._lock:
            self._quiet += 1

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Send no probes and judge nothing inside the block."""
        self.mute()
        try:
            yield
        finally:
            with self._lock:
                self._quiet -= 1

    def run(self) -> None:
        threading.Thread(target=self._probe, name="ssh-peer-probe", daemon=True).start()
        while not self._stop_event.wait(_TICK_S) and self._transport.is_active():
            step = self._silence.tick(self._sock.received, self._quiet > 0)
            if step is Step.PROBE:
                self._probe_wanted.set()
            elif step is Step.GIVE_UP:
                seconds = self._silence.seconds
                self.verdict = f"it has been silent for {seconds:.0f} s and answers no keep-alive"
                self._transport.close()
                break
        self.stop()

    def _probe(self) -> None:
        """Send one keep-alive per request, in a thread of its own: it may wait for an answer for ever."""
        while self._probe_wanted.wait() and not self._stop_event.is_set():
            try:
                # RFC 4254, 4: an unknown request is answered with a failure, and any answer will do
                self._transport.global_request("keepalive@openssh.com", wait=True)
            except (paramiko.SSHException, OSError, EOFError):
                return  # the transport has ended, which its users notice by themselves
            self._probe_wanted.clear()
