"""Verdicts and exit codes, end to end on this host."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.repository import TIMEOUT_S
from support.tiny import MODELS

BUDGETS = """
schema_version = 1
[release]
device_types = ["local"]
required_suites = ["deploy"]
[models.m]
path = "{path}"
[budgets.local.m]
model_size_bytes = {limit}
"""


def plan(repository, limit, model="tiny.onnx"):
    path = repository.root / "suites" / "release.toml"
    path.write_text(BUDGETS.format(path=MODELS / model, limit=limit))


def deploy(repository, *args):
    return repository.pytest("--device", "local", "-m", "deploy", *args)


def test_within_budget_is_a_pass_for_session_and_release(repository):
    plan(repository, '"1 MB"')
    done = deploy(repository)
    assert done.returncode == 0, done.output
    assert done.summary()["release"]["verdict"] == "PASS", done.summary()["release"]


def test_beyond_budget_is_exit_1_with_the_word_and_the_numbers(repository):
    plan(repository, "1")
    done = deploy(repository)
    assert done.returncode == 1
    assert "FAIL: " in done.output
    assert "model_size_bytes" in done.output
    assert done.summary()["release"]["verdict"] == "FAIL"


@pytest.mark.parametrize(
    "model",
    [
        "truncated.onnx",
        "not_a_model.onnx",
        "opset_99.onnx",
        "unsupported_op.onnx",
        "fails_when_run.onnx",
        "truncated.tflite",
        "not_a_model.tflite",
        "unsupported_op.tflite",
    ],
)
def test_a_model_that_the_runtime_refuses_is_a_fail_not_a_crash(repository, model):
    done = repository.local(model, "-m", "deploy")
    assert done.returncode == 1, done.output
    assert "FAIL: " in done.output
    assert "Traceback" not in done.output
    assert done.summary()["verdict"] == "FAIL"


def test_a_runtime_that_crashes_on_a_model_is_a_fail_too(repository):
    done = repository.local("garbage.tflite", "-m", "deploy", "--runtime", "tflite-runtime")
    assert done.returncode == 1, done.output
    assert done.summary()["verdict"] == "FAIL"


def test_other_suites_are_not_measured_after_a_failed_deployment(repository):
    done = repository.local("opset_99.onnx", "-rs", "-m", "deploy or memory")
    assert done.returncode == 1
    assert "not measured: the model did not deploy" in done.output


def test_a_model_whose_outputs_are_not_numbers_has_nothing_to_agree_on(repository):
    done = repository.local("nan_output.onnx", "-m", "accuracy")
    assert done.returncode == 11, done.output
    assert "INVALID: " in done.output


def test_a_device_that_does_not_answer_is_an_error_with_75(repository):
    with (repository.root / "devices.toml").open("a") as f:
        f.write(
            '\n[devices.gone]\ntype = "rpi4"\nkind = "ssh"\n'
            '[devices.gone.ssh]\nhost = "127.0.0.1"\nport = 1\nuser = "pi"\nhost_key = "SHA256:'
            + "A" * 43
            + '"\n'
        )
    done = repository.pytest("--device", "gone", "--model", str(MODELS / "tiny.onnx"), "-m", "deploy")
    assert done.returncode == 75, done.output
    assert "ERROR" in done.output
    assert "INFRA_ERROR: " in done.output
    assert done.summary()["verdict"] == "INFRA_ERROR"
    assert len(list((done.folder / "runs").iterdir())) == 2  # every attempt is kept


def test_a_users_own_failing_assert_is_exit_1(repository):
    (repository.root / "suites" / "test_own.py").write_text(
        "import pytest\n"
        "@pytest.mark.deploy\n"
        "def test_own(deploy_run, gate):\n"
        "    gate(deploy_run)\n"
        "    assert deploy_run.measurements[0].value < 0\n"
    )
    done = repository.local("tiny.onnx", "-k", "test_own")
    assert done.returncode == 1
    assert done.summary()["verdict"] == "PASS"  # what was measured is fine; the user's own test isn't


def test_a_users_own_suite_uses_the_fixtures(repository):
    (repository.root / "suites" / "test_own.py").write_text(
        "def test_own(deploy_run, gate):\n"
        "    gate(deploy_run)\n"
        "    assert deploy_run.outcome == 'completed'\n"
    )
    assert repository.local("tiny.onnx", "-k", "test_own").returncode == 0


def test_reports_land_beside_devices_toml_not_beside_the_model(repository):
    # without an ini file pytest's rootdir is the common folder of all arguments
    (repository.root / "pytest.ini").unlink()
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "suites", "-m", "deploy"]
    env = {**os.environ, "HIL_HARNESS_STATE": str(repository.root / "state")}
    done = subprocess.run(
        [*argv, "--device", "local", "--model", str(MODELS / "tiny.onnx")],
        cwd=repository.root,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (repository.root / "reports" / "latest" / "report.html").is_file()


def test_two_files_of_one_name_are_compared(repository):
    for folder in ("old", "new"):
        (repository.root / folder).mkdir()
        (repository.root / folder / "m.onnx").write_bytes((MODELS / "tiny.onnx").read_bytes())
    done = deploy(repository, "--model", "old/m.onnx", "--model", "new/m.onnx")
    assert done.returncode == 0, done.output
    assert {run["model"] for run in done.runs()} == {"old-m.onnx", "new-m.onnx"}
