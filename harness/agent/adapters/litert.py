"""LiteRT (ai-edge-litert), the maintained successor of tflite-runtime."""

from __future__ import annotations

from typing import Any, Dict

import ai_edge_litert
from ai_edge_litert.interpreter import Interpreter

from . import tflite

NAME = "litert"


def version() -> str:
    """Return the version of the build."""
    return str(ai_edge_litert.__version__)


def load(model_path: str, threads: int, options: Dict[str, Any]) -> tflite.Session:
    """Return a session. Raises ModelError with the runtime's own words."""
    return tflite.load_session(Interpreter, model_path, threads, options)
