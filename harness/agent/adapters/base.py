"""What adapters raise. The child tells them by the class's name, so a third party's need not be these."""

from __future__ import annotations

import difflib
from typing import Any, Dict, Sequence


class ModelError(Exception):
    """The runtime refuses this model."""


class UnsupportedError(Exception):
    """The runtime or the model lacks what was asked for."""


class OptionError(Exception):
    """An option of `load` is unknown or wrong."""


def check_options(options: Dict[str, Any], valid: Sequence[str]) -> None:
    """Raise OptionError for the first unknown option, naming the nearest valid one."""
    for name in sorted(set(options) - set(valid)):
        close = difflib.get_close_matches(name, valid, n=1)
        hint = "did you mean `%s`?" % close[0] if close else "valid: %s" % (", ".join(valid) or "none")
        raise OptionError("load: unknown option `%s`; %s" % (name, hint))


def first_text(error: BaseException) -> str:
    """Return the first line of what a runtime says, or its exception's name."""
    for line in str(error).splitlines():
        if line.strip():
            return line.strip()[:1000]
    return type(error).__name__
