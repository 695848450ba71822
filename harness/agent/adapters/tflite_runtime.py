"""tflite-runtime, whose last release is 2.14 (it needs numpy 1)."""

from __future__ import annotations

from typing import Any, Dict

import tflite_runtime
from tflite_runtime.interpreter import Interpreter

from . import tflite

NAME = "tflite-runtime"


def version() -> str:
    """Return the version of the build."""
    return str(tflite_runtime.__version__)


def load(model_path: str, threads: int, options: Dict[str, Any]) -> tflite.Session:
    """Return a session. Raises ModelError with the runtime's own words."""
    return tflite.load_session(Interpreter, model_path, threads, options)
