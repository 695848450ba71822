"""Asks the installed QEMU which version of the interface for plugins it has.

QEMU has no option that tells. But it refuses a plugin made for a version that it doesn't have yet, and says
which is its newest; so it is shown one that claims a version nobody will reach. A tenth of a second.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from harness.emulation.command import QEMU, qemu_version
from harness.emulation.host import tool_environment
from harness.emulation.plugins.compiler import WHERE, WITHOUT, compile_library
from harness.errors import HostSetupError

KNOWN = range(1, 8)  # versions that interface.h is written for
_CLAIMS_TOO_MUCH = b"int qemu_plugin_version = 0x7fffffff; int qemu_plugin_install(void) { return 1; }\n"
# no board, no window: it ends while it loads the plugin
_ARGUMENTS = ("-machine", "none", "-nodefaults", "-display", "none", "-plugin", "./claims.so")
_NEWEST = re.compile(r"this QEMU supports only up to version (\d+)")
ASK_TIMEOUT_S = 60.0  # chosen: a busy host


def read_interface_version(compiler: str) -> int:
    """Return the version of the interface that QEMU has, one of KNOWN.

    Raises HostSetupError for a version that isn't, a QEMU without plugins, or a compiler that fails.
    """
    with tempfile.TemporaryDirectory(prefix="hil-plugin-") as name:
        folder = Path(name)
        arguments = ["-x", "c", "-", "-o", str(folder / "claims.so")]
        compile_library(compiler, arguments, source=_CLAIMS_TOO_MUCH)
        return parse_interface_version(_ask(folder), qemu_version())


def parse_interface_version(said: str, qemu: str) -> int:
    """Return the version out of what `qemu` said when it refused the plugin. Raises HostSetupError."""
    found = _NEWEST.search(said)
    if found is None:
        last = (said.strip().splitlines() or ["(nothing)"])[-1]
        raise HostSetupError(f"{qemu} loads no plugins. It said: {last}", where=WHERE, next_step=WITHOUT)
    version = int(found[1])
    if version not in KNOWN:
        raise HostSetupError(
            f"{qemu} has version {version} of the interface for plugins, the plugin is written for "
            f"{KNOWN[0]} to {KNOWN[-1]}.",
            where=WHERE,
            next_step=WITHOUT,
        )
    return version


def _ask(folder: Path) -> str:
    """Return what QEMU says of the plugin in `folder`."""
    try:
        done = subprocess.run(
            [QEMU, *_ARGUMENTS],
            cwd=folder,
            env=tool_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise HostSetupError(
            f"`{QEMU}` not found.", where=WHERE, next_step="Run `harness devices check`."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostSetupError(
            f"`{QEMU}` didn't say within {ASK_TIMEOUT_S:g} s which plugins it takes.",
            where=WHERE,
            next_step=WITHOUT,
        ) from error
    return (done.stderr + done.stdout).decode("utf-8", "replace")
