"""The host's C compiler: found, run, and its refusal told in one line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from harness.emulation.host import tool_environment
from harness.errors import HostSetupError

WHERE = "counting plugin"
PACKAGES = "gcc libc6-dev"  # of Debian and Ubuntu; tools/setup.sh installs the same
WITHOUT = "Without it, estimates rest on the number of instructions alone, and say so."
COMPILE_TIMEOUT_S = 120.0  # chosen: a fifth of a second on an idle host


def find_compiler() -> str:
    """Return the path of `cc`. Raises HostSetupError where there is none."""
    compiler = shutil.which("cc", path=tool_environment()["PATH"])
    if compiler is None:
        raise _failed("no C compiler: `cc` is not on PATH.")
    return compiler


def compile_library(compiler: str, arguments: Sequence[str], *, source: bytes = b"") -> None:
    """Compile a shared library; `source` is what an argument `-` reads. Raises HostSetupError."""
    argv = [compiler, "-shared", "-fPIC", *arguments]
    try:
        done = subprocess.run(
            argv,
            input=source,
            capture_output=True,
            env=tool_environment(),
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(f"`{compiler}` did not end within {COMPILE_TIMEOUT_S:g} s.") from error
    except OSError as error:
        raise _failed(f"`{compiler}` can't be run: {error.strerror}.") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode("utf-8", "replace")
        raise _failed(f"`{compiler}` exited with {done.returncode}, expected 0: {reason(said)}")


def reason(said: str) -> str:
    """Return the line of a compiler's output that says why it failed: its first error, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return next((line for line in lines if "error" in line or "cannot find" in line), lines[-1])


def _failed(what: str) -> HostSetupError:
    return HostSetupError(what, where=WHERE, next_step=f"Install {PACKAGES}. {WITHOUT}")
