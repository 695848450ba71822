"""Commands as a runtime: what benchmark_model prints, and the JSON-lines protocol against a real process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.agent.adapters import benchmark_model, command, json_lines
from harness.agent.adapters.base import ModelError, OptionError, UnsupportedError
from harness.agent.samples import Raw

# in the format of benchmark_model.cc (TensorFlow 2.16); the figures are made up
NEW = """\
INFO: STARTING!
INFO: Loaded model /tmp/m.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 0.46
INFO: Initialized session in 12.5ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but end after 150 seconds.
INFO: count=9 first=87112 curr=51629 min=51629 max=87112 avg=58147 std=11478 p5=51629 median=51962 p95=87112

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but end after 150 seconds.
INFO: count=50 first=52162 curr=49785 min=49088 max=68610 avg=5.2e+04 std=60 p5=49620 median=51891 p95=68628

INFO: Inference timings in us: Init: 12500, First inference: 87112, Warmup (avg): 58147, Inference (avg): 52e3
INFO: Memory footprint delta from the start of the tool (MB): init=55.5 overall=56
INFO: Overall peak memory footprint (MB) via periodic monitoring: 64.5
"""
OLD = """\
Initialized session in 0.896ms
count=215 first=12231 curr=2106 min=2065 max=12231 avg=2331.42 std=746
count=459 first=2143 curr=2101 min=2056 max=2656 avg=2177.1 std=124
Average inference timings in us: Warmup: 2331.42, Init: 896, no stats: 2177.1
"""


def test_new_output() -> None:
    assert benchmark_model.parse_output(NEW) == {
        "load_time_ns": 12_500_000,
        "first_inference_ns": 87_112_000,
        "warmup_avg_ns": 58_147_000,
        "latency_avg_ns": 52_000_000,
        "count": 50,
        "latency_min_ns": 49_088_000,
        "latency_max_ns": 68_610_000,
        "latency_std_ns": 60_000,
        "latency_p5_ns": 49_620_000,
        "latency_p50_ns": 51_891_000,
        "latency_p95_ns": 68_628_000,
        "peak_memory_bytes": 64.5 * 2**20,
    }


def test_old_output_says_less() -> None:
    found = benchmark_model.parse_output(OLD)
    assert found["load_time_ns"] == 896_000
    assert found["latency_avg_ns"] == 2_177_100
    assert found["count"] == 459
    assert not {"first_inference_ns", "latency_p50_ns", "peak_memory_bytes"} & set(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("INFO: STARTING!\nERROR: Failed to load model /tmp/m.tflite\n", "ERROR: Failed to load model"),
        ("Benchmarking failed.\n", "Benchmarking failed"),
        ("hello\n", "printed no inference timings; its last line: hello"),
        ("", r"\(none\)"),
    ],
)
def test_output_without_timings_is_the_models_failure(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        benchmark_model.parse_output(text)


def script(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_benchmark_model_is_run_with_what_was_asked(tmp_path: Path) -> None:
    seen = tmp_path / "argv.json"
    source = f"import json, sys\njson.dump(sys.argv[1:], open({str(seen)!r}, 'w'))\nprint({NEW!r})\n"
    argv = [
        sys.executable,
        script(tmp_path, "tool.py", source),
        "--graph={model}",
        "--num_threads={threads}",
        "--num_runs={iterations}",
        "--warmup_runs={warmup}",
        "--max_secs={max_secs}",
        "{other}",
    ]
    session = command.load("/m.tflite", 2, {"argv": argv, "protocol": "benchmark_model"})
    assert (session.load_time_ns, session.first_inference_ns) == (12_500_000, 87_112_000)
    assert session.summarise(50, 5, 3 * 10**9)["count"] == 50
    expected = [
        "--graph=/m.tflite",
        "--num_threads=2",
        "--num_runs=50",
        "--warmup_runs=5",
        "--max_secs=3.000",
    ]
    assert json.loads(seen.read_text()) == [*expected, "{other}"]
    assert session.runtime_version.startswith("sha256:")


def test_a_tool_that_fails_rejects_the_model(tmp_path: Path) -> None:
    tool = script(tmp_path, "tool.py", "print('ERROR: unresolved custom op: X'); raise SystemExit(1)")
    with pytest.raises(ModelError, match="exited with 1: ERROR: unresolved custom op"):
        command.load("/m", 1, {"argv": [sys.executable, tool], "protocol": "benchmark_model"})


def test_a_tool_that_hangs_is_ended(tmp_path: Path) -> None:
    tool = script(tmp_path, "tool.py", "import time; time.sleep(60)")
    options = {"argv": [sys.executable, tool], "protocol": "benchmark_model", "timeout_s": 0.2}
    with pytest.raises(TimeoutError, match=r"longer than 0\.2 s"):
        command.load("/m", 1, options)


SPEAKER = """
import json, os, sys
factor = 2.0
feeds = outputs = None
for line in sys.stdin:
    request = json.loads(line)
    op, answer = request["op"], {"ok": True}
    if op == "load":
        if request["model"] == "/refused":
            answer = {"ok": False, "kind": "model", "message": "no such op"}
        elif request["model"] == "/crashes":
            os.kill(os.getpid(), 11)
        elif request["model"] == "/garbage":
            print("hello", flush=True)
            continue
        else:
            spec = {"name": "x", "shape": [None, 2], "dtype": "uint8"}
            answer.update(inputs=[spec], outputs=[dict(spec, name="y")], clock="CLOCK_X", version="7",
                          load_time_ns=123)
    elif op == "feed":
        data = open(request["path"], "rb").read()
        entry = request["arrays"][0]
        feeds = data[entry["offset"]:entry["offset"] + entry["nbytes"]], entry["shape"]
    elif op == "run":
        outputs = bytes(2 * value for value in feeds[0])
        answer["latency_ns"] = [1000 + i for i in range(request["count"])]
        if request["count"] == 13:
            answer["latency_ns"].pop()
    elif op == "read":
        open(request["path"], "wb").write(outputs)
        answer["arrays"] = [{"name": "y", "dtype": "uint8", "shape": feeds[1], "offset": 0,
                             "nbytes": len(outputs)}]
    print(json.dumps(answer), flush=True)
"""


def speaker(tmp_path: Path, model: str = "/m") -> json_lines.Session:
    options = {
        "argv": [sys.executable, script(tmp_path, "speaker.py", SPEAKER)],
        "protocol": "json-lines",
        "timeout_s": 20,
    }
    session = command.load(model, 1, options)
    assert isinstance(session, json_lines.Session)
    return session


@pytest.fixture
def session(tmp_path: Path) -> Iterator[json_lines.Session]:
    opened = speaker(tmp_path)
    yield opened
    opened.close()


def test_a_speaker_loads_runs_and_answers(session: json_lines.Session) -> None:
    assert session.inputs == [{"name": "x", "shape": [None, 2], "dtype": "uint8"}]
    assert (session.runtime_version, session.clock, session.load_time_ns) == ("7", "CLOCK_X", 123)
    for values in (bytes([1, 2, 3, 4]), bytes([5, 6])):
        invoke = session.prepare({"x": Raw("uint8", (len(values) // 2, 2), values)})
        assert invoke() == [1000]
        assert session.timed_run(3) == [1000, 1001, 1002]
        output = session.read_outputs()["y"]
        assert output == Raw("uint8", (len(values) // 2, 2), bytes(2 * v for v in values))


def test_a_speaker_that_counts_wrong_is_refused(session: json_lines.Session) -> None:
    session.prepare({"x": Raw("uint8", (1, 2), b"ab")})
    with pytest.raises(json_lines.CommandError, match="`run` of 13"):
        session.timed_run(13)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("/refused", ModelError, "no such op"),
        ("/crashes", ModelError, "signal 11 during `load`"),
        ("/garbage", json_lines.CommandError, "expected a JSON object"),
    ],
)
def test_a_speaker_that_will_not_load(
    tmp_path: Path, model: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        speaker(tmp_path, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`argv` is None"),
        ({"argv": "ls -l", "protocol": "json-lines"}, "expected a list"),
        ({"argv": ["true"], "protocol": "xml"}, "valid: benchmark_model, json-lines"),
        ({"argv": ["true"], "protocol": "json-lines", "timeout_s": 0}, "timeout_s"),
        ({"argv": ["no-such-tool"], "protocol": "json-lines"}, "`no-such-tool` is no executable"),
        ({"args": []}, "unknown option `args`; did you mean `argv`"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        command.load("/m", 1, options)


def test_unsupported_has_its_own_kind(tmp_path: Path) -> None:
    source = (
        'import sys\nsys.stdin.readline()\nprint(\'{"ok": false, "kind": "unsupported", "message": "no"}\')\n'
    )
    options = {"argv": [sys.executable, script(tmp_path, "no.py", source)], "protocol": "json-lines"}
    with pytest.raises(UnsupportedError, match="no"):
        command.load("/m", 1, options)
