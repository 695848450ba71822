"""An agent with an adapter for tests of who calls when: no runtime, calls of a given length, ways to fail."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.connect.base import Connection
from harness.remote import AgentClient, Child

LONG_S = 600.0  # never reached: only bounds a test that hangs
ADAPTER = b"""
import gc, itertools, os, time

NAME = "turns"

def version():
    return "1.0"

def load(model_path, threads, options):
    return Session(options)

class Session:
    inputs = outputs = [{"name": "x", "shape": [None, 1], "dtype": "int64"}]
    raw = True

    def __init__(self, options):
        self.options, self.calls = options, 0

    def prepare(self, feeds):
        x, options = feeds["x"], self.options

        def invoke():
            self.calls += 1
            self.last = x
            for _ in itertools.repeat(None, options.get("turns", 0)):  # no objects are made
                pass
            if self.calls == options.get("fail_at"):
                raise ValueError("bad node")
            if self.calls == options.get("die_at"):
                os.kill(os.getpid(), 11)
            if self.calls == options.get("hang_at"):
                time.sleep(3600)
            if "call_s" in options:
                time.sleep(options["call_s"])
        return invoke

    def read_outputs(self):
        state = int(gc.isenabled()) * 1000000 + self.calls
        return {"state": ("int64", (1, 1), state.to_bytes(8, "little"))}
"""


@contextlib.contextmanager
def agent_on(connection: Connection, *, python: str = "python3") -> Iterator[tuple[AgentClient, str]]:
    """Yield an agent and the hash of an environment there that holds the adapter."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("adapter.py")
        member.size = len(ADAPTER)
        tar.addfile(member, io.BytesIO(ADAPTER))
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    with AgentClient.start(connection, python=python, timeout_s=LONG_S) as client:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "env.tar"
            source.write_bytes(data)
            connection.push(source, f"{connection.home()}/incoming/turns.tar", timeout_s=LONG_S)
        client.request("env_install", {"incoming": "turns.tar", "sha256": sha256})
        yield client, sha256


def loaded(client: AgentClient, name: str, sha256: str, **options: Any) -> Child:
    """Return a child with the adapter's model loaded and one sample set; `options` say what its calls do."""
    child = client.spawn(name, env=sha256, adapter="env")
    child.load("/dev/null", options=options)
    child.set_inputs(arrays={"x": np.zeros((1, 1), np.int64)})
    return child


def calls_of(child: Child) -> int:
    """Return how many calls the child has made. Fails where its garbage collection is still off."""
    state = int(child.infer(0, 1)["state"][0, 0])
    assert state >= 1_000_000, "garbage collection stayed off"
    return state - 1_000_000
