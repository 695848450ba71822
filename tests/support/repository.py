"""A user's repository in a temporary folder, and pytest called in it as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cli.main import main
from support.tiny import MODELS

# other load is not what these tests are about: a busy host must not turn their verdicts into INVALID
ANY_LOAD = """
[types.local.limits]
max_cpu_pressure = "100 %"
max_other_busy = 64
"""
TIMEOUT_S = 420.0  # only ends what hangs: a busy host takes many times as long as a quiet one


@dataclass(frozen=True)
class Finished:
    """A finished pytest call."""

    returncode: int
    output: str
    folder: Path

    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "summary.json").read_text()))

    def results(self, metric: str) -> list[dict[str, Any]]:
        return [r for r in self.summary()["results"] if r["metric"] == metric]

    def runs(self) -> list[dict[str, Any]]:
        """Return each stored run's record, in the order of their folders."""
        files = sorted(self.folder.glob("runs/*/run.json"))
        return [dict(json.loads(file.read_text())["run"]) for file in files]


@dataclass(frozen=True)
class Running:
    """A pytest call that goes on. `finish` waits for its end."""

    process: subprocess.Popen[str]
    folder: Path

    def signal(self, number: signal.Signals) -> None:
        """Send it, and it alone, a signal."""
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Press Ctrl-C: its whole process group gets SIGINT."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait_for(self, path: Path, within_s: float = TIMEOUT_S) -> None:
        """Wait until a file is there. Raises TimeoutError, with what pytest said, where it isn't in time."""
        self._wait_until(path.exists, str(path), within_s)

    def wait_for_match(self, folder: Path, pattern: str, within_s: float = TIMEOUT_S) -> None:
        """Wait until a file of this pattern is below `folder`."""
        self._wait_until(lambda: any(folder.glob(pattern)), f"{pattern} in {folder}", within_s)

    def wait_for_any(self, folder: Path, *, min_bytes: int, within_s: float = TIMEOUT_S) -> None:
        """Wait until a file of at least `min_bytes` is in `folder`."""

        def has_come() -> bool:
            return folder.is_dir() and any(_size_bytes(path) >= min_bytes for path in folder.iterdir())

        self._wait_until(has_come, f"{min_bytes} bytes in {folder}", within_s)

    def _wait_until(self, condition: Callable[[], bool], what: str, within_s: float) -> None:
        end = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                self.process.kill()
                raise TimeoutError(f"no {what}; it said: {self.process.communicate()[0]}")
            time.sleep(0.005)

    def finish(self) -> Finished:
        try:
            output, _ = self.process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
            raise TimeoutError(f"it didn't end within {TIMEOUT_S:g} s; it said: {output}") from None
        return Finished(self.process.returncode, output, self.folder)


def _size_bytes(path: Path) -> int:
    """Return how long a file is; 0 where it is none, or none any more."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


@dataclass(frozen=True)
class Repository:
    """What `harness init` makes, and ways to call pytest in it."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Repository:
        """Return a repository in the new folder `root`."""
        root.mkdir()
        if main(["init", str(root)]) != 0:
            raise RuntimeError(f"`harness init {root}` failed")
        with (root / "devices.toml").open("a") as file:
            file.write(ANY_LOAD)
        return cls(root)

    def write_plan(self, text: str) -> None:
        """Put `text` into the plan in place of what `harness init` wrote."""
        (self.root / "suites" / "release.toml").write_text("schema_version = 1\n" + text)

    def start(self, *args: str, env: Mapping[str, str] | None = None, report: str = "report") -> Running:
        """Start pytest in a process group of its own; its session goes into the folder `report`."""
        folder = self.root / report
        process = subprocess.Popen(
            self._argv(folder, args),
            cwd=self.root,
            env=self._environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return Running(process, folder)

    def pytest(self, *args: str, env: Mapping[str, str] | None = None, report: str = "report") -> Finished:
        return self.start(*args, env=env, report=report).finish()

    def local(self, model: str, *args: str) -> Finished:
        """Measure one of the tiny models on this host."""
        return self.pytest("--device", "local", "--model", str(MODELS / model), *args)

    def _argv(self, folder: Path, args: Sequence[str]) -> list[str]:
        base = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "suites"]
        return [*base, "--report-dir", str(folder), *args]

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "HIL_HARNESS_STATE": str(self.root / "state"), **(env or {})}
