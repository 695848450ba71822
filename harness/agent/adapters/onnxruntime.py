"""ONNX Runtime through its Python API: `InferenceSession.run`, as an application would call it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import onnxruntime

from .base import ModelError, OptionError, UnsupportedError, check_options, first_text

NAME = "onnxruntime"

# onnxruntime's type strings (onnxruntime_c_api.h, ONNXTensorElementDataType)
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
}
_DTYPES.update({"tensor(%sint%d)" % (u, n): "%sint%d" % (u, n) for u in ("", "u") for n in (8, 16, 32, 64)})
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_OPTIONS = ("execution_providers", "graph_optimization_level", "session_config")


def version() -> str:
    """Return the version of the build."""
    return str(onnxruntime.__version__)


def load(model_path: str, threads: int, options: Dict[str, Any]) -> "Session":
    """Return a session on `threads` intra-op threads. Raises ModelError with the runtime's own words."""
    check_options(options, _OPTIONS)
    providers = options.get("execution_providers", ["CPUExecutionProvider"])
    available = onnxruntime.get_available_providers()
    missing = [name for name in providers if name not in available]
    if missing:
        raise UnsupportedError(
            "execution provider %s is not in this build; it has %s" % (missing[0], ", ".join(available))
        )
    made = _session_options(threads, options)
    try:
        inner = onnxruntime.InferenceSession(model_path, sess_options=made, providers=providers)
    except Exception as error:  # noqa: BLE001 (onnxruntime's exceptions derive from Exception only)
        raise ModelError(first_text(error)) from error
    return Session(inner)


def _session_options(threads: int, options: Dict[str, Any]) -> Any:
    level = options.get("graph_optimization_level", "all")
    if level not in _LEVELS:
        raise OptionError("load: graph_optimization_level is %r; valid: %s" % (level, ", ".join(_LEVELS)))
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = threads
    made.inter_op_num_threads = 1
    made.log_severity_level = 3  # errors only
    made.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[level])
    for key, value in options.get("session_config", {}).items():
        made.add_session_config_entry(str(key), str(value))
    return made


def _spec(arg: Any) -> Dict[str, Any]:
    shape = [size if isinstance(size, int) and size >= 0 else None for size in (arg.shape or [])]
    return {"name": arg.name, "shape": shape, "dtype": _DTYPES.get(arg.type, arg.type)}


class Session:
    """A loaded model."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.inputs: List[Dict[str, Any]] = [_spec(arg) for arg in inner.get_inputs()]
        self.outputs: List[Dict[str, Any]] = [_spec(arg) for arg in inner.get_outputs()]
        self._names = [spec["name"] for spec in self.outputs]
        self._last: List[Any] = [None]

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], None]:
        """Return the call that runs `feeds`; the runtime reads them in place."""
        run, names, last = self._inner.run, self._names, self._last

        def invoke() -> None:
            last[0] = run(names, feeds)

        return invoke

    def read_outputs(self) -> Dict[str, Any]:
        """Return the last call's outputs by name."""
        return dict(zip(self._names, self._last[0]))
