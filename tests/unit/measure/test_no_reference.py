"""An executable that only the device has: its accuracy is judged by labels, or not at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.errors import ConfigError, Unsupported
from harness.measure import accuracy

LABELS = np.array([0, 1, 1])
OUTPUTS = {"y": np.eye(2, dtype=np.float32)[[0, 1, 0]]}


def bench(name: str, *, labels: Any = LABELS, adapter: str = "command") -> Any:
    """Return what measure_accuracy reads of a bench."""
    return SimpleNamespace(
        board=SimpleNamespace(device=SimpleNamespace(name=name), facts=SimpleNamespace(platform="linux")),
        case=SimpleNamespace(
            name="door",
            task=None if labels is None else "accuracy",
            variant="fp32",
            rtol=None,
            atol=None,
            golden_path=None,
        ),
        env=SimpleNamespace(adapter=adapter),
        inputs=SimpleNamespace(n_samples=3, labels=labels, sha256="i", made=False),
        look=SimpleNamespace(quantised=None),
    )


@pytest.fixture
def host_without_it(monkeypatch) -> Any:
    host = bench("local")

    def infer(found: Any, label: str) -> Any:
        if found is host:
            raise ConfigError("`run` is no executable on the device", where="local")
        return OUTPUTS

    monkeypatch.setattr(accuracy, "infer_all", infer)
    return host


def test_labels_judge_it(host_without_it):
    seen = accuracy.measure_accuracy(bench("pi"), host_without_it)
    assert [(m.metric, m.value) for m in seen.measurements] == [("accuracy", pytest.approx(2 / 3))]
    assert seen.settings["reference"] == "none: local: `run` is no executable on the device"


def test_without_labels_there_is_nothing_to_judge_it_by(host_without_it):
    with pytest.raises(Unsupported, match="nothing to compare its outputs with: `run` is no executable"):
        accuracy.measure_accuracy(bench("pi", labels=None), host_without_it)


def test_a_runtime_that_we_carry_here_has_no_such_excuse(host_without_it):
    with pytest.raises(ConfigError):
        accuracy.measure_accuracy(bench("pi", adapter="onnxruntime"), host_without_it)


def test_on_this_host_itself_it_is_wrong_use(host_without_it):
    with pytest.raises(ConfigError):
        accuracy.measure_accuracy(host_without_it, host_without_it)
