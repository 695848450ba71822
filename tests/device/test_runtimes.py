"""Runtimes that a user brings: an executable named in the plan, another's package by entry point."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.repository import Repository

COMMAND = Path(__file__).resolve().parents[1] / "support" / "doubling_command.py"
PLAN = """
[runtimes.doubler]
kind = "command"
argv = ["{python}", "{command}"{more}]
protocol = "{protocol}"
"""
# in the format of benchmark_model.cc (TensorFlow 2.16)
BENCHMARK_MODEL = """#!/bin/sh
echo 'INFO: count=5 first=900 curr=500 min=500 max=900 avg=600 std=10 p5=500 median=510 p95=890'
echo 'INFO: count=50 first=501 curr=500 min=499 max=530 avg=505 std=6 p5=499 median=502 p95=520'
echo 'INFO: Inference timings in us: Init: 1250, First inference: 9e2, Warmup (avg): 6, Inference (avg): 505'
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository.make(tmp_path / "theirs")
    (made.root / "model.double").write_text("twice")
    return made


def write_plan(repository: Repository, *more: str) -> None:
    quoted = "".join(f', "{text}"' for text in more)
    repository.write_plan(
        PLAN.format(python=sys.executable, command=COMMAND, more=quoted, protocol="json-lines")
    )


def test_an_executable_is_measured_like_any_runtime(repository):
    write_plan(repository)
    done = repository.pytest("--device", "local", "--model", "model.double", "--runtime", "doubler")
    assert done.returncode == 0, done.output
    (p50,) = [r for r in done.results("latency_p50_ns") if r["scenario"] == "single_stream"]
    assert 1_000_000 <= p50["value"] <= 1_000_070  # its own clock's samples, as they are
    assert (p50["runtime"], p50["runtime_version"]) == ("doubler", "2.0")
    assert [r["value"] for r in done.results("output_max_abs_error")] == [0.0]
    assert done.results("peak_rss_bytes")[0]["value"] > 1 << 20


def test_a_summary_alone_gives_what_it_says_and_a_reason_for_the_rest(repository):
    tool = repository.root / "benchmark_model"
    tool.write_text(BENCHMARK_MODEL)
    tool.chmod(0o755)
    repository.write_plan(
        f'[runtimes.tool]\nkind = "command"\nargv = ["{tool}", "--graph={{model}}"]\n'
        'protocol = "benchmark_model"\nformats = [".double"]\n'
    )
    done = repository.pytest("--device", "local", "--model", "model.double", "--runtime", "tool", "-rs")
    assert done.returncode == 0, done.output
    values = {r["metric"]: r for r in done.summary()["results"] if r["scenario"] == "single_stream"}
    assert values["latency_p50_ns"]["value"] == 502_000
    assert values["latency_mean_ns"]["value"] == 505_000
    assert values["load_time_ns"]["value"] == 1_250_000
    assert values["latency_p99_ns"]["value"] is None
    assert "gives no samples" in str(values["latency_p99_ns"]["reasons"])
    assert "it takes no inputs from here, so there are no outputs to compare" in done.output


def test_an_executable_that_dies_is_the_models_failure(repository):
    write_plan(repository, "--die-in", "run")
    done = repository.pytest(
        "--device", "local", "--model", "model.double", "--runtime", "doubler", "-m", "deploy"
    )
    assert done.returncode == 1, done.output
    assert "the command died of signal 9 during `run`" in done.output


def test_an_executable_that_is_not_there(repository):
    repository.write_plan(
        '[runtimes.tool]\nkind = "command"\nargv = ["/opt/none"]\nprotocol = "json-lines"\n'
    )
    done = repository.pytest(
        "--device", "local", "--model", "model.double", "--runtime", "tool", "-m", "deploy"
    )
    assert done.returncode == 4, done.output
    assert "`/opt/none` is no executable on the device" in done.output


def table(name: str = "x", kind: str = "command", argv: str = '["a"]', protocol: str = "json-lines") -> str:
    return f'[runtimes.{name}]\nkind = "{kind}"\nargv = {argv}\nprotocol = "{protocol}"\n'


@pytest.mark.parametrize(
    ("plan", "options", "said"),
    [
        (table(kind="comand"), (), "did you mean `command`"),
        (table(argv='"a b"'), (), "a list of strings"),
        (table(protocol="json"), (), "json-lines, benchmark_model"),
        (table(name="litert"), (), "of this name already"),
        ("", ("--runtime", "command"), "[runtimes.NAME]"),
        (table(), ("--runtime", "x==1"), "no version"),
    ],
)
def test_what_is_refused_before_anything_runs(repository, plan, options, said):
    repository.write_plan(plan)
    done = repository.pytest("--device", "local", "--model", "model.double", *options)
    assert done.returncode == 4, done.output
    assert said in done.output, done.output
    assert not done.folder.exists()


THEIRS = """
from pathlib import Path
from harness.runtimes import RuntimeDescriptor
DESCRIPTOR = RuntimeDescriptor(
    "theirs", ("double",), "1.0", lambda version, python: (), Path(__file__).parent / "adapter.py"
)
"""
ADAPTER = """
import array

NAME = "theirs"


class ModelError(Exception):
    pass


def version():
    return "1.0"


class Session:
    raw = True
    inputs = [{"name": "x", "shape": [None, 4], "dtype": "float32"}]
    outputs = [{"name": "y", "shape": [None, 4], "dtype": "float32"}]

    def __init__(self, factor):
        self._factor = factor

    def prepare(self, feeds):
        _, self._shape, data = feeds["x"]
        x = array.array("f", bytes(data))

        def invoke():
            self._y = array.array("f", [self._factor * v for v in x])

        return invoke

    def read_outputs(self):
        return {"y": ("float32", self._shape, self._y.tobytes())}


def load(model_path, threads, options):
    text = open(model_path).read()
    if text != "twice":
        raise ModelError("expected `twice`, found " + repr(text))
    return Session(2.0)
"""


@pytest.fixture
def their_package(tmp_path: Path) -> dict[str, str]:
    """Another's package as pip would install it, on PYTHONPATH."""
    site = tmp_path / "site"
    info, package = site / "theirs-1.0.dist-info", site / "theirs_runtime"
    info.mkdir(parents=True)
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.runtimes]\ntheirs = theirs_runtime:DESCRIPTOR\n")
    (package / "__init__.py").write_text(THEIRS)
    (package / "adapter.py").write_text(ADAPTER)
    return {"PYTHONPATH": str(site)}


def test_a_runtime_of_another_package_runs_end_to_end(repository, their_package):
    done = repository.pytest(
        "--device", "local", "--model", "model.double", "--runtime", "theirs", env=their_package
    )
    assert done.returncode == 0, done.output
    assert {(r["runtime"], r["runtime_version"]) for r in done.summary()["results"]} == {("theirs", "1.0")}
    assert done.results("latency_p99_ns")[0]["value"] > 0
    assert done.results("output_max_abs_error")[0]["value"] == 0.0


def test_its_own_words_when_it_refuses_a_model(repository, their_package):
    (repository.root / "model.double").write_text("thrice")
    done = repository.pytest(
        "--device",
        "local",
        "--model",
        "model.double",
        "--runtime",
        "theirs",
        "-m",
        "deploy",
        env=their_package,
    )
    assert done.returncode == 1, done.output
    assert "expected `twice`, found 'thrice'" in done.output


def test_a_tflite_model_that_hides_its_integers_is_held_to_their_precision(repository):
    models = COMMAND.parents[2] / "models"
    done = repository.pytest(
        "--device", "local", "--model", str(models / "digits_int8.tflite"), "-m", "accuracy"
    )
    assert done.returncode == 0, done.output
    assert [run["settings"]["precision"] for run in done.runs()] == ["int8"]
