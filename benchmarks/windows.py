"""A pytest plug-in that notes when the device ran a model: `-p benchmarks.windows`, file by environment.

A measured window lasts from when one of OPS is sent to a measuring process until its reply is there.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.remote.requests import Reply

ENV_FILE = "HIL_BENCH_WINDOWS"
OPS = ("load", "first", "infer", "measure")
WINDOWS: list[dict[str, Any]] = []


def pytest_collection_finish(session: pytest.Session) -> None:
    """Wrap what sends requests to measuring processes and what waits for their replies."""
    from harness.remote import Child
    from harness.remote.requests import Pending

    submit, wait = Child.submit, Pending.wait

    def noting_submit(self: Child, op: str, *args: Any, **kwargs: Any) -> Pending:
        begin_s = time.monotonic()
        pending = submit(self, op, *args, **kwargs)
        if op in OPS:
            pending.begin_s = begin_s  # type: ignore[attr-defined]
        return pending

    def noting_wait(self: Pending) -> Reply:
        reply = wait(self)
        if hasattr(self, "begin_s"):
            at = {"begin_s": self.begin_s, "end_s": time.monotonic()}
            WINDOWS.append({"op": self.op, "device": self._where, **at})
        return reply

    Child.submit = noting_submit  # type: ignore[method-assign]
    Pending.wait = noting_wait  # type: ignore[method-assign]


def pytest_unconfigure(config: pytest.Config) -> None:
    Path(os.environ[ENV_FILE]).write_text(json.dumps(WINDOWS))
