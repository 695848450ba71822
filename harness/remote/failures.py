"""What a failure of the agent means on the host: kinds of docs/agent-protocol.md to harness.errors."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from harness.errors import (
    AgentError,
    ConfigError,
    DeadlineExceeded,
    DeviceBusy,
    DeviceFull,
    FencedError,
    HarnessError,
    ModelRejected,
    RuntimeUnavailable,
    Unsupported,
    WireError,
)

_BY_KIND: dict[str, type[HarnessError]] = {
    "bad_request": ConfigError,
    "model_rejected": ModelRejected,
    "runtime_unavailable": RuntimeUnavailable,
    "no_such_child": AgentError,
    "deadline": DeadlineExceeded,
    "no_space": DeviceFull,
    "not_found": AgentError,
    "checksum": WireError,
    "unsupported": Unsupported,
    "busy": DeviceBusy,
    "fenced": FencedError,
    "internal": AgentError,
}
_NEXT_STEPS = {
    "model_rejected": "Export the model for this runtime, or measure it with another one (--runtime).",
    "runtime_unavailable": "Check that the runtime's build fits the device (harness devices check).",
    "deadline": "Check the load on the device, or raise the unit's timeout_s.",
    "no_space": "Free some room there: harness deploy gc.",
    "busy": "Wait for that to end, or take it over.",
    "fenced": "Leave it to the other one, or take it back: harness soak attach ID --take-over.",
    "checksum": "Send it again; if it comes back, check the link and the device's disk.",
}
_RUNS_THE_MODEL = ("load", "first", "infer", "measure", "paced", "count", "duet")
# native code gave up or went astray (signal(7)); KILL, TERM, BUS come from outside or from a failing disk
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE)


def to_error(args: Mapping[str, Any], op: str, where: str) -> HarnessError:
    """Return the error for an `error` frame's args. An unknown kind is a WireError."""
    kind, message = str(args.get("kind")), str(args.get("message"))
    details = args.get("details")
    if kind == "child_died":
        return _death(message, details if isinstance(details, Mapping) else {}, where)
    found = _BY_KIND.get(kind)
    if found is None:
        return WireError(f"unknown error kind `{kind}` for `{op}`: {message}", where=where)
    return found(_sentence(message), where=where, next_step=_NEXT_STEPS.get(kind, ""))


def _death(message: str, details: Mapping[str, Any], where: str) -> HarnessError:
    """Return what a child's death means: the model's fault, the runtime's or the lab's."""
    op, number = str(details.get("op")), details.get("signal")
    if details.get("oom") and op in _RUNS_THE_MODEL:
        return ModelRejected(
            _sentence(f"out of memory: {message}"),
            where=where,
            next_step="Use a smaller model or batch, or a device with more memory.",
            details=details,
        )
    if number in _CRASHES and op in _RUNS_THE_MODEL:
        name = signal.Signals(number).name
        return ModelRejected(
            _sentence(
                f"the runtime crashed with {name} during `{op}`; it last wrote: {_last_words(details)}"
            ),
            where=where,
            next_step="Check the model with another build of the runtime.",
        )
    if details.get("oom"):
        return RuntimeUnavailable(
            _sentence(f"out of memory while the runtime was being imported: {message}"),
            where=where,
            next_step="Free memory there, or use a device with more of it.",
            details=details,
        )
    if op == "start" or number == signal.SIGILL:
        return RuntimeUnavailable(
            _sentence(message), where=where, next_step=_NEXT_STEPS["runtime_unavailable"]
        )
    return AgentError(
        _sentence(message),
        where=where,
        next_step="Something ended it there: look at the device's kernel log.",
    )


def _last_words(details: Mapping[str, Any]) -> str:
    lines = [line.strip() for line in str(details.get("stderr_tail", "")).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "(nothing)"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."
