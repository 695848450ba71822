"""Samples: what numpy saved is what is fed, and what doesn't fit is refused by name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.faults import Fault
from harness.agent.samples import Column, Feeder, Input, open_arrays, open_npz, parse_input
from harness.agent.wire import ITEM_BYTES, Tensor, pack_tensors


def model_input(
    name: str = "x", shape: tuple[int | None, ...] = (None, 3), dtype: str = "float32", **more: Any
) -> Input:
    return parse_input({"name": name, "shape": list(shape), "dtype": dtype, **more}, {})


def feeder(path: Path, *inputs: Input, indices: list[int] | None = None, batch_size: int = 1) -> Feeder:
    columns, names, _ = open_npz(str(path))
    return Feeder(inputs, columns, names, indices, batch_size)


def array_of(feeder: Feeder, start: int, name: str = "x") -> np.ndarray[Any, Any]:
    raw = feeder.batch(start)[name]
    return np.frombuffer(raw.data, raw.dtype).reshape(raw.shape)


@settings(max_examples=40)
@given(
    dtype=st.sampled_from(sorted(ITEM_BYTES)),
    compressed=st.booleans(),
    starts=st.lists(st.integers(0, 6), max_size=5),
)
def test_rows_are_what_numpy_saved(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, compressed: bool, starts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    x = (np.arange(7 * 6).reshape(7, 2, 3) % 2).astype(dtype)
    (np.savez_compressed if compressed else np.savez)(path, x=x, labels=np.array(["not", "fed"]))
    fed = feeder(path, model_input(shape=(None, 2, 3), dtype=dtype))
    for start in starts:  # in any order, also backwards
        assert np.array_equal(array_of(fed, start), x[start : start + 1])


def test_fortran_order_is_turned(tmp_path: Path) -> None:
    x = np.arange(15, dtype=np.float32).reshape(3, 5).T
    np.savez(tmp_path / "a.npz", x=x)
    assert np.array_equal(array_of(feeder(tmp_path / "a.npz", model_input()), 4), x[4:])


def test_batches_stack_and_begin_again(tmp_path: Path) -> None:
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.savez(tmp_path / "a.npz", x=x)
    fed = feeder(tmp_path / "a.npz", model_input(), batch_size=2)
    assert np.array_equal(array_of(fed, 2), x[2:4])
    assert np.array_equal(array_of(fed, 4), x[[4, 0]])


def test_indices_choose(tmp_path: Path) -> None:
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.savez(tmp_path / "a.npz", x=x)
    fed = feeder(tmp_path / "a.npz", model_input(), indices=[4, 1])
    assert fed.n_samples == 2
    assert np.array_equal(np.concatenate([array_of(fed, 0), array_of(fed, 1)]), x[[4, 1]])


def test_a_sample_that_is_a_whole_feed(tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.savez(tmp_path / "a.npz", x=x)
    fed = feeder(tmp_path / "a.npz", model_input(shape=(4,)))
    assert np.array_equal(array_of(fed, 1), x[1])
    with pytest.raises(Fault) as caught:
        feeder(tmp_path / "a.npz", model_input(shape=(4,)), batch_size=2)
    assert caught.value.kind == "unsupported"


def test_arrays_from_the_host() -> None:
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    entries, payload = pack_tensors([Tensor("x", "int64", x.shape, x.tobytes())])
    columns, names, sha256 = open_arrays(json.loads(json.dumps(entries)), payload)
    fed = Feeder([model_input(dtype="int64")], columns, names, None, 1)
    assert np.array_equal(array_of(fed, 1), x[1:])
    assert len(sha256) == 64


def test_an_alias_will_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"serving_default_x:0": np.zeros((2, 3), np.float32)})
    fed = feeder(tmp_path / "a.npz", model_input(aliases=["serving_default_x:0"]))
    assert set(fed.batch(0)) == {"x"}


@pytest.mark.parametrize(
    ("arrays", "spec", "message"),
    [
        ({"y": np.zeros((2, 3), np.float32)}, {}, "input `x` of the model is missing; the arrays are: y"),
        ({"x": np.zeros((2, 3), np.float64)}, {}, "input `x`: type float64, expected float32"),
        (
            {"x": np.zeros((2, 4), np.float32)},
            {},
            r"input `x`: shape 2x4, expected nx3 \(first axis: samples\)",
        ),
        ({"x": np.zeros((2, 3, 1), np.float32)}, {"shape": (None, 3, 2)}, "shape 2x3x1, expected nx3x2"),
        ({"x": np.float32(1)}, {}, "its first axis must be samples"),
        ({"x": np.zeros((0, 3), np.float32)}, {}, "there are 0"),
        ({"x": np.array([object()])}, {}, "type '|O'"),
        ({"x": np.zeros(2, ">f4")}, {}, "type '>f4'"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, arrays: dict[str, Any], spec: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(Fault, match=message) as caught:
        feeder(tmp_path / "a.npz", model_input(**spec))
    assert caught.value.kind == "bad_request"


def test_unlike_sample_counts_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3), np.float32), y=np.zeros((4, 3), np.float32))
    with pytest.raises(Fault, match="number of samples"):
        feeder(tmp_path / "a.npz", model_input("x"), model_input("y"))


def test_a_fixed_batch_refuses_another(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 3), np.float32))
    with pytest.raises(Fault, match="fixed to 1, asked for 4") as caught:
        feeder(tmp_path / "a.npz", model_input(shape=(1, 3)), batch_size=4)
    assert caught.value.kind == "unsupported"
    assert feeder(tmp_path / "a.npz", model_input(shape=(1, 3), resizable=True), batch_size=4).batch_size == 4


def test_shapes_from_the_user_fill_open_sizes() -> None:
    spec = {"name": "x", "shape": [None, 3, None], "dtype": "float32"}
    assert parse_input(spec, {"x": [1, 3, 96]}).shape == (None, 3, 96)
    for wrong in ([1, 4, 96], [3, 96]):
        with pytest.raises(Fault, match="does not fit"):
            parse_input(spec, {"x": wrong})


@pytest.mark.parametrize("damage", ["text", "truncated", "short member", "not npy"])
def test_a_damaged_npz_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).random((50, 3)).astype(np.float32))
    if damage == "text":
        path.write_text("not a zip")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        with zipfile.ZipFile(path) as archive:
            data = archive.read("x.npy")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data[:-4] if damage == "short member" else b"xx" + data)
    with pytest.raises(Fault) as caught:
        feeder(path, model_input()).batch(0)
    assert caught.value.kind == "bad_request"


def test_a_flipped_bit_in_a_member_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((4, 3), np.float32))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"\x00" * 48) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(Fault, match="damaged"):
        [feeder(path, model_input()).batch(start) for start in range(4)]


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        open_npz(str(tmp_path / "none.npz"))
    assert caught.value.kind == "not_found"


def test_columns_must_say_how_rows_are_read() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Column("x", "int8", (1,))  # type: ignore[abstract]
