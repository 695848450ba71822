"""Bad input: one clear message, the right exit code, nothing half-written, no traceback."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny import MODELS

PLAN = """
schema_version = 1
[models.m]
path = "{path}"
inputs = "in.npz"
task = "accuracy"
"""


def refused(done, *said):
    assert done.returncode == 4, done.output
    assert "Traceback" not in done.output, done.output
    for text in said:
        assert text in done.output, done.output


def test_unknown_device_names_those_that_exist(repository):
    refused(repository.pytest("--device", "rpi9"), "rpi9", "rpi4-emulated", "local")


def test_a_broken_calibration_of_ones_own_is_told_once_and_before_a_board_is_started(repository):
    folder = repository.root / "reports" / "estimates"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('schema_version = 1\nnam = "mine"\n')
    model = ("--model", str(MODELS / "tiny.onnx"))
    done = repository.pytest("--device", "rpi4-emulated", *model)
    refused(done, "mine.toml", "nam: unknown key; did you mean `name`?")
    assert done.output.count("unknown key") == 1
    assert not list((repository.root / "reports").glob("2*"))
    # what needs no estimate doesn't read it
    assert repository.pytest("--device", "local", *model, "-k", "single_stream").returncode != 4


def test_no_device(repository):
    refused(repository.pytest("--model", str(MODELS / "tiny.onnx")), "no device given", "rpi4")


def test_no_such_model(repository):
    refused(repository.pytest("--device", "local", "--model", "nope.onnx"), "nope.onnx")


def test_empty_model(repository):
    refused(repository.local("empty.onnx"), "empty")


def test_a_typo_in_a_toml_key_names_the_nearest(repository):
    path = repository.root / "devices.toml"
    path.write_text(path.read_text().replace('type = "local"', 'tipe = "local"'))
    refused(repository.pytest("--device", "local"), "tipe", "type", "devices.toml")


def test_a_typo_in_the_plan(repository):
    (repository.root / "suites" / "release.toml").write_text('schema_version = 1\n[modles.m]\npath = "x"\n')
    refused(repository.pytest("--device", "local"), "modles", "models")


def test_a_budget_with_an_unknown_metric_and_unit_told_together(repository):
    (repository.root / "suites" / "release.toml").write_text(
        'schema_version = 1\n[models.m]\npath = "m.onnx"\n[budgets.rpi4.m]\n'
        'latency_p98_ns = "9 ms"\nlatency_p99_ns = "9 parsecs"\n'
    )
    refused(repository.pytest("--device", "local"), "latency_p98_ns", "parsecs")


def test_an_unknown_runtime(repository):
    refused(repository.local("tiny.onnx", "--runtime", "onnxruntim"), "did you mean `onnxruntime`")


def test_a_runtime_version_that_does_not_exist(repository):
    refused(repository.local("tiny.onnx", "-m", "deploy", "--runtime", "onnxruntime==9.9"), "newest builds")


def test_a_dynamic_shape_not_given(repository):
    refused(repository.local("dynamic_shape.onnx", "-m", "deploy"), "--shape")


@pytest.mark.parametrize("text", ["0", "1025"])
def test_threads_must_be_a_number_in_range(repository, text):
    refused(repository.local("tiny.onnx", "--threads", text), "--threads", "from 1 to 1024")


def test_a_usage_error_is_told_once(repository):
    done = repository.local("dynamic_shape.onnx", "-rs")
    refused(done, "not measured: see the first error of this model")
    assert done.output.count("Add --shape") <= 2, done.output  # the failure and pytest's summary of it


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.ones((2, 4), np.float32)}, "is missing"),
        ({"x": np.ones((2, 99), np.float32)}, "has shape 2x99"),
        ({"x": None, "labels": np.ones(1)}, "`labels` has 1 entries"),
    ],
)
def test_inputs_that_do_not_fit(repository, arrays, said):

    model = MODELS / "tiny.onnx"
    import onnxruntime

    (spec,) = onnxruntime.InferenceSession(str(model)).get_inputs()
    shape = [2, *(d if isinstance(d, int) else 1 for d in spec.shape[1:])]
    named = {
        (spec.name if k == "x" else k): (np.ones(shape, np.float32) if v is None else v)
        for k, v in arrays.items()
    }
    np.savez(repository.root / "suites" / "in.npz", **named)
    (repository.root / "suites" / "release.toml").write_text(PLAN.format(path=model))
    refused(repository.pytest("--device", "local", "-m", "accuracy"), said, "in.npz")


def test_a_missing_inputs_file(repository):
    (repository.root / "suites" / "release.toml").write_text(PLAN.format(path=MODELS / "tiny.onnx"))
    refused(repository.pytest("--device", "local", "-m", "accuracy"), "in.npz")


def test_parallel_workers_are_refused(repository):
    refused(repository.local("tiny.onnx", "-n", "2"), "one thing at a time")


def test_nothing_is_written_for_a_usage_error(repository):
    done = repository.pytest("--device", "rpi5")
    assert not done.folder.exists()
    assert not (repository.root / "reports").exists()


def test_no_model_and_a_plan_without_any(repository):
    refused(repository.pytest("--device", "local"), "no model to measure", "--model FILE", "release.toml")


def test_a_model_that_its_runtime_refuses_draws_no_warning_of_another_plugin(repository):
    done = repository.local("truncated.onnx", "-k", "test_single_stream")
    assert done.returncode == 1
    assert "the runtime refuses it" in done.output
    assert "Warning" not in done.output, done.output


def test_a_cache_that_cannot_be_made_ends_the_call(repository, monkeypatch):
    file = repository.root / "file"
    file.write_text("")
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(file / "cache"))
    done = repository.local("tiny.onnx")
    assert done.returncode == 75
    assert "Traceback" not in done.output
    assert (
        "the cache's folder can't be made: Not a directory. Make it writable, or set HIL_HARNESS_CACHE"
        in done.output
    )
