"""Running host tools: argument lists only, bounded in time, failures told with the tool's own last words."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.emulation.host import tool_environment
from harness.errors import HostSetupError

WHERE = "emulated device"


def tool_failed(argv: Sequence[str], returncode: int, output: bytes, next_step: str = "") -> HostSetupError:
    """Return the error for a tool that exited non-zero; it shows the end of the tool's output."""
    tail = output.decode("utf-8", "replace").strip()[-800:] or "(no output)"
    return HostSetupError(
        f"`{argv[0]}` exited with {returncode}, expected 0. It said: {tail}", where=WHERE, next_step=next_step
    )


def run_tool(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    next_step: str = "",
) -> bytes:
    """Run a tool to its end and return its stdout.

    `env` is added to the tool environment. Raises HostSetupError when the tool is missing, fails or
    takes longer than `timeout_s`.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            cwd=cwd,
            env={**tool_environment(), **(env or {})},
            check=False,
        )
    except FileNotFoundError as error:
        raise HostSetupError(
            f"`{argv[0]}` not found.", where=WHERE, next_step="Run `harness devices check`."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostSetupError(
            f"`{argv[0]}` did not end within {timeout_s:g} s.", where=WHERE, next_step=next_step
        ) from error
    if done.returncode != 0:
        raise tool_failed(argv, done.returncode, done.stderr + done.stdout, next_step)
    return done.stdout
