"""What LiteRT and tflite-runtime share: the TFLite `Interpreter`.

Inputs and outputs go by the names of the model's signature where it has exactly one, else by tensor names.
Quantised inputs may be fed float32: `prepare` quantises with the tensor's scale and zero point, outside the
timed call. Quantised outputs come back in real units.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import numpy

from .base import ModelError, UnsupportedError, check_options, first_text

_QUANTISED = ("int8", "uint8", "int16")


def load_session(interpreter_class: Any, model_path: str, threads: int, options: Dict[str, Any]) -> "Session":
    """Return a session with its tensors allocated. Raises ModelError with the runtime's own words."""
    check_options(options, ())
    try:
        interpreter = interpreter_class(model_path=model_path, num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(first_text(error)) from error
    return Session(interpreter)


class _Tensor:
    """One input or output tensor."""

    def __init__(self, detail: Dict[str, Any], name: Optional[str]) -> None:
        self.index = int(detail["index"])
        self.tensor_name = str(detail["name"])
        self.name = name or self.tensor_name
        self.dtype = numpy.dtype(detail["dtype"]).name
        scale, zero_point = detail["quantization"]
        self.scale, self.zero_point = float(scale), int(zero_point)
        self.quantised = self.dtype in _QUANTISED and self.scale != 0.0
        declared = detail.get("shape_signature", detail["shape"])
        if not len(declared):
            declared = detail["shape"]
        self.shape = [int(size) if size >= 0 else None for size in declared]
        self.current = tuple(int(size) for size in detail["shape"])

    def spec(self) -> Dict[str, Any]:
        spec: Dict[str, Any] = {"name": self.name, "shape": self.shape, "dtype": self.dtype}
        if self.name != self.tensor_name:
            spec["aliases"] = [self.tensor_name]
        if self.quantised:
            spec["quantization"] = {"scale": self.scale, "zero_point": self.zero_point}
        return spec

    def input_spec(self) -> Dict[str, Any]:
        accepts = [self.dtype, "float32"] if self.quantised else [self.dtype]
        return dict(self.spec(), accepts=accepts, resizable=True)

    def quantise(self, values: Any) -> Any:
        """Return `values` as the tensor holds them (TFLite quantisation spec: real = scale × (q − zero))."""
        if values.dtype.name == self.dtype or not self.quantised:
            return values
        limits = numpy.iinfo(self.dtype)
        steps = numpy.round(values / numpy.float32(self.scale)) + self.zero_point
        return numpy.clip(steps, limits.min, limits.max).astype(self.dtype)

    def dequantise(self, values: Any) -> Any:
        if not self.quantised:
            return values
        return (values.astype(numpy.float32) - numpy.float32(self.zero_point)) * numpy.float32(self.scale)


class Session:
    """A loaded model."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        input_names, output_names = _signature_names(interpreter)
        self._inputs = [_Tensor(d, input_names.get(int(d["index"]))) for d in interpreter.get_input_details()]
        self._outputs = [
            _Tensor(d, output_names.get(int(d["index"]))) for d in interpreter.get_output_details()
        ]
        self.inputs: List[Dict[str, Any]] = [tensor.input_spec() for tensor in self._inputs]
        self.outputs: List[Dict[str, Any]] = [tensor.spec() for tensor in self._outputs]

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], None]:
        """Put `feeds` into the input tensors, resized where the batch is another; return `invoke` itself."""
        self._resize(feeds)
        for tensor in self._inputs:
            self._interpreter.set_tensor(tensor.index, tensor.quantise(feeds[tensor.name]))
        invoke: Callable[[], None] = self._interpreter.invoke
        return invoke

    def read_outputs(self) -> Dict[str, Any]:
        """Return the last call's outputs by name, in real units."""
        return {t.name: t.dequantise(self._interpreter.get_tensor(t.index)) for t in self._outputs}

    def is_quantised(self) -> bool:
        """Return whether any tensor holds quantised integers: float inputs and outputs may hide them."""
        for detail in self._interpreter.get_tensor_details():
            scales = detail["quantization_parameters"]["scales"]
            if len(scales) and numpy.dtype(detail["dtype"]).name in _QUANTISED:
                return True
        return False

    def _resize(self, feeds: Dict[str, Any]) -> None:
        changed = [t for t in self._inputs if tuple(feeds[t.name].shape) != t.current]
        if not changed:
            return
        try:
            for tensor in changed:
                self._interpreter.resize_tensor_input(tensor.index, list(feeds[tensor.name].shape))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            wanted = ", ".join("%s %s" % (t.name, "x".join(map(str, feeds[t.name].shape))) for t in changed)
            raise UnsupportedError(
                "the model can't be resized to %s: %s" % (wanted, first_text(error))
            ) from error
        for tensor in changed:
            tensor.current = tuple(feeds[tensor.name].shape)


def _signature_names(interpreter: Any) -> Any:
    """Return names by tensor index for inputs and outputs; empty where there isn't exactly one signature."""
    keys = list(interpreter.get_signature_list())
    if len(keys) != 1:
        return {}, {}
    runner = interpreter.get_signature_runner(keys[0])
    return tuple(
        {int(detail["index"]): name for name, detail in details.items()}
        for details in (runner.get_input_details(), runner.get_output_details())
    )
