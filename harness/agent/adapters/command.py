"""Any executable: one that prints benchmark_model's output, or one that speaks JSON lines.

`options`: `argv` (a list; `{model}`, `{threads}`, and for benchmark_model `{iterations}`, `{warmup}` and
`{max_secs}` are filled in), `protocol` ("benchmark_model" or "json-lines") and `timeout_s` per answer.
docs/agent-protocol.md describes both protocols.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import Any, Dict, List

from ..lifeline import end_with_parent
from . import benchmark_model, json_lines
from .base import OptionError, check_options

NAME = "command"
_OPTIONS = ("argv", "protocol", "timeout_s")
_PROTOCOLS = {"benchmark_model": benchmark_model.Session, "json-lines": json_lines.Session}
_TIMEOUT_S = 600.0


def version() -> str:
    """Return "unknown": the executable is named at `load`, which answers with its version or hash."""
    return "unknown"


def load(model_path: str, threads: int, options: Dict[str, Any]) -> Any:
    """Return a session of the protocol asked for. Raises OptionError, ModelError."""
    check_options(options, _OPTIONS)
    argv, protocol = options.get("argv"), options.get("protocol")
    timeout_s = options.get("timeout_s", _TIMEOUT_S)
    if not isinstance(argv, list) or not argv or not all(isinstance(part, str) for part in argv):
        raise OptionError("load: option `argv` is %r, expected a list of texts" % (argv,))
    if protocol not in _PROTOCOLS:
        raise OptionError("load: option `protocol` is %r; valid: %s" % (protocol, ", ".join(_PROTOCOLS)))
    if not isinstance(timeout_s, (int, float)) or not 0 < timeout_s <= 86400:
        raise OptionError("load: option `timeout_s` is %r, expected seconds up to 86400" % (timeout_s,))
    executable = shutil.which(argv[0])
    if executable is None:
        raise OptionError("load: `%s` is no executable on the device" % argv[0])
    values = {"model": model_path, "threads": str(threads)}
    session = _PROTOCOLS[protocol](Command([executable, *argv[1:]], values, float(timeout_s)))
    return session


class Command:
    """An argument list with placeholders."""

    def __init__(self, argv: List[str], values: Dict[str, str], timeout_s: float) -> None:
        self._argv = argv
        self.values = values
        self.timeout_s = timeout_s

    def argv(self, **more: Any) -> List[str]:
        """Return the arguments with every `{name}` filled in. Other braces stay as they are."""
        filled = []
        for part in self._argv:
            for name, value in {**self.values, **more}.items():
                part = part.replace("{%s}" % name, str(value))
            filled.append(part)
        return filled

    def identity(self) -> str:
        """Return what tells this build of the executable from another."""
        with open(self._argv[0], "rb") as file:
            return "sha256:" + hashlib.sha256(file.read()).hexdigest()[:16]

    def start(self, stdin: int, stderr: Any, **more: Any) -> "subprocess.Popen[bytes]":
        """Start it, bound to this process's life."""
        return subprocess.Popen(
            self.argv(**more),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            cwd="/",
            env=dict(os.environ),
            preexec_fn=end_with_parent,  # noqa: PLW1509 (this process has one thread)
        )
