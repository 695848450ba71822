"""--baseline and budgets on tests, from a user's repository: recorded, compared, refused."""

from __future__ import annotations

import pytest
from support.repository import Repository
from support.tiny import MODELS

from harness.cli.main import main

TINY = str(MODELS / "tiny.onnx")
MARKED = '''"""A test with a budget of its own."""

import pytest

pytestmark = pytest.mark.deploy


@pytest.mark.budget("model_size_bytes", {keys})
def test_size(deploy_run, gate):
    gate(deploy_run)
'''


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with a baseline `release` of the tiny model on this host: its size alone."""
    repository = Repository.make(tmp_path_factory.mktemp("recorded") / "theirs")
    done = repository.local("tiny.onnx", "-m", "deploy")
    assert done.returncode == 0, done.output
    files = ["--devices", str(repository.root / "devices.toml")]
    assert main(["baseline", *files, "set", "release", str(done.folder)]) == 0
    done.folder.rename(repository.root / "first")
    return repository


def compared(done) -> list[dict]:
    return [c for run in done.runs() for c in run["comparisons"]]


def test_a_recorded_file_is_compared_with(recorded):
    done = recorded.local("tiny.onnx", "-m", "deploy", "--baseline", "release")
    assert done.returncode == 0, done.output
    (size,) = compared(done)
    done.folder.rename(recorded.root / "second")
    assert (size["metric"], size["value"], size["method"]) == ("model_size_bytes", 1.0, "exact")
    assert size["baseline_name"] == "release"


def test_a_marker_overrides_the_plan_and_is_stored_for_later_readers(repository):
    (repository.root / "suites" / "test_deploy.py").write_text(MARKED.format(keys='limit="1 B"'))
    done = repository.local("tiny.onnx", "-m", "deploy")
    assert done.returncode == 1, done.output
    assert "model_size_bytes of" in done.output
    assert "@budget on suites/test_deploy.py::test_size" in done.output
    (run,) = done.runs()
    assert run["settings"]["budgets"][0]["limit"] == 1.0
    assert [r["verdict"] for r in done.results("model_size_bytes")] == ["FAIL"]
    assert done.summary()["verdict"] == "FAIL"


def refused(done, *said):
    assert done.returncode == 4, done.output
    assert "Traceback" not in done.output, done.output
    assert not done.folder.exists()
    for text in said:
        assert text in done.output, done.output


def test_a_budget_that_makes_no_sense_ends_the_call_at_collection(repository):
    (repository.root / "suites" / "test_deploy.py").write_text(MARKED.format(keys='margn="5"'))
    refused(
        repository.pytest("--device", "local", "--model", TINY, "--collect-only"),
        "suites/test_deploy.py::test_size: 2 problems",
        "margn: unknown key; did you mean `margin`?",
    )


def test_a_budget_on_a_test_that_measures_nothing(repository):
    text = 'import pytest\n\n\n@pytest.mark.budget("rmse", limit=1)\ndef test_x():\n    pass\n'
    (repository.root / "suites" / "test_own.py").write_text(text)
    refused(repository.local("tiny.onnx"), "it asks for no `target`")


def test_no_such_baseline(repository):
    refused(
        repository.local("tiny.onnx", "--baseline", "release"),
        "no recorded baseline, model of the plan or file `release`; nothing is recorded yet",
        "harness baseline set release",
    )


def test_another_models_and_a_changed_one(recorded):
    others = ["--model", str(MODELS / "fixed_batch.onnx"), "--model", TINY]
    refused(
        recorded.pytest("--device", "local", *others, "--baseline", "release"),
        "baseline `release` has nothing for model `fixed_batch.onnx`; it holds tiny.onnx",
        "say --baseline fixed_batch.onnx=release",
    )
    (copy,) = (recorded.root / "reports" / "baselines" / "release" / "artifacts").iterdir()
    before = copy.read_bytes()
    copy.write_bytes(before + b"x")
    try:
        refused(recorded.local("tiny.onnx", "--baseline", "release"), "the copy changed since")
    finally:
        copy.write_bytes(before)


def test_a_file_to_compare_with_that_isnt_there_or_is_empty(repository):
    refused(repository.local("tiny.onnx", "--baseline", "./old.onnx"), "no such model file")
    refused(
        repository.local("tiny.onnx", "--baseline", str(MODELS / "empty.onnx")), "the model file is empty"
    )
