"""release.toml: what it means, and every way to get it wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness import plan as plans
from harness.errors import ConfigError
from harness.model import (
    Budget,
    Fidelity,
    MultiStreamLoad,
    PeriodicLoad,
    PlanModel,
    RuntimeSpec,
    ServerLoad,
)

ROOT = Path(__file__).resolve().parents[2]

GOOD = """
schema_version = 1

[release]
device_types = ["rpi4"]
other_device_types = ["local"]
required_suites = ["latency", "accuracy"]
accepted_fidelity = ["measured"]

[models.small]
path = "../models/small.onnx"
runtime = "onnxruntime==1.20.1"
inputs = "../models/test.npz"
task = "accuracy"
variant = "int8-static"
base = "big"
shape = { x = "1x3x96x96", "y:0" = "4" }
rtol = 1e-3
atol = 0

[models.big]
path = "/models/big.tflite"

[budgets.rpi4.small]
latency_p99_ns = { limit = "9 ms", fidelity = "virtual", rule = "point" }
accuracy = "97 %"
model_size_bytes = 500000
latency_p50_ns = [
    { limit = "5 ms", scenario = "single_stream" },
    { limit = "30 ms", scenario = "offline", batch_size = 8 },
    { limit = "4 ms", scenario = "offline", batch_size = 8, fidelity = "virtual" },
]

[budgets.local.big]
throughput_per_s = "12/s"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suites" / "release.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        plans.load_plan(write(tmp_path, text))
    assert caught.value.where.endswith("release.toml")
    return caught.value.problems


def test_a_plan_as_records(tmp_path):
    plan = plans.load_plan(write(tmp_path, GOOD))
    assert plan.device_types == ("rpi4",)
    assert plan.required_suites == ("latency", "accuracy")
    assert plan.accepted_fidelity == (Fidelity.MEASURED,)
    small, big = plan.models
    assert small == PlanModel(
        name="small",
        path=tmp_path / "models" / "small.onnx",
        runtime=RuntimeSpec("onnxruntime", "1.20.1"),
        inputs_path=tmp_path / "models" / "test.npz",
        task="accuracy",
        variant="int8-static",
        base="big",
        shapes={"x": (1, 3, 96, 96), "y:0": (4,)},
        rtol=1e-3,
        atol=0.0,
    )
    assert big == PlanModel("big", Path("/models/big.tflite"))


def test_budgets_are_in_stored_units_and_know_their_place(tmp_path):
    budgets = plans.load_plan(write(tmp_path, GOOD)).budgets
    place = "budgets.rpi4.small.{} in release.toml".format
    virtual, measured = Fidelity.VIRTUAL, Fidelity.MEASURED
    assert budgets == (
        Budget("small", "rpi4", "latency_p99_ns", 9e6, virtual, "point", where=place("latency_p99_ns")),
        Budget("small", "rpi4", "accuracy", 0.97, where=place("accuracy")),
        # a file has one size: no interval to wait for
        Budget("small", "rpi4", "model_size_bytes", 5e5, measured, "point", where=place("model_size_bytes")),
        Budget("small", "rpi4", "latency_p50_ns", 5e6, measured, "confidence", "single_stream", None,
               place("latency_p50_ns[0]")),
        Budget("small", "rpi4", "latency_p50_ns", 3e7, measured, "confidence", "offline", 8,
               place("latency_p50_ns[1]")),
        Budget("small", "rpi4", "latency_p50_ns", 4e6, virtual, "confidence", "offline", 8,
               place("latency_p50_ns[2]")),
        Budget("big", "local", "throughput_per_s", 12.0,
               where="budgets.local.big.throughput_per_s in release.toml"),
    )  # fmt: skip


def test_margins_stand_beside_limits_or_alone(tmp_path):
    text = (
        MODEL
        + """[budgets.rpi4.m]
latency_p50_ns = { margin = "1 %" }
latency_p99_ns = [{ limit = "9 ms", margin = "10 %" }, { margin = 0.05, fidelity = "virtual" }]
accuracy = { limit = "95 %", margin = "0.5 %" }
model_size_bytes = { margin = 0 }
"""
    )
    found = {
        (b.metric, str(b.fidelity)): (b.limit, b.margin)
        for b in plans.load_plan(write(tmp_path, text)).budgets
    }
    assert found == {
        ("latency_p50_ns", "measured"): (None, 0.01),
        ("latency_p99_ns", "measured"): (9e6, 0.1),
        ("latency_p99_ns", "virtual"): (None, 0.05),
        ("accuracy", "measured"): (0.95, 0.005),
        ("model_size_bytes", "measured"): (None, 0.0),
    }


def test_loads_golden_outputs_and_a_memory_limit(tmp_path):
    text = """
[models.m]
path = "m.onnx"
golden = "../golden.npz"
memory_limit = "128 MB"
[models.m.scenarios.server]
p99 = "48 ms"
duration_s = "1 min"
[models.m.scenarios.periodic]
period = "10 ms"
[models.m.scenarios.multi_stream]
samples_per_query = 8
[models.n]
path = "m.onnx"
[models.n.scenarios]
server = { rate = "50 /s" }
periodic = { period = "10 ms", deadline = "8 ms" }
"""
    path = write(tmp_path, text)
    m, n = plans.load_plan(path).models
    assert (m.golden_path, m.memory_limit_bytes) == (tmp_path / "golden.npz", 128_000_000)
    assert m.server == ServerLoad(p99_ns=48e6, duration_s=60.0)
    assert m.periodic == PeriodicLoad(10e6, 10e6)
    assert m.multi_stream == MultiStreamLoad(8)
    assert (n.server, n.periodic) == (ServerLoad(rate_per_s=50.0), PeriodicLoad(10e6, 8e6))
    assert (n.multi_stream, n.golden_path, n.memory_limit_bytes) == (None, None, None)
    (path.parent / "m.onnx").write_bytes(b"x")
    (tmp_path / "golden.npz").write_bytes(b"x")
    case = plans.resolve_case(m)
    assert (case.server, case.periodic, case.multi_stream) == (m.server, m.periodic, m.multi_stream)
    assert (case.golden_path, case.memory_limit_bytes) == (m.golden_path, m.memory_limit_bytes)


def test_a_stored_copy_is_the_same_plan(tmp_path):
    path = write(tmp_path, GOOD)
    plan = plans.load_plan(path)
    stored = json.loads(json.dumps(plan.raw))
    assert plans.plan_from_mapping(stored, str(path)) == plan


def test_an_empty_plan_is_a_plan_that_names_nothing(tmp_path):
    plan = plans.plan_from_mapping({}, "plan")
    assert (plan.models, plan.budgets, plan.required_suites) == ((), (), ())
    assert plan.accepted_fidelity == (Fidelity.MEASURED, Fidelity.VIRTUAL)


def test_nothing_of_the_models_is_read(tmp_path):
    # `GOOD` names files that don't exist: whoever only lists or gates needs none of them
    assert not plans.load_plan(write(tmp_path, GOOD)).models[0].path.exists()


def test_the_shipped_plan_is_in_order():
    plan = plans.load_plan(ROOT / "suites" / "release.toml")
    assert [model.name for model in plan.models] == [
        "digits_fp32_onnx",
        "digits_int8_onnx",
        "digits_fp32_tflite",
        "digits_int8_tflite",
    ]
    for model in plan.models:
        case = plans.resolve_case(model)
        assert case.inputs_path is not None
        size = next(b for b in plan.budgets if b.model == model.name and b.metric == "model_size_bytes")
        assert case.artifact.size_bytes <= size.limit
    assert {(b.model, b.device_type) for b in plan.budgets} == {
        (model.name, kind) for model in plan.models for kind in plan.device_types
    }


# --- what is wrong

MODEL = '[release]\ndevice_types = ["rpi4"]\n[models.m]\npath = "m.onnx"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[modles.m]", "modles: unknown key; did you mean `models`?"),
        ("schema_version = 2", "schema_version: this harness reads 1, got 2"),
        ("[release]\ndevice_type = []", "release.device_type: unknown key; did you mean `device_types`?"),
        ('[release]\ndevice_types = "rpi4"', "release.device_types: expected a list of strings, got 'rpi4'"),
        ('[release]\ndevice_types = ["a", "a"]', "release.device_types: 'a' is there twice"),
        ('[release]\ndevice_types = ["my board"]', "release.device_types: 'my board' is not a name"),
        (
            '[release]\nrequired_suites = ["lateny"]',
            "'lateny' is not one of deploy, accuracy, memory, latency, power, thermal, soak; "
            "did you mean `latency`?",
        ),
        ('[release]\naccepted_fidelity = ["virtul"]', "'virtul' is not one of measured, virtual, estimated"),
        ("[models.m]", "models.m.path: is missing; expected a string"),
        ("[models.m]\npath = 3", "models.m.path: expected a string, got 3"),
        ('models.m = "m.onnx"', "models.m: expected a table, got 'm.onnx'"),
        ('[models."a/b"]\npath = "x"', 'models."a/b": a name starts with a letter or digit'),
        (MODEL + 'runtime = "onnxruntime>=1"', "models.m.runtime: 'onnxruntime>=1' is not a runtime"),
        (
            MODEL + 'task = "acuracy"\ninputs = "x.npz"',
            "unknown task metric `acuracy`; did you mean `accuracy`?",
        ),
        (MODEL + 'task = "latency_p50_ns"\ninputs = "x"', "models.m.task: unknown task metric"),
        (MODEL + 'task = "accuracy"', "models.m.task: `accuracy` needs `inputs`"),
        (MODEL + 'base = "n"', "models.m.base: no other model `n`"),
        (MODEL + 'base = "m"', "models.m.base: no other model `m`"),
        (MODEL + 'shape = { x = "1xN" }', "models.m.shape.x: '1xN' is not a shape"),
        (MODEL + 'shape = "1x3"', "models.m.shape: expected a table"),
        (MODEL + "rtol = -1", "models.m.rtol: expected 0 or more, got -1"),
        (MODEL + 'rtol = "1 %"', "models.m.rtol: unknown unit `%`"),
        (MODEL + 'input = "x.npz"', "models.m.input: unknown key; did you mean `inputs`?"),
        (
            MODEL + "[budgets.rpi5.m]\naccuracy = 1",
            "budgets.rpi5: release.device_types and release.other_device_",
        ),
        (MODEL + "[budgets.rpi4.n]\naccuracy = 1", "budgets.rpi4.n: no model `n`"),
        (
            MODEL + "[budgets.rpi4.m]\nlatency_p98_ns = 1",
            "budgets.rpi4.m.latency_p98_ns: unknown metric; did you mean `latency_p9",
        ),
        (MODEL + "[budgets.rpi4.m]\nlatency_p99 = 1", "unknown metric; did you mean `latency_p99_ns`?"),
        (
            MODEL + '[budgets.rpi4.m]\nlatency_p99_ns = "9 MB"',
            "budgets.rpi4.m.latency_p99_ns.limit: unknown unit `MB` in '9 MB'; valid: ns, us,",
        ),
        (MODEL + "[budgets.rpi4.m]\naccuracy = 97", "limit: expected a ratio from 0 to 1"),
        (MODEL + "[budgets.rpi4.m]\naccuracy = true", "limit: expected"),
        (MODEL + "[budgets.rpi4.m]\npeak_rss_bytes = -1", "limit: expected 0 or more"),
        (
            MODEL + "[budgets.rpi4.m]\npeak_rss_bytes = {}",
            "peak_rss_bytes.limit: is missing: a budget has a limit, a margin, or both",
        ),
        (
            MODEL + "[budgets.rpi4.m]\npeak_rss_bytes = 0",
            "peak_rss_bytes is never 0, so nothing could hold it",
        ),
        (MODEL + "[budgets.rpi4.m]\nthroughput_per_s = 0", "throughput_per_s is never below 0, so this"),
        (
            MODEL + '[budgets.rpi4.m]\nserver_rate_per_s = "5000 k/s"',
            "no device answers 5e+06 requests a second; at most 1e+06",
        ),
        (
            MODEL + "[budgets.rpi4.m]\nlatency_p50_ns = { margin = -0.01 }",
            "latency_p50_ns.margin: expected 0 or more, got -0.01",
        ),
        (
            MODEL + "[budgets.rpi4.m]\nlatency_p50_ns = { margin = 5 }",
            'margin: 500% is beyond 100%, the most there may be; did you mean "5 %"?',
        ),
        (
            MODEL + '[budgets.rpi4.m]\nlatency_p50_ns = { margin = "20000 %" }',
            "margin: 20000% is beyond 100%, the most there may be",
        ),
        (
            MODEL + '[budgets.rpi4.m]\nlatency_p50_ns = { margin = "1 ms" }',
            "margin: unknown unit `ms` in '1 ms'; valid: %",
        ),
        (
            MODEL + "[budgets.rpi4.m]\nlatency_p50_ns = { margin = 0 }",
            "margin: 0 can't be shown: a measured effect has an interval",
        ),
        (
            MODEL + '[budgets.rpi4.m]\noutput_max_abs_error = { margin = "1 %" }',
            "output_max_abs_error isn't compared with a baseline; each run has it judged by itself",
        ),
        (
            MODEL + '[budgets.rpi4.m]\nlatency_p50_ns = { margin = "1 %", rule = "point" }',
            "latency_p50_ns.rule: is for a limit, and there is none",
        ),
        (MODEL + 'golden = ""', "models.m.golden: is empty"),
        (MODEL + "memory_limit = 128", "memory_limit: expected a quantity with its unit, got 128"),
        (MODEL + 'memory_limit = "128"', "memory_limit: expected a quantity with its unit, got '128'"),
        (MODEL + 'memory_limit = "12 kB"', "memory_limit: expected \"1 MiB\" or more, got '12 kB'"),
        (MODEL + "[models.m.scenarios.serve]", "scenarios.serve: unknown key; did you mean `server`?"),
        (MODEL + "[models.m.scenarios.server]", 'server.p99: expected `rate`, as "50 /s", or `p99`'),
        (
            MODEL + '[models.m.scenarios.server]\nrate = "5 /s"\np99 = "48 ms"',
            'server.rate: expected `rate`, as "50 /s", or `p99`, as "48 ms", to search the highest rate '
            "that keeps it; both are set",
        ),
        (
            MODEL + '[models.m.scenarios.server]\nrate = "9000000 /s"',
            "server.rate: no device answers that: expected above 0 and at most 1e+06 /s, got 9e+06",
        ),
        (MODEL + '[models.m.scenarios.server]\nrate = "0 /s"', "server.rate: nothing would arrive"),
        (MODEL + "[models.m.scenarios.server]\nrate = 50", "server.rate: expected a quantity with its unit"),
        (MODEL + '[models.m.scenarios.server]\np99 = "0 ms"', "server.p99: nothing is answered in no time"),
        (
            MODEL + '[models.m.scenarios.server]\nrate = "5 /s"\nduration_s = 0.1',
            "server.duration_s: expected 1 or more, got 0.1",
        ),
        (MODEL + "[models.m.scenarios.periodic]", "scenarios.periodic.period: is missing"),
        (
            MODEL + '[models.m.scenarios.periodic]\nperiod = "1 ns"',
            'periodic.period: expected "10 us" to "60 s", got \'1 ns\'',
        ),
        (
            MODEL + '[models.m.scenarios.periodic]\nperiod = "10 ms"\ndeadline = "-1 ms"',
            "periodic.deadline: nothing is done in no time",
        ),
        (MODEL + "[models.m.scenarios.multi_stream]", "multi_stream.samples_per_query: is missing"),
        (
            MODEL + "[models.m.scenarios.multi_stream]\nsamples_per_query = 5000",
            "samples_per_query: expected at most 1024, got 5000",
        ),
        (
            MODEL + "[budgets.rpi4.m]\npeak_rss_bytes = { limit = 1, fidelty = 2 }",
            "peak_rss_bytes.fidelty: unknown key; did you mean `fidelity`?",
        ),
        (
            MODEL + '[budgets.rpi4.m]\naccuracy = { limit = 1, rule = "median" }',
            "not one of confidence, point",
        ),
        (
            MODEL + '[budgets.rpi4.m]\naccuracy = { limit = 1, scenario = "ofline" }',
            "did you mean `offline`?",
        ),
        (MODEL + "[budgets.rpi4.m]\naccuracy = { limit = 1, batch_size = 0 }", "expected 1 or more, got 0"),
        (
            MODEL + "[budgets.rpi4.m]\naccuracy = [0.9, 0.8]",
            "accuracy[1]: the second budget for this fidelity",
        ),
    ],
)
def test_each_mistake_has_its_place_and_its_remedy(tmp_path, text, problem):
    (found,) = problems_of(tmp_path, text)
    assert problem in found


def test_all_problems_come_at_once(tmp_path):
    text = MODEL + 'taks = "accuracy"\n[budgets.rpi4.m]\nlatency_p99_ns = "9 MB"\npeak_rss = 1\n[nonsense]\n'
    assert len(problems_of(tmp_path, text)) == 4


def test_broken_toml_names_the_line(tmp_path):
    (found,) = problems_of(tmp_path, "[release\n")
    assert "is not valid TOML" in found
    assert "line 1" in found


def test_the_same_budget_twice_is_refused(tmp_path):
    (found,) = problems_of(tmp_path, MODEL + "[budgets.rpi4.m]\naccuracy = 1\naccuracy = 0.9\n")
    assert "line 7" in found


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        plans.load_plan(tmp_path / "release.toml")
    (tmp_path / "release.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="can't be read"):
        plans.load_plan(tmp_path / "release.toml")
    with pytest.raises(ConfigError, match="can't be read"):
        plans.load_plan(tmp_path)


# --- model files


def test_an_artifact_is_its_bytes(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"abc")
    artifact = plans.artifact_of(path)
    assert (artifact.name, artifact.format, artifact.size_bytes) == ("net.onnx", "onnx", 3)
    assert artifact.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert plans.artifact_of(path, "small").name == "small"


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("a.onnx", b"anything", "onnx"),
        ("a.ONNX", b"", "onnx"),
        ("a.tflite", b"not one", "tflite"),  # whether it loads is the deploy suite's to find out
        ("a.bin", b"\x1c\0\0\0TFL3....", "tflite"),
        ("a", b"\x1c\0\0\0TFL3....", "tflite"),
        ("a.bin", b"TFL3", "bin"),
        ("a", b"", ""),
    ],
)
def test_the_format_is_in_the_name_or_in_the_first_bytes(tmp_path, name, data, format):
    (tmp_path / name).write_bytes(data)
    assert plans.artifact_of(tmp_path / name).format == format


def test_a_case_is_the_plans_model_with_its_file_and_runtime(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"x")
    case = plans.resolve_case(PlanModel("m", tmp_path / "m.tflite", task="accuracy", shapes={"x": (1,)}))
    assert (case.name, case.runtime, case.task, case.shapes) == (
        "m",
        RuntimeSpec("litert"),
        "accuracy",
        {"x": (1,)},
    )
    pinned = PlanModel("m", tmp_path / "m.tflite", RuntimeSpec("tflite-runtime", "2.14.0"))
    assert plans.resolve_case(pinned).runtime == RuntimeSpec("tflite-runtime", "2.14.0")


def test_a_case_without_its_files_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such model file"):
        plans.resolve_case(PlanModel("m", tmp_path / "m.onnx"))
    with pytest.raises(ConfigError, match="is a folder"):
        plans.resolve_case(PlanModel("m", tmp_path))
    (tmp_path / "m.onnx").write_bytes(b"x")
    with pytest.raises(ConfigError, match="no such inputs file; model `m` needs it"):
        plans.resolve_case(PlanModel("m", tmp_path / "m.onnx", inputs_path=tmp_path / "t.npz"))
    with pytest.raises(ConfigError, match="no such golden file; model `m` needs it"):
        plans.resolve_case(PlanModel("m", tmp_path / "m.onnx", golden_path=tmp_path / "t.npz"))


def test_a_format_that_no_runtime_reads_needs_one_to_be_named(tmp_path):
    (tmp_path / "m.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match="no runtime is known for format `bin`"):
        plans.resolve_case(PlanModel("m", tmp_path / "m.bin"))
    assert (
        plans.resolve_case(PlanModel("m", tmp_path / "m.bin", RuntimeSpec("command"))).artifact.format
        == "bin"
    )
    assert plans.default_runtime("onnx") == RuntimeSpec("onnxruntime")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("onnxruntime", RuntimeSpec("onnxruntime")),
        (" onnxruntime == 1.20.1 ", RuntimeSpec("onnxruntime", "1.20.1")),
        ("tflite-runtime==2.14.0", RuntimeSpec("tflite-runtime", "2.14.0")),
        ("x==1.0rc1+local.2", RuntimeSpec("x", "1.0rc1+local.2")),
    ],
)
def test_runtimes(text, spec):
    assert plans.parse_runtime(text) == spec


@pytest.mark.parametrize("text", ["", "==1", "onnxruntime==", "onnxruntime=1.20", "a b", "a==1;rm", "../x"])
def test_what_is_no_runtime(text):
    with pytest.raises(ConfigError, match="is not a runtime"):
        plans.parse_runtime(text)


def test_shapes():
    assert plans.parse_shape("x=1x3x96x96") == ("x", (1, 3, 96, 96))
    assert plans.parse_shape("a=b:0=7") == ("a=b:0", (7,))
    for text in ("1x3", "=1x3", "x=", "x=0x3", "x=1x", "x=-1", "x=1 x 3", "x=1X3"):
        with pytest.raises(ConfigError, match=r"names no input|is not a shape"):
            plans.parse_shape(text)


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path):
    path = tmp_path / "release.toml"
    path.write_bytes("# Zürich\n\n[models.tür]\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"line 1 has a byte, 0xfc, that is not UTF-8\. Save it as UTF-8"):
        plans.load_plan(path)


def test_a_byte_order_mark_is_no_matter(tmp_path):
    path = tmp_path / "release.toml"
    path.write_text("schema_version = 1\n", encoding="utf-8-sig")
    assert plans.load_plan(path).models == ()


@pytest.mark.parametrize(("name", "said"), [("none.toml", "no such file"), (".", "Is a directory")])
def test_a_plan_that_is_not_there_names_the_next_step(tmp_path, name, said):
    with pytest.raises(ConfigError, match=rf"{said}\. Check its path; `harness init` writes"):
        plans.load_plan(tmp_path / name)
