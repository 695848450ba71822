"""Requests to the guest over its serial console, beside the network and cheaper than a login.

The guest's side is guest/control. Nothing may be sent before it has said that it is ready: QEMU's PL011 whose
receive queue fills up before its driver starts stays deaf (seen with 7.2). After that a request is sent
again until it is answered.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from harness.emulation.qmp import connect_unix
from harness.errors import ConnectionLost, DeadlineExceeded, DeviceError

READY = b"HIL control ready"
RESEND_S = 2.0
MAX_REFUSALS = 3  # a line that was cut while the port came up is refused, the next one isn't
_numbers = itertools.count(1)


def parse_answer(received: bytes, request_id: str) -> str | None:
    """Return the guest's answer to a request, None while it hasn't come; kernel messages may lie between."""
    for line in received.split(b"\n")[:-1]:
        words = line.strip().split()
        if len(words) == 3 and words[0] == b"HIL" and words[1] == request_id.encode():
            return words[2].decode("ascii", "replace")
    return None


def is_ready(log: Path) -> bool:
    """Return whether the guest has said, in what it has printed since its boot, that it reads requests."""
    try:
        return READY in log.read_bytes()
    except FileNotFoundError:
        return False


def request(
    path: Path,
    name: str,
    make_line: Callable[[str], str],
    *,
    timeout_s: float,
    alive: Callable[[], bool],
) -> None:
    """Send a request until the guest says ok. `make_line` gets the request's id, once per sending.

    Raises DeadlineExceeded past `timeout_s`, ConnectionLost when the machine ends meanwhile, DeviceError
    when the guest refuses.
    """
    deadline = time.monotonic() + timeout_s
    request_id = f"{os.getpid():x}-{next(_numbers)}"
    received = b""
    refusals = 0
    with connect_unix(path) as stream:
        stream.settimeout(RESEND_S)
        while True:
            if not alive():
                raise ConnectionLost("the machine ended while it was starting", where=name)
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"the guest did not answer within {timeout_s:g} s", where=name)
            with contextlib.suppress(TimeoutError):  # the guest is slow; the next newline ends what was cut
                stream.sendall(b"\n" + make_line(request_id).encode() + b"\n")
            received, answer = _collect(stream, received, request_id)
            if answer == "ok":
                return
            if answer is not None:
                refusals += 1
                received = b""
            if refusals == MAX_REFUSALS:
                raise DeviceError(f"the guest answered `{answer}`, expected `ok`", where=name)


def _collect(stream: socket.socket, received: bytes, request_id: str) -> tuple[bytes, str | None]:
    """Read for about RESEND_S seconds; return (all received, the answer or None)."""
    until = time.monotonic() + RESEND_S
    while time.monotonic() < until:
        try:
            data = stream.recv(4096)
        except TimeoutError:
            break
        if not data:
            time.sleep(0.05)
            break
        received = (received + data)[-65536:]
        answer = parse_answer(received, request_id)
        if answer is not None:
            return received, answer
    return received, None
