"""LiteRT (ai-edge-litert), the maintained successor of tflite-runtime."""

from __future__ import annotations

from importlib.metadata import version as _version
from typing import Any, Dict

from ai_edge_litert.interpreter import Interpreter

from . import tflite

NAME = "litert"


def version() -> str:
    """Return the version of the build."""
    return _version("ai-edge-litert")


def load(model_path: str, threads: int, options: Dict[str, Any]) -> tflite.Session:
    """Return a session. Raises ModelError with the runtime's own words."""
    return tflite.load_session(Interpreter, model_path, threads, options)
