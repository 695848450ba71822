"""Which samples a model is fed: rows of an .npz or of arrays from the host, checked against its inputs.

Stdlib only, so that a device without numpy can feed a command too. An .npz is a zip of .npy files
(numpy.lib.format, versions 1 to 3); rows are read as they are needed, so a large set never sits in memory
and doesn't show in what a memory run measures. Object arrays are refused: nothing is ever unpickled.

zipfile and hashlib are imported when they are needed: a third of a second each on an emulated board.
"""

from __future__ import annotations

import abc
import ast
import contextlib
import os
import re
import struct
import zlib
from typing import IO, TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .faults import Fault
from .wire import ITEM_BYTES, Tensor, WireFault, unpack_tensors

if TYPE_CHECKING:
    import zipfile

_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float"}
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
Shape = Tuple[int, ...]


class Raw(NamedTuple):
    """An array without numpy: `data` little-endian, C order."""

    dtype: str
    shape: Shape
    data: bytes


def count_items(shape: Sequence[int]) -> int:
    """Return the product of `shape`."""
    items = 1
    for size in shape:
        items *= size
    return items


class Column(abc.ABC):
    """The samples of one input: `n` rows of `row_shape`."""

    def __init__(self, name: str, dtype: str, shape: Shape) -> None:
        if not shape:
            raise Fault("bad_request", "input `%s` is a single number; its first axis must be samples" % name)
        self.name = name
        self.dtype = dtype
        self.n = shape[0]
        self.row_shape = shape[1:]
        self.row_bytes = count_items(shape[1:]) * ITEM_BYTES[dtype]

    @abc.abstractmethod
    def row(self, index: int) -> bytes:
        """Return one sample's bytes."""


class _HeldColumn(Column):
    """Rows that are in memory."""

    def __init__(self, name: str, dtype: str, shape: Shape, data: Any) -> None:
        super().__init__(name, dtype, shape)
        self._data = memoryview(data)

    def row(self, index: int) -> bytes:
        return bytes(self._data[index * self.row_bytes : (index + 1) * self.row_bytes])


class _NpzColumn(Column):
    """Rows streamed from one member of an .npz; going back starts over."""

    def __init__(self, file: IO[bytes], header: "Header", name: str) -> None:
        super().__init__(name, header.dtype, header.shape)
        self._file = file
        self._next = 0
        self._start = file.tell()

    def row(self, index: int) -> bytes:
        with damage_named(self.name):
            if index != self._next:
                self._file.seek(self._start + index * self.row_bytes)
            data = self._file.read(self.row_bytes)
        if len(data) != self.row_bytes:
            raise Fault(
                "bad_request", "`%s` in the .npz ends at sample %d of %d" % (self.name, index, self.n)
            )
        self._next = index + 1
        return data


class Header(NamedTuple):
    """What a .npy file says before its data."""

    dtype: str
    shape: Shape
    fortran: bool


@contextlib.contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn what zipfile raises for damaged content into a `bad_request` that names the array."""
    import zipfile

    try:
        yield
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise Fault("bad_request", "`%s` in the .npz is damaged: %s" % (name, error)) from None


def open_column(archive: zipfile.ZipFile, name: str) -> Column:
    """Return one array of an .npz. Raises `bad_request`."""
    member = name + ".npy"
    with damage_named(name):
        file = archive.open(member)
        header = read_npy_header(file, name)
        size = archive.getinfo(member).file_size - file.tell()
        expected = count_items(header.shape) * ITEM_BYTES[header.dtype]
        if size != expected:
            raise Fault("bad_request", "`%s` holds %d bytes, its header says %d" % (name, size, expected))
        if header.fortran:
            return _HeldColumn(name, header.dtype, header.shape, _to_c_order(file.read(), header, name))
    return _NpzColumn(file, header, name)


def _to_c_order(data: bytes, header: Header, name: str) -> bytes:
    try:
        import numpy
    except ImportError:
        text = "`%s` is in Fortran order, which needs numpy here; save np.ascontiguousarray of it" % name
        raise Fault("bad_request", text) from None
    array = numpy.frombuffer(data, header.dtype).reshape(header.shape, order="F")
    return bytes(array.tobytes(order="C"))


def read_npy_header(file: IO[bytes], name: str) -> Header:
    """Return the header of a .npy stream, left at its data. Raises `bad_request`."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise Fault("bad_request", "`%s` in the .npz is not a .npy array" % name)
    width = "<H" if magic[6] == 1 else "<I"
    try:
        (length,) = struct.unpack(width, file.read(struct.calcsize(width)))
        if length > 1 << 16:
            raise ValueError("it is %d bytes long" % length)
        header = ast.literal_eval(file.read(length).decode("utf-8" if magic[6] == 3 else "latin-1"))
        descr, fortran, shape = header["descr"], header["fortran_order"], tuple(header["shape"])
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error) as error:
        raise Fault("bad_request", "`%s` has a damaged .npy header: %s" % (name, error)) from None
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise Fault("bad_request", "`%s` has shape %r" % (name, shape))
    return Header(parse_descr(descr, name), shape, bool(fortran) and len(shape) > 1)


def parse_descr(descr: Any, name: str) -> str:
    """Return numpy's name of a .npy type: `<f4` is float32. Raises `bad_request` for what can't be fed."""
    found = re.match(r"([<|=])([biuf])(\d+)\Z", descr) if isinstance(descr, str) else None
    dtype = ""
    if found:
        kind, size = _KINDS[found.group(2)], int(found.group(3))
        dtype = kind if kind == "bool" else "%s%d" % (kind, size * 8)
    if dtype not in ITEM_BYTES:
        raise Fault(
            "bad_request", "`%s` has type %r; valid: %s" % (name, descr, ", ".join(sorted(ITEM_BYTES)))
        )
    return dtype


def open_npz(path: str) -> Tuple[Dict[str, Column], List[str], str]:
    """Return the columns of an .npz by name (those that can be fed), all names, and the file's SHA-256."""
    import zipfile

    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise Fault("not_found", "%s: no such file" % path) from None
    except (zipfile.BadZipFile, OSError) as error:
        raise Fault("bad_request", "%s: not an .npz: %s" % (path, error)) from None
    names = [name[: -len(".npy")] for name in archive.namelist() if name.endswith(".npy")]
    columns: Dict[str, Column] = {}
    for name in names:
        if name != "labels":
            columns[name] = open_column(archive, name)
    base = os.path.basename(path)
    # a committed object bears its hash as its name
    return columns, names, base if _SHA256.match(base) else _hash(path)


def _hash(path: str) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def open_arrays(entries: Any, payload: Any) -> Tuple[Dict[str, Column], List[str], str]:
    """Return columns, names and hash of arrays that came with the request."""
    import hashlib

    try:
        tensors: List[Tensor] = unpack_tensors(entries, payload)
    except WireFault as error:
        raise Fault("bad_request", "set_inputs: %s" % error) from None
    columns: Dict[str, Column] = {t.name: _HeldColumn(t.name, t.dtype, t.shape, t.data) for t in tensors}
    return columns, list(columns), hashlib.sha256(payload).hexdigest()


class Input(NamedTuple):
    """One input as the model declares it. `accepts` are the types it may be fed."""

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: str
    accepts: Tuple[str, ...]
    aliases: Tuple[str, ...]
    resizable: bool  # the batch axis follows what is fed, whatever the file says


def parse_input(spec: Dict[str, Any], shapes: Dict[str, Any]) -> Input:
    """Return an adapter's input entry, its open sizes filled from the user's `shapes`."""
    shape = tuple(spec["shape"])
    given = shapes.get(spec["name"])
    if given is not None:
        fits = len(given) == len(shape) and all(
            mine in (None, theirs) for mine, theirs in zip(shape[1:], given[1:])
        )
        if not fits:
            raise Fault(
                "bad_request",
                "load: shape %s for input `%s` does not fit the model's %s"
                % (shape_text(given), spec["name"], shape_text(shape)),
            )
        shape = shape[:1] + tuple(given[1:])
    accepts = tuple(spec.get("accepts", (spec["dtype"],)))
    aliases = tuple(spec.get("aliases", ()))
    return Input(spec["name"], shape, spec["dtype"], accepts, aliases, bool(spec.get("resizable")))


def shape_text(shape: Sequence[Optional[int]]) -> str:
    """Return "1x?x3"."""
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"


class Feeder:
    """Batches of checked samples. `n_samples` is how many there are."""

    def __init__(
        self,
        inputs: Sequence[Input],
        columns: Dict[str, Column],
        names: Sequence[str],
        indices: Optional[List[int]],
        batch_size: int,
    ) -> None:
        self._columns: Dict[str, Column] = {}
        for spec in inputs:
            found = [name for name in (spec.name, *spec.aliases) if name in columns]
            if not found:
                raise Fault(
                    "bad_request",
                    "input `%s` of the model is missing; the arrays are: %s"
                    % (spec.name, ", ".join(names) or "none"),
                )
            self._columns[spec.name] = columns[found[0]]
        self._batched = {
            spec.name: check_input(spec, self._columns[spec.name], batch_size) for spec in inputs
        }
        counts = {name: column.n for name, column in self._columns.items()}
        if len(set(counts.values())) > 1:
            raise Fault("bad_request", "inputs differ in their number of samples: %s" % counts)
        available = min(counts.values()) if counts else 0
        self._indices = indices if indices is not None else range(available)
        outside = [index for index in self._indices if index >= available]
        if outside or not len(self._indices):
            raise Fault(
                "bad_request", "samples %s asked for, there are %d" % (outside[:5] or "[]", available)
            )
        self.batch_size = batch_size
        self.n_samples = len(self._indices)
        self.row_bytes = sum(column.row_bytes for column in self._columns.values())

    def batch(self, start: int) -> Dict[str, Raw]:
        """Return `batch_size` samples from `start` on; past the last one it begins again."""
        positions = [self._indices[(start + i) % self.n_samples] for i in range(self.batch_size)]
        feeds = {}
        for name, column in self._columns.items():
            shape = (self.batch_size, *column.row_shape) if self._batched[name] else column.row_shape
            feeds[name] = Raw(column.dtype, shape, b"".join(column.row(index) for index in positions))
        return feeds


def check_input(spec: Input, column: Column, batch_size: int) -> bool:
    """Return whether the model's own first axis is the batch. Raises `bad_request` or `unsupported`.

    Where a sample has as many axes as the input, it is a whole feed by itself, and only one fits at a time.
    """
    if column.dtype not in spec.accepts:
        raise Fault(
            "bad_request",
            "input `%s`: type %s, expected %s" % (spec.name, column.dtype, " or ".join(spec.accepts)),
        )
    row, shape = column.row_shape, spec.shape
    batched = len(shape) == len(row) + 1
    wanted = shape[1:] if batched else shape
    if len(wanted) != len(row) or any(size not in (None, got) for size, got in zip(wanted, row)):
        expected = "n" if not wanted else "nx" + shape_text(wanted)
        raise Fault(
            "bad_request",
            "input `%s`: shape %s, expected %s (first axis: samples)"
            % (spec.name, shape_text((column.n, *row)), expected),
        )
    if not batched and batch_size != 1:
        raise Fault(
            "unsupported",
            "input `%s` has no batch axis: one sample at a time, asked for %d" % (spec.name, batch_size),
        )
    if batched and not spec.resizable and shape[0] not in (None, batch_size):
        raise Fault(
            "unsupported",
            "input `%s`: the model's batch is fixed to %d, asked for %d" % (spec.name, shape[0], batch_size),
        )
    return batched
