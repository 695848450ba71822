"""The example package of a runtime: what the host knows of ncnn, and what its adapter reads from a .param."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.ncnn_model import write_network
from support.ncnn_package import PACKAGE, install, load_adapter, load_descriptor_module

from harness import runtimes
from harness.errors import ConfigError
from harness.model import PlanModel, RuntimeSpec
from harness.selection import require_usable, select_models

ADAPTER = load_adapter()


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """The package as pip leaves it, on the path of this process."""
    site = tmp_path / "site"
    install(site)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(__import__("sys").modules, "harness_ncnn", raising=False)
    return site


def test_it_is_found_by_its_entry_point_and_is_the_default_of_its_format(installed, tmp_path):
    found = runtimes.descriptor(RuntimeSpec("ncnn"), "param")
    assert found.adapter == installed / "harness_ncnn" / "adapter.py"
    assert tuple(found.requirements("1.0", "3.11")) == ("ncnn==1.0",)
    network = write_network(tmp_path)
    assert runtimes.settled(PlanModel("m", network.param)).runtime == RuntimeSpec("ncnn")


def test_without_it_the_format_is_unknown(tmp_path):
    with pytest.raises(ConfigError, match="no runtime is known for format `param`"):
        require_usable([PlanModel("m", write_network(tmp_path).param)])


def test_a_broken_one_is_one_clear_error(installed):
    (installed / "harness_ncnn" / "__init__.py").write_text("import no_such_module\n")
    with pytest.raises(ConfigError) as caught:
        runtimes.descriptors()
    said = str(caught.value)
    assert "runtime `ncnn` of the installed package harness-ncnn can't be used" in said
    assert "No module named 'no_such_module'" in said
    assert "pip uninstall harness-ncnn" in said


def test_one_that_gives_something_else_is_refused(installed):
    (installed / "harness_ncnn" / "__init__.py").write_text("DESCRIPTOR = {}\n")
    with pytest.raises(ConfigError, match="is a dict, expected a RuntimeDescriptor called `ncnn`"):
        runtimes.descriptors()


def test_the_weights_must_be_beside_it_unless_asked_for_without(tmp_path):
    module = load_descriptor_module()
    network = write_network(tmp_path)
    assert module.files(network.param, {}) == (network.param, network.bin)
    assert module.files(network.param, {"empty_weights": True}) == (network.param,)
    network.bin.unlink()
    with pytest.raises(ConfigError, match=r"there is no small\.bin.*--runtime-option empty_weights=true"):
        module.files(network.param, {})


def test_what_is_missing_shows_before_anything_starts(installed, tmp_path):
    network = write_network(tmp_path)
    network.bin.unlink()
    with pytest.raises(ConfigError, match=r"there is no small\.bin"):
        require_usable([PlanModel("m", network.param)])
    require_usable([PlanModel("m", network.param, options={"empty_weights": True})])


def test_options_by_the_command_line_and_by_the_plan(installed, tmp_path):
    from harness.model import Plan

    network = write_network(tmp_path)
    (model,) = select_models(Plan(None), [str(network.param)], (), {}, {"empty_weights": "true"})
    assert model.options == {"empty_weights": True}
    assert model.runtime == RuntimeSpec("ncnn")
    with pytest.raises(ConfigError, match="has no option `empty_weight`; did you mean `empty_weights`"):
        select_models(Plan(None), [str(network.param)], (), {}, {"empty_weight": "true"})
    with pytest.raises(
        ConfigError, match="`empty_weights` of runtime `ncnn` is 'yes', expected true or false"
    ):
        select_models(Plan(None), [str(network.param)], (), {}, {"empty_weights": "yes"})
    with pytest.raises(ConfigError, match="`half_floats` of runtime `ncnn` is 1, expected true or false"):
        require_usable([PlanModel("m", network.param, options={"half_floats": 1})])


# --- the adapter's own reading -------------------------------------------------------------------------


def test_the_adapter_keeps_to_the_devices_oldest_python():
    ast.parse((PACKAGE / "harness_ncnn" / "adapter.py").read_text(encoding="utf-8"), feature_version=(3, 9))


def parse(tmp_path: Path, *layers: str) -> tuple[dict[str, list[int | None]], bool]:
    path = tmp_path / "m.param"
    path.write_text("\n".join(["7767517", f"{len(layers)} 9", *layers]) + "\n")
    inputs, quantised = ADAPTER.parse_param(str(path))
    return inputs, quantised


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ("0=227 1=200 2=3", [3, 200, 227]),
        ("-23330=4,3,227,227,3 0=227 1=227 2=3", [3, 227, 227]),
        ("0=4 1=5 11=6 2=7", [7, 6, 5, 4]),
        ("0=10", [10]),
        ("0=-1 1=-1 2=3", [3, None, None]),
        ("", [None, None, None]),
    ],
)
def test_sizes_of_inputs_outermost_first(tmp_path, values, sizes):
    assert parse(tmp_path, f"Input image 0 1 blob {values}") == ({"blob": sizes}, False)


@pytest.mark.parametrize(
    ("layer", "quantised"),
    [
        ("Convolution c 1 1 a b 0=64 1=3 6=1728", False),
        ("Convolution c 1 1 a b 0=64 1=3 8=2 9=1", True),
        ("ConvolutionDepthWise c 1 1 a b 0=64 8=0", False),
        ("ConvolutionDepthWise c 1 1 a b 0=64 8=102", True),
        ("InnerProduct c 1 1 a b 0=10 2=640 8=2", True),
        ("Gemm c 1 1 a b 18=4", True),
        ("Gemm c 1 1 a b 8=4", False),
        ("Pooling c 1 1 a b 8=1", False),
        ("Split c 1 2 a b c -23330=8,3,4,4,4,3,4,4,4", False),
    ],
)
def test_a_layer_that_computes_in_integers_makes_it_quantised(tmp_path, layer, quantised):
    assert parse(tmp_path, "Input image 0 1 a 0=1", layer)[1] is quantised


@pytest.mark.parametrize("text", [b"", b"onnx", b"\x85\x87\x76\x00", b"7767517\n1 1\nInput in zero one in\n"])
def test_what_is_no_param_in_text_is_refused(tmp_path, text):
    path = tmp_path / "m.param"
    path.write_bytes(text)
    with pytest.raises(ADAPTER.ModelError, match=r"not ncnn's \.param in text"):
        ADAPTER.parse_param(str(path))
