"""Which runtimes there are, and a third party's by entry point."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.model import RuntimeSpec
from harness.runtimes import BUILT_IN, descriptor


def test_numpy_follows_the_runtimes_age():
    wanted = BUILT_IN["onnxruntime"].requirements
    assert "numpy==1.26.4" in wanted("1.18.1", "3.11")
    assert "numpy==2.4.6" in wanted("1.20.1", "3.11")
    assert "numpy==2.0.2" in wanted("1.19.2", "3.9")


def test_a_runtime_that_cannot_run_the_format_names_those_that_can():
    with pytest.raises(ConfigError, match=r"runtimes for it: .*litert"):
        descriptor(RuntimeSpec("onnxruntime"), "tflite")
    with pytest.raises(ConfigError, match=r"did you mean `litert`"):
        descriptor(RuntimeSpec("litrt"), "tflite")


def test_a_third_partys_runtime_comes_by_entry_point(tmp_path, monkeypatch):
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.runtimes]\ntheirs = theirs_runtime:DESCRIPTOR\n")
    (tmp_path / "theirs_runtime.py").write_text(
        "from harness.runtimes import RuntimeDescriptor\n"
        "DESCRIPTOR = RuntimeDescriptor('theirs', ('onnx',), '1.0', lambda v, p: (), 'theirs')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert descriptor(RuntimeSpec("theirs"), "onnx").default_version == "1.0"
