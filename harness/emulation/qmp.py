"""QEMU's machine protocol, called synchronously: one short connection per command.

No connection stays open, so that several processes can steer a supervised machine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConnectionLost, DeadlineExceeded, DeviceError

COMMAND_TIMEOUT_S = 30.0
# what the library logs, our errors say; without a handler it would end up on stderr
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


def connect_unix(path: Path) -> socket.socket:
    """Return a connected stream socket.

    Goes through the folder's descriptor: a path may be longer than the 107 bytes that a socket address
    takes (unix(7)). Raises OSError.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            stream.connect(f"/proc/self/fd/{folder}/{path.name}")
        except BaseException:
            stream.close()
            raise
        return stream
    finally:
        os.close(folder)


class Qmp:
    """One machine's monitor. Safe to call from several threads."""

    def __init__(self, path: Path, machine_name: str) -> None:
        self._path = path
        self._name = machine_name
        self._lock = threading.Lock()

    def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> Any:
        """Return what QEMU answers to `command`.

        Raises ConnectionLost when the machine is gone, DeadlineExceeded past `timeout_s`, DeviceError
        when QEMU refuses.
        """
        # asyncio.run() refuses to nest; a thread of its own works whatever loop the caller is in
        with self._lock, concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(self._run, command, dict(arguments or {}), timeout_s).result()

    def hmp(self, line: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Return what the human monitor prints for `line`."""
        return str(self.execute("human-monitor-command", {"command-line": line}, timeout_s=timeout_s))

    def _run(self, command: str, arguments: dict[str, object], timeout_s: float) -> Any:
        from qemu.qmp import ExecuteError, QMPClient, QMPError

        async def call() -> Any:
            client = QMPClient(self._name)
            await client.connect(connect_unix(self._path))
            try:
                return await client.execute(command, arguments)
            finally:
                await client.disconnect()

        try:
            return asyncio.run(asyncio.wait_for(call(), timeout_s))
        except ExecuteError as error:
            raise DeviceError(f"QEMU refused `{command}`: {error}", where=self._name) from error
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"no answer to `{command}` within {timeout_s:g} s", where=self._name
            ) from error
        except (OSError, EOFError, QMPError) as error:
            raise ConnectionLost(
                f"its QEMU is not there ({type(error).__name__}: {error}).",
                where=self._name,
                next_step="Start it again (`harness devices up`).",
            ) from error
