"""The agent's client: push it once, start it, ask it.

One thread reads the agent's frames and hands each to the request it answers, so requests to several
children may be outstanding at once.
"""

from __future__ import annotations

import contextlib
import posixpath
import signal
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.agent import wire
from harness.connect.base import Connection, Process
from harness.errors import (
    AgentError,
    ConnectionLost,
    DeadlineExceeded,
    HarnessError,
    RuntimeUnavailable,
    WireError,
)
from harness.remote.archive import build_archive
from harness.remote.child import ANSWER_GRACE_S, Child
from harness.remote.duet import DuetBlocks, run_duet
from harness.remote.requests import OnEvent, Pending, Reply

READ_SLICE_S = 5.0  # how long one read of the agent's stream waits; only paces the look at `close`
BYE_TIMEOUT_S = 5.0


class AgentClient:
    """A running agent. Close it. `hello` is what it said of itself and its device."""

    def __init__(self, process: Process, *, where: str, timeout_s: float) -> None:
        self._process = process
        self._where = where
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._pending: dict[int, Pending] = {}
        self._next_id = 0
        self._ended: HarnessError | None = None
        self._closing = False
        self.hello: Mapping[str, Any] = {}
        self._reader = threading.Thread(target=self._read_frames, name=f"agent-{where}", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, connection: Connection, *, python: str = "python3", timeout_s: float) -> AgentClient:
        """Return a client of a freshly started agent, its archive pushed if the device lacks it.

        `timeout_s` is also the longest wait for one answer. Raises RuntimeUnavailable when the device has no
        fit Python, WireError when another agent or protocol answers.
        """
        data, sha256 = build_archive()
        where, home = connection.device_name, connection.home()
        target = posixpath.join(home, "agent", f"agent-{sha256}.pyz")
        found = connection.run(["sha256sum", "--", target], timeout_s=timeout_s, check=False)
        if found.returncode != 0 or not found.stdout.startswith(sha256.encode()):
            folders = [posixpath.join(home, name) for name in ("agent", "incoming")]
            connection.run(["mkdir", "-p", "--", *folders], timeout_s=timeout_s)
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "agent.pyz"
                source.write_bytes(data)
                connection.push(source, target, timeout_s=timeout_s)
        process = connection.start([python, "-I", "-S", target, "serve", "--home", home])
        client = cls(process, where=where, timeout_s=timeout_s)
        try:
            client._greet(python, sha256)
        except BaseException:
            client.close()
            raise
        return client

    def _greet(self, python: str, sha256: str) -> None:
        try:
            self.hello = self.request("hello").args
        except (AgentError, ConnectionLost) as error:
            code = self._process.poll()
            if code in (4, 126, 127):  # 4: the agent's own word for a Python that is too old
                raise RuntimeUnavailable(
                    f"the agent can't run with `{python}`: {self._stderr_tail()}.",
                    where=self._where,
                    next_step="Install Python 3.9 or newer there, or name it by the type's `python`.",
                ) from error
            raise
        said = (self.hello.get("protocol"), self.hello.get("agent_sha256"))
        if said != (wire.PROTOCOL, sha256):
            raise WireError(
                f"the agent has protocol {said[0]}, hash {said[1]}; expected {wire.PROTOCOL}, {sha256}.",
                where=self._where,
                next_step="Remove the folder `agent` in its home on the device and try again.",
            )

    @property
    def is_running(self) -> bool:
        """Whether the agent still answers, as far as is known here. False once its stream has ended."""
        return self._ended is None

    def request(
        self,
        op: str,
        args: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        *,
        timeout_s: float | None = None,
        on_event: OnEvent | None = None,
    ) -> Reply:
        """Ask and wait for the reply. Raises HarnessError by the kind of failure (failures.py)."""
        return self.submit(op, args, payload, timeout_s=timeout_s, on_event=on_event).wait()

    def submit(
        self,
        op: str,
        args: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        *,
        timeout_s: float | None = None,
        on_event: OnEvent | None = None,
    ) -> Pending:
        """Send a request without waiting. `on_event` is called by its `wait`."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        pending = Pending(op, limit_s, self._where, on_event)
        with self._lock:
            if self._ended is not None:
                raise self._ended
            self._next_id += 1
            number = self._next_id
            self._pending[number] = pending
        try:
            frame = wire.Frame(number, "request", op, dict(args or {}), payload)
            header = wire.encode_header(frame)
            with self._write_lock:
                self._process.write(header, timeout_s=limit_s)
                if payload:
                    self._process.write(payload, timeout_s=limit_s)
        except BaseException as error:
            with self._lock:
                self._pending.pop(number, None)
            if isinstance(error, wire.WireFault):
                raise WireError(f"`{op}` can't be sent: {error}.", where=self._where) from error
            if isinstance(error, ConnectionLost):
                self._reader.join(1.0)  # the reader knows more: exit code and stderr
                if self._ended is not None:
                    raise self._ended from error
            raise
        return pending

    def spawn(
        self,
        name: str,
        *,
        env: str | None,
        adapter: str,
        cpus: Sequence[int] = (),
        env_vars: Mapping[str, str] | None = None,
        threads: int = 1,
        nice: int = 0,
        cgroup: Mapping[str, int] | None = None,
        timeout_s: float | None = None,
    ) -> Child:
        """Start a measured process on the device, its runtime imported.

        `env` is an installed environment's hash (None: the adapter needs none); `threads` is what maths
        libraries are told before they load. `cgroup` limits it: `memory_max_bytes`, `cpu_quota_us` of every
        `cpu_period_us`. Raises RuntimeUnavailable when the runtime can't be imported, Unsupported where the
        device has no cgroup for it.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        args = {
            "child": name,
            "env": env or "",
            "adapter": adapter,
            "cpus": list(cpus),
            "env_vars": dict(env_vars or {}),
            "threads": threads,
            "nice": nice,
            "cgroup": dict(cgroup or {}),
            "deadline_s": limit_s,
        }
        reply = self.request("spawn", args, timeout_s=limit_s + ANSWER_GRACE_S).args
        return Child(self, name, reply, self._timeout_s)

    def duet(
        self,
        children: Sequence[Child],
        *,
        pairs: int,
        seed: int,
        timeout_s: float | None = None,
        **settings: Any,
    ) -> DuetBlocks:
        """Let two loaded children take turns in blocks; `settings` and errors as in `run_duet`."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        return run_duet(self, children, pairs=pairs, seed=seed, timeout_s=limit_s, **settings)

    def close(self) -> None:
        """End the agent and all its children. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        try:
            if self._ended is None:
                # a lost or dying agent can't say goodbye; it is ended below all the same
                with contextlib.suppress(HarnessError):
                    self.submit("bye", timeout_s=BYE_TIMEOUT_S).wait()
        finally:
            self._process.close()
            self._reader.join(2 * READ_SLICE_S)

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_frames(self) -> None:
        """Hand frames to their requests until the stream ends; then fail what is still open."""
        try:
            self._route_frames()
            error: HarnessError = self._ended_error()
        except wire.WireFault as fault:
            error = WireError(
                f"the agent's stream is broken: {fault}.",
                where=self._where,
                next_step="Try again; if it comes back, check what prints to the agent's stdout.",
            )
        except HarnessError as lost:
            error = lost
        with self._lock:
            self._ended = error
            pending = list(self._pending.values())
            self._pending.clear()
        for request in pending:
            request.put(error)

    def _route_frames(self) -> None:
        decoder = wire.Decoder()
        while True:
            try:
                data = self._process.read(1 << 18, timeout_s=READ_SLICE_S)
            except DeadlineExceeded:
                if self._closing and not self._pending:
                    return
                continue  # silence between requests is no failure; each request has its own deadline
            if not data:
                decoder.finish()
                return
            for frame in decoder.feed(data):
                if frame.type == "request":
                    raise wire.WireFault("the agent sent a request")
                with self._lock:
                    request = self._pending.get(frame.id)
                    if frame.type != "event":
                        self._pending.pop(frame.id, None)
                if request is not None:
                    request.put(frame)

    def _ended_error(self) -> HarnessError:
        limit_s = time.monotonic() + 2.0
        while self._process.poll() is None and time.monotonic() < limit_s and not self._closing:
            time.sleep(0.01)  # the end of its stream comes before its exit code
        code = self._process.poll()
        if self._closing or code is None:
            return ConnectionLost("the agent's stream ended.", where=self._where)
        if code == 3:
            return WireError(f"the agent refused a frame: {self._stderr_tail()}.", where=self._where)
        return AgentError(
            f"the agent {_ending(code)}: {self._stderr_tail()}.",
            where=self._where,
            next_step="Something ended it there: look at the device's kernel log, and at its memory.",
        )

    def _stderr_tail(self) -> str:
        return self._process.read_stderr().strip()[-600:].rstrip(".") or "(stderr is empty)"


def _ending(code: int) -> str:
    """Return how a process ended that a shell would say `code` of."""
    try:
        return f"was ended by {signal.Signals(code - 128).name}"
    except ValueError:
        return f"exited with {code}"
