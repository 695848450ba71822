"""The example runtime with ncnn itself, on this host: what its adapter makes of models, sound and broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support.ncnn_model import SmallNetwork, write_network
from support.ncnn_package import load_descriptor_module

from harness import board as boards
from harness import bundles, model_files
from harness.errors import ConfigError, ModelRejected, Unsupported
from harness.measure.bench import Bench
from harness.measure.prepare import prepare
from harness.model import Device, PlanModel, RuntimeSpec
from harness.progress import Progress

FOUND = load_descriptor_module().DESCRIPTOR
Ready = Callable[..., Bench]


@pytest.fixture(scope="module")
def ready(local_device: Device) -> Iterator[Ready]:
    """A function that makes a model ready on this host, its files packed as a session packs them."""
    board = boards.open_board(local_device, boards.NATIVE, [], Progress(None))

    def make(network: SmallNetwork, *, threads: int = 1, **more: Any) -> Bench:
        model = PlanModel(network.param.stem, network.param, RuntimeSpec("ncnn"), **more)
        case = bundles.with_all_files(model_files.resolve_case(model), FOUND)
        return prepare(board, case, FOUND, threads=threads, progress=Progress(None))

    yield make
    board.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_are_what_numpy_computes(ready, tmp_path, threads):
    network = write_network(tmp_path)
    data = np.random.default_rng(1).random((4, 3, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "inputs.npz", data=data)
    bench = ready(network, threads=threads, inputs_path=tmp_path / "inputs.npz")
    with bench.child("outputs") as (child, _):
        got = child.infer(0, 4)["scores"]
    assert got.shape == (4, 5)
    assert np.allclose(got, [network.expected(x) for x in data], rtol=1e-5, atol=1e-5)


def test_it_says_what_it_is(ready, tmp_path):
    look = ready(write_network(tmp_path)).look
    (data,) = look.signature.inputs
    assert (data.name, data.shape, data.dtype) == ("data", (1, 3, 8, 8), "float32")
    assert [output.name for output in look.signature.outputs] == ["scores"]
    assert look.quantised is False
    assert look.runtime_version == FOUND.default_version


def test_retrained_weights_are_another_version(ready, tmp_path):
    (tmp_path / "new").mkdir()
    old, new = ready(write_network(tmp_path)), ready(write_network(tmp_path / "new", seed=8))
    assert new.deployed.previous_sha256 == old.deployed.sha256
    assert new.deployed.sha256 != old.deployed.sha256


def test_a_size_that_the_file_leaves_open_is_given_by_shape(ready, tmp_path):
    network = write_network(tmp_path, open_shape=True)
    with pytest.raises(ConfigError, match="--shape data=1xNxNxN"):
        ready(network)
    bench = ready(network, shapes={"data": (1, 3, 8, 8)})
    with bench.child("open") as (child, _):
        assert child.infer(0, 2)["scores"].shape == (2, 5)


def test_without_weights_it_is_timed_and_gives_no_outputs(ready, tmp_path):
    network = write_network(tmp_path)
    network.bin.unlink()
    bench = ready(network, options={"empty_weights": True})
    with bench.child("empty") as (child, _):
        assert len(child.measure(iterations=3).latency_ns) == 3
        with pytest.raises(Unsupported, match="its weights are empty"):
            child.infer(0, 1)


def test_one_sample_at_a_time(ready, tmp_path):
    bench = ready(write_network(tmp_path))
    with pytest.raises(Unsupported, match="batch"), bench.child("two", batch_size=2):
        pass


def test_ncnns_own_words_when_the_weights_are_cut(ready, tmp_path):
    network = write_network(tmp_path)
    network.bin.write_bytes(network.bin.read_bytes()[:100])
    with pytest.raises(
        ModelRejected, match=r"can't read the weights in the \.bin: .*layer load_model 1 conv"
    ):
        ready(network)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("Pooling", "NoSuchLayer", "NoSuchLayer"), ("7767517", "7767518", "first line")],
)
def test_a_param_that_it_can_not_run(ready, tmp_path, old, new, words):
    network = write_network(tmp_path)
    network.param.write_text(network.param.read_text().replace(old, new))
    with pytest.raises(ModelRejected, match=words):
        ready(network)


def test_an_option_of_another_type_is_refused_by_the_adapter_too(ready, tmp_path):
    with pytest.raises(ConfigError, match="half_floats is 3, expected true or false"):
        ready(write_network(tmp_path), options={"half_floats": 3})
