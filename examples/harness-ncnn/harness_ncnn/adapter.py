"""ncnn on the device: the calls of its own benchmark (benchmark/benchncnn.cpp), timed by the harness.

It travels in the runtime's environment, so it imports the standard library and ncnn alone. Tensors go in and
out as bytes (`raw`), which spares the device numpy.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any, Callable, Dict, List, Optional, Tuple

import ncnn

NAME = "ncnn"
OPTIONS = ("empty_weights", "half_floats")

Raw = Tuple[str, Tuple[int, ...], bytes]
Sizes = List[Optional[int]]

_MAGIC = "7767517"  # first line of a .param
_X86 = ("x86_64", "i686")
# ncnn's operation-param-weight-table: where a layer says that its weights are int8
_INT8_KEYS = {
    "Convolution": 8,
    "ConvolutionDepthWise": 8,
    "InnerProduct": 8,
    "LSTM": 8,
    "GRU": 8,
    "RNN": 8,
    "Gemm": 18,
    "MultiHeadAttention": 18,
    "Embed": 18,
}


class ModelError(Exception):
    """ncnn refuses the model."""


class UnsupportedError(Exception):
    """There is no such thing to be had here."""


class OptionError(Exception):
    """An option is unknown or wrong."""


def version() -> str:
    """Return the version of the build."""
    return str(ncnn.__version__)


def load(model_path: str, threads: int, options: Dict[str, Any]) -> "Session":
    """Return a session on `threads` threads. Its weights are in the .bin beside the .param.

    Options: with `empty_weights` they are zeros, as in ncnn's benchmark: times are real, outputs mean
    nothing. `half_floats` lets ncnn keep them, and compute, in half floats where the processor can: true, as
    in ncnn's benchmark, but on x86, where reference outputs come from. Raises ModelError, with ncnn's own
    words, and OptionError.
    """
    empty = _flag(options, "empty_weights", False)
    half_floats = _flag(options, "half_floats", os.uname().machine not in _X86)
    _check_known(options)
    inputs, quantised = parse_param(model_path)
    weights = os.path.splitext(model_path)[0] + ".bin"
    if not empty and not os.path.isfile(weights):
        raise ModelError(
            "its weights are missing: no %s beside it. With the option empty_weights = true it is timed "
            "without them" % os.path.basename(weights)
        )
    # what ncnn's benchmark sets; the rest stays as ncnn has it
    allocators = (ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator())
    net = ncnn.Net()
    net.opt.lightmode = True
    net.opt.num_threads = threads
    net.opt.blob_allocator, net.opt.workspace_allocator = allocators
    if not half_floats:
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    failed = _read_files(net, model_path, "" if empty else weights)
    if failed:
        _leave_behind(net, allocators)
        raise ModelError("%s: %s" % (failed, _own_words(model_path, "" if empty else weights)))
    return Session(net, allocators, inputs, quantised, empty)


def _read_files(net: Any, param: str, weights: str) -> str:
    """Read a network, with zeros where `weights` is ""; return what couldn't be read, "" if all was."""
    if net.load_param(param) != 0:
        return "ncnn can't read the .param"
    if net.load_model(weights if weights else ncnn.DataReaderFromEmpty()) != 0:
        return "ncnn can't read the weights in the .bin"
    return ""


def _own_words(param: str, weights: str) -> str:
    """Return the last line that ncnn prints when it fails to read these files once more.

    Not kept the first time: some builds crash instead, and then what they printed must be on stderr.
    """
    net = ncnn.Net()
    with tempfile.TemporaryFile() as kept:
        real = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            _read_files(net, param, weights)
        finally:
            os.dup2(real, 2)
            os.close(real)
        _leave_behind(net)
        kept.seek(0)
        lines = kept.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it doesn't say why"


def _leave_behind(*objects: Any) -> None:
    """Keep objects from ever being destroyed: 1.0.20250503 crashes over a network that it couldn't read."""
    import ctypes  # needed by nothing else

    for item in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _check_known(options: Dict[str, Any]) -> None:
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise OptionError("load: unknown option `%s`; valid: %s" % (unknown[0], ", ".join(OPTIONS)))


def _flag(options: Dict[str, Any], name: str, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise OptionError("load: %s is %r, expected true or false" % (name, value))
    return value


# --- the .param: what ncnn's Python doesn't tell ------------------------------------------------------------


def parse_param(path: str) -> Tuple[Dict[str, Sizes], bool]:
    """Return each input's sizes, outermost first, None where the file leaves one open; and whether a layer
    computes in integers.

    A layer is a line: type, name, how many blobs come in and go out, their names, then key=value. Raises
    ModelError where the file is no .param in text.
    """
    inputs: Dict[str, Sizes] = {}
    quantised = False
    try:
        with open(path, encoding="utf-8") as file:
            if file.readline().strip() != _MAGIC:
                raise ModelError("not ncnn's .param in text: its first line isn't %s" % _MAGIC)
            file.readline()  # how many layers and blobs: ncnn checks them
            for line in file:
                words = line.split()
                if len(words) < 4:
                    continue
                kind, blobs = words[0], 4 + int(words[2]) + int(words[3])
                values = dict(word.split("=", 1) for word in words[blobs:] if "=" in word)
                if kind == "Input":
                    inputs[words[4]] = _input_sizes(values)
                if kind in _INT8_KEYS and int(values.get(str(_INT8_KEYS[kind]), "0")) != 0:
                    quantised = True
    except (UnicodeDecodeError, ValueError, IndexError) as error:
        raise ModelError("not ncnn's .param in text: %s" % error) from error
    return inputs, quantised


def _input_sizes(values: Dict[str, str]) -> Sizes:
    """Return an Input layer's (channels, depth, height, width) as far as it names them.

    One without any says nothing of its axes either: taken as an image.
    """
    named = [values[key] for key in ("2", "11", "1", "0") if key in values]
    sizes = [int(text) for text in named]
    return [size if size > 0 else None for size in sizes] or [None, None, None]


# --- what is timed ------------------------------------------------------------------------------------------


class Session:
    """A loaded network. Close it: ncnn ends the process over blobs that outlive their allocators."""

    raw = True

    def __init__(
        self, net: Any, allocators: Tuple[Any, Any], inputs: Dict[str, Sizes], quantised: bool, empty: bool
    ) -> None:
        self._net = net
        self._allocators = allocators
        self._quantised = quantised
        self._empty = empty
        self._last: List[Any] = []
        # one sample at a time: ncnn has no axis for a batch
        self.inputs: List[Dict[str, Any]] = [
            {"name": name, "shape": [1, *inputs[name]], "dtype": "float32"} for name in net.input_names()
        ]
        # how large they are shows only when they were computed
        self._outputs: List[str] = list(net.output_names())
        self.outputs: List[Dict[str, Any]] = [
            {"name": name, "shape": [1, None], "dtype": "float32"} for name in self._outputs
        ]

    def is_quantised(self) -> bool:
        return self._quantised

    def prepare(self, feeds: Dict[str, Raw]) -> Callable[[], None]:
        """Return the call that runs one sample: an extractor of its own, as ncnn's benchmark has."""
        net, outputs, session = self._net, self._outputs, self
        bound = [(name, _mat(raw)) for name, raw in feeds.items()]

        def invoke() -> None:
            session._last = []
            extractor = net.create_extractor()
            for name, mat in bound:
                extractor.input(name, mat)
            got = []
            for name in outputs:
                code, mat = extractor.extract(name)
                if code != 0:
                    raise ModelError("ncnn can't compute `%s` (it gives %d)" % (name, code))
                got.append(mat)
            session._last = got

        return invoke

    def read_outputs(self) -> Dict[str, Raw]:
        """Return the last call's outputs by name. Raises UnsupportedError where the weights are empty."""
        if self._empty:
            raise UnsupportedError("its weights are empty (empty_weights = true): its outputs mean nothing")
        found = {}
        for name, mat in zip(self._outputs, self._last):
            view = memoryview(mat)
            found[name] = ("float32", (1, *(view.shape or ())), view.tobytes())
        return found

    def close(self) -> None:
        self._last = []
        self._net.clear()


def _mat(raw: Raw) -> Any:
    """Return ncnn's tensor of one sample, in memory as ncnn aligns it."""
    _, shape, data = raw
    return ncnn.Mat(memoryview(bytes(data)).cast("f", list(shape[1:]))).clone()
