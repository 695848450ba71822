"""What the command ends with, and its output where the encoding lacks characters that the harness prints."""

from __future__ import annotations

import codecs
import io
import sys
from typing import TextIO

from harness.errors import ConfigError, HarnessError, HostSetupError

EXIT_USAGE = 2  # argparse's own

_HANDLER = "harness.readable"
# what must not turn into "?": a unit's prefix, a bound's direction
_PLAIN = {
    "µ": "u", "μ": "u", "Ω": "ohm", "°": "deg ", "≤": "<=", "≥": ">=", "×": "x", "÷": "/", "±": "+/-",
    "−": "-", "–": "-", "—": "-", "…": "...", "→": "->", "·": "|", "█": "#", "░": ".",
    "✓": "+", "✕": "x", "✅": "+", "❌": "x", "❔": "?", "⚠": "!", "➖": "-", "\ufe0f": "",
}  # fmt: skip


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the characters that can't be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end


def never_fail_on_a_character() -> None:
    """Let stdout and stderr print every text: without UTF-8 `µs` as `us`, and what is unknown as `?`."""
    codecs.register_error(_HANDLER, _readable)
    for stream in (sys.stdout, sys.stderr):
        _relax(stream)


def _relax(stream: TextIO) -> None:
    # others' stand-ins for a stream may be no TextIOWrapper; they keep what they do
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_HANDLER)


def exit_code_of(error: HarnessError) -> int:
    """Return what the command ends with because of `error`: wrong use is 2, where pytest says 4."""
    usage = isinstance(error, ConfigError) and not isinstance(error, HostSetupError)
    return EXIT_USAGE if usage else error.exit_code
