"""Processes that the items start and end: peers that answer line by line, busy neighbours, timed commands."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# ends by itself, should nobody be left to end it
BUSY = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
BUSY_MAX_S = 1800.0


class Peer:
    """A resident process that answers one line to each line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, line: str) -> str:
        """Return its answer. Raises RuntimeError when it ended instead."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the peer has no pipes")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.read()

    def read(self) -> str:
        """Return its next line. Raises RuntimeError at its end."""
        if self._process.stdout is None:
            raise RuntimeError("the peer has no pipes")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}; see above for why")
        return answer.strip()


@contextlib.contextmanager
def resident(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Peer]:
    """Yield a peer that has said it is ready; it ends with the block."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    try:
        peer = Peer(process)
        if (said := peer.read()) != "ready":
            raise RuntimeError(f"{argv} said {said!r}, expected 'ready'")
        yield peer
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """Keep `count` processes computing for the length of the block (BUSY_MAX_S at most), each in a session
    of its own."""
    argv = [sys.executable, "-I", "-S", "-c", BUSY, str(BUSY_MAX_S)]
    started = [subprocess.Popen(argv, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def time_command(
    argv: Sequence[str],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    expected: Sequence[int] = (0,),
    timeout_s: float = 600.0,
) -> float:
    """Return a command's wall time in seconds, its output dropped unless it fails.

    Raises RuntimeError with the tail of its output for an exit code that isn't `expected`.
    """
    begin = time.monotonic()
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    wall_s = time.monotonic() - begin
    if done.returncode not in expected:
        tail = done.stdout.strip()[-600:]
        said = f"exited with {done.returncode}, expected {list(expected)}: {tail}"
        raise RuntimeError(f"{' '.join(argv)} {said}")
    return wall_s
