"""What --baseline picks for each chosen model on each device."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from support import records

from harness import baselines
from harness.against import baselines_for, choose
from harness.errors import ConfigError, StoredRunError
from harness.model import CommandRuntime, Device, DeviceType, Plan, PlanModel, RuntimeSpec
from harness.recorded import facts_of
from harness.selection import select_models

BOARD = Device("rpi4-emulated", DeviceType("rpi4"), "qemu")
OTHER = Device("rpi4-02", DeviceType("rpi4"), "ssh")


@pytest.fixture
def plan(tmp_path) -> Plan:
    for name in ("a.onnx", "b.tflite", "old.onnx", "a_test.npz"):
        (tmp_path / name).write_bytes(name.encode())
    a = PlanModel("a", tmp_path / "a.onnx", inputs_path=tmp_path / "a_test.npz", task="accuracy")
    return Plan(None, models=(a, PlanModel("b", tmp_path / "b.tflite")))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "reports" / "baselines"


@pytest.fixture
def record(tmp_path, folder):
    """Return a function that records a file as a model's on a unit; without a file, its numbers alone."""

    def put(name, model, file: Path | None = None, device="rpi4-emulated", **changes):
        unit = replace(records.PI, name=device)
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file else "ab" * 32
        run = records.run(model=model, device=unit, artifact_sha256=digest)
        facts = replace(facts_of([run], name), **changes)
        if file:
            facts = replace(facts, artifact_file=f"{digest}{file.suffix}")
        baselines.put(folder, name, [baselines.Entry(facts, file)])

    return put


def chosen(plan, *given):
    return select_models(plan, given, (), {})


def found(plan, folder, options, *given, devices=(BOARD,)):
    """Return what each chosen model is compared with, by model, on one device."""
    models = chosen(plan, *given)
    choices = choose(options, plan, models, folder)
    resolved = baselines_for(choices, models, devices, folder, plan)
    return {model: baseline for (_, model), baseline in resolved.items()}


def problems(plan, folder, options, *given, devices=(BOARD,)) -> str:
    with pytest.raises(ConfigError) as caught:
        found(plan, folder, options, *given, devices=devices)
    assert "--baseline" in str(caught.value)
    return str(caught.value)


# --- a file


def test_a_file_is_measured_beside_every_chosen_model(plan, folder, tmp_path):
    old = str(tmp_path / "old.onnx")
    by_model = found(plan, folder, [old])
    assert set(by_model) == {"a", "b"}
    a = by_model["a"]
    assert (a.name, a.recorded) == (old, None)
    assert a.model is not None
    assert (a.model.name, a.model.path) == ("a.baseline", tmp_path / "old.onnx")
    # it gets the candidate's inputs and task, so that both see the same samples
    assert (a.model.inputs_path, a.model.task) == (tmp_path / "a_test.npz", "accuracy")
    assert by_model["b"].model.name == "b.baseline"


def test_a_file_for_one_model(plan, folder, tmp_path):
    assert set(found(plan, folder, [f"a={tmp_path / 'old.onnx'}"])) == {"a"}


def test_a_file_runs_with_its_candidates_runtime_where_that_takes_it(plan, folder, tmp_path):
    pinned = RuntimeSpec("onnxruntime", "1.20.1")
    models = select_models(plan, ("a",), (pinned,), {})
    for file, runtime in (("old.onnx", pinned), ("b.tflite", None)):
        choices = choose([str(tmp_path / file)], plan, models, folder)
        ((_, baseline),) = baselines_for(choices, models, (BOARD,), folder, plan).items()
        assert baseline.model.runtime == runtime


def test_options_are_the_candidates_where_the_runtime_is_too(plan, folder, tmp_path):
    level = {"graph_optimization_level": "basic"}
    models = [replace(m, options=level) for m in select_models(plan, ("a",), (), {})]
    for file, options in (("old.onnx", level), ("b.tflite", {})):
        choices = choose([str(tmp_path / file)], plan, models, folder)
        ((_, baseline),) = baselines_for(choices, models, (BOARD,), folder, plan).items()
        assert baseline.model.options == options


def test_a_plain_name_may_be_a_file_here(plan, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found(plan, folder, ["old.onnx"], "a")["a"].model.path == tmp_path / "old.onnx"


def test_a_file_that_isnt_there(plan, folder, tmp_path):
    assert "no such model file" in problems(plan, folder, ["./nope.onnx"])
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "the model file is empty" in problems(plan, folder, [str(tmp_path / "empty.onnx")])
    assert "is a folder" in problems(plan, folder, [f"{tmp_path}/"])


# --- a model of the plan


def test_a_plans_model_for_all_but_itself(plan, folder):
    by_model = found(plan, folder, ["a"])
    assert set(by_model) == {"b"}
    assert (by_model["b"].name, by_model["b"].model.path.name) == ("a", "a.onnx")
    assert by_model["b"].model.name == "b.baseline"


def test_a_candidate_file_against_the_plans_own(plan, folder, tmp_path):
    a = found(plan, folder, ["a"], f"a={tmp_path / 'old.onnx'}")["a"]
    assert (a.model.path, a.model.name) == (tmp_path / "a.onnx", "a.baseline")


def test_a_plans_model_alone_has_nothing_to_be_compared_with(plan, folder):
    assert "`a` would be compared with itself alone" in problems(plan, folder, ["a"], "a")
    assert "`a` would be compared with itself alone" in problems(plan, folder, ["a=a"])


def test_two_builds_of_one_runtime_are_two_things(plan, folder):
    models = select_models(plan, ("a",), (RuntimeSpec("onnxruntime", "1.20.1"),), {})
    choices = choose(["a"], plan, models, folder)
    ((_, baseline),) = baselines_for(choices, models, (BOARD,), folder, plan).items()
    assert baseline.model.runtime is None
    # the plan's runtime by its format, written out, is the same thing
    same = select_models(plan, ("a",), (RuntimeSpec("onnxruntime"),), {})
    with pytest.raises(ConfigError, match="itself"):
        choose(["a"], plan, same, folder)


def test_builds_side_by_side_are_named_by_model(plan, folder, tmp_path):
    specs = (RuntimeSpec("onnxruntime", "1.20.1"), RuntimeSpec("onnxruntime", "1.31.1"))
    models = select_models(plan, ("a",), specs, {})
    old = tmp_path / "old.onnx"
    choices = choose([f"a={old}"], plan, models, folder)
    assert set(choices) == {"a@onnxruntime==1.20.1", "a@onnxruntime==1.31.1"}
    assert set(choose([f"a@onnxruntime==1.20.1={old}"], plan, models, folder)) == {"a@onnxruntime==1.20.1"}
    names = {b.model.name for b in baselines_for(choices, models, (BOARD,), folder, plan).values()}
    assert names == {"a@onnxruntime==1.20.1.baseline", "a@onnxruntime==1.31.1.baseline"}


# --- a recorded one


def test_a_recorded_file_is_measured_beside_the_candidate_with_its_own_build(plan, folder, record, tmp_path):
    record("release", "a", tmp_path / "old.onnx")
    a = found(plan, folder, ["release"], "a")["a"]
    assert (a.name, a.recorded.model, a.recorded.device_name) == ("release", "a", "rpi4-emulated")
    assert a.model.path.parent == folder / "release" / "artifacts"
    assert a.model.path.read_bytes() == b"old.onnx"
    assert a.model.runtime == RuntimeSpec("onnxruntime", "1.31.1")
    assert a.model.inputs_path == tmp_path / "a_test.npz"


def test_without_its_file_the_numbers_serve(plan, folder, record, tmp_path):
    record("release", "a")
    a = found(plan, folder, ["a=release"])["a"]
    assert (a.model, a.recorded.name) == (None, "release")
    record("gone", "a", tmp_path / "old.onnx")
    next((folder / "gone" / "artifacts").iterdir()).unlink()
    assert found(plan, folder, ["gone"], "a")["a"].model is None


def test_a_copy_that_changed_is_no_baseline(plan, folder, record, tmp_path):
    record("release", "a", tmp_path / "old.onnx")
    next((folder / "release" / "artifacts").iterdir()).write_bytes(b"?")
    with pytest.raises(StoredRunError, match="the copy changed since"):
        found(plan, folder, ["release"], "a")


def test_an_executable_on_the_device_has_no_build_to_ask_for(plan, folder, record, tmp_path):
    record("release", "a", tmp_path / "old.onnx", runtime="edge", runtime_version="7")
    own = replace(plan, runtimes=(CommandRuntime("edge", ("/opt/edge",), "json-lines"),))
    assert found(own, folder, ["release"], "a")["a"].model.runtime == RuntimeSpec("edge")


def test_each_unit_has_its_own(plan, folder, record, tmp_path):
    record("release", "a", tmp_path / "old.onnx")
    record("release", "a", tmp_path / "a.onnx", device="rpi4-02")
    models = chosen(plan, "a")
    choices = choose(["release"], plan, models, folder)
    both = baselines_for(choices, models, (BOARD, OTHER), folder, plan)
    first, second = (both[d.name, "a"] for d in (BOARD, OTHER))
    assert (first.model.path.read_bytes(), second.model.path.read_bytes()) == (b"old.onnx", b"a.onnx")
    assert first.model.name != second.model.name  # two files: what is known by name must not mix


def test_another_units_is_refused(plan, folder, record):
    record("release", "a", device="rpi4-01")
    said = problems(plan, folder, ["release"], "a", devices=(OTHER,))
    assert "baseline `release` is another unit's: a was recorded on rpi4-01." in said
    assert "Record one on rpi4-02: measure there with --baseline none, then harness baseline set" in said


def test_nothing_for_this_model_says_what_there_is(plan, folder, record):
    record("release", "b")
    said = problems(plan, folder, ["release"])  # both models of the plan
    assert "baseline `release` has nothing for model `a`; it holds b." in said
    assert "say --baseline a=release" in said


@pytest.mark.parametrize("option", ["release", "old.onnx=release"])
def test_a_single_candidate_is_compared_with_the_one_model_recorded(plan, folder, record, tmp_path, option):
    record("release", "old-name.onnx")
    by_model = found(plan, folder, [option], str(tmp_path / "old.onnx"))
    assert by_model["old.onnx"].recorded.model == "old-name.onnx"
    record("release", "second.onnx")
    said = problems(plan, folder, [option], str(tmp_path / "old.onnx"))
    assert "it holds old-name.onnx, second.onnx" in said


def test_of_two_candidates_one_may_be_told_whose_it_is(plan, folder, record):
    record("release", "old-name.onnx")
    by_model = found(plan, folder, ["a=release"])
    assert {name: b.recorded.model for name, b in by_model.items()} == {"a": "old-name.onnx"}


def test_no_such_baseline_says_the_nearest_and_how_to_record_one(plan, folder, record):
    said = problems(plan, folder, ["release"])
    assert "no recorded baseline, model of the plan or file `release`" in said
    assert "Record one from a finished session: harness baseline set release." in said
    record("release", "a")
    assert "did you mean `release`?" in problems(plan, folder, ["relase"])


def test_one_name_for_two_things_must_be_told_apart(plan, folder, record, tmp_path, monkeypatch):
    record("old.onnx", "a")
    record("b", "a")
    monkeypatch.chdir(tmp_path)
    said = problems(plan, folder, ["old.onnx"], "a")
    assert "`old.onnx` is a recorded baseline and a file here." in said
    assert "recorded:old.onnx for the recorded one, ./old.onnx for the other" in said
    assert found(plan, folder, ["recorded:old.onnx"], "a")["a"].recorded is not None
    assert found(plan, folder, ["./old.onnx"], "a")["a"].recorded is None
    assert "`b` is a recorded baseline and a model of the plan." in problems(plan, folder, ["b"], "a")
    assert found(plan, folder, ["a=recorded:b"], "a")["a"].recorded.name == "b"


# --- which model


def test_a_model_that_isnt_chosen(plan, folder, tmp_path):
    said = problems(plan, folder, [f"bb={tmp_path / 'old.onnx'}"])
    assert "`bb` is no chosen model; did you mean `b`?" in said
    assert "`b` is no chosen model" in problems(plan, folder, ["b=release"], "a")


def test_a_path_with_an_equals_sign_is_a_path(plan, folder, tmp_path):
    (tmp_path / "lr=0.1").mkdir()
    odd = tmp_path / "lr=0.1" / "m=1.onnx"
    odd.write_bytes(b"x")
    assert found(plan, folder, [str(odd)], "a")["a"].model.path == odd
    assert found(plan, folder, [f"a={odd}"], "a")["a"].model.path == odd


def test_two_baselines_for_one_model(plan, folder, record, tmp_path):
    record("release", "a")
    said = problems(plan, folder, ["release", f"a={tmp_path / 'old.onnx'}"], "a")
    assert "two baselines for `a`: release and" in said
    assert set(found(plan, folder, ["release", "release"], "a")) == {"a"}  # the same twice is one


def test_all_problems_come_at_once(plan, folder):
    with pytest.raises(ConfigError) as caught:
        choose(["nope", "c=a", "./none.onnx"], plan, chosen(plan), folder)
    assert len(caught.value.problems) == 3


def test_without_the_option_there_is_none(plan, folder):
    assert found(plan, folder, []) == {}


def test_the_names_of_two_files_are_never_the_same(plan, folder, tmp_path):
    (tmp_path / "a.baseline").write_bytes(b"x")
    models = chosen(plan, "a", str(tmp_path / "a.baseline"))
    assert [m.name for m in models] == ["a", "a.baseline"]
    choices = choose([str(tmp_path / "old.onnx")], plan, models, folder)
    names = [b.model.name for b in baselines_for(choices, models, (BOARD,), folder, plan).values()]
    assert names == ["a.baseline-2", "a.baseline.baseline"]


# --- the plan's own


@pytest.fixture
def planned(plan, tmp_path) -> Plan:
    """The plan with a baseline for its second model: a file beside the plan."""
    a, b = plan.models
    path = tmp_path / "release.toml"
    return replace(plan, path=path, models=(a, replace(b, baseline="old.onnx")))


def test_the_plans_baseline_serves_where_no_option_does(planned, folder, tmp_path):
    by_model = found(planned, folder, [])
    assert set(by_model) == {"b"}
    assert (by_model["b"].name, by_model["b"].model.path) == ("old.onnx", tmp_path / "old.onnx")
    assert found(planned, folder, [f"a={tmp_path / 'old.onnx'}"]).keys() == {"a", "b"}
    assert found(planned, folder, ["b=a"])["b"].name == "a"


def test_none_compares_nothing(planned, folder):
    assert found(planned, folder, ["none"]) == {}
    assert "`none` compares nothing: give it alone" in problems(planned, folder, ["none", "a"])


def test_a_plans_baseline_that_isnt_there_names_the_key(planned, folder):
    a, b = planned.models
    wrong = replace(planned, models=(a, replace(b, baseline="relese")))
    said = problems(wrong, folder, [])
    assert "models.b.baseline: no recorded baseline, model of the plan or file `relese`" in said
    assert "--baseline none" in said


def test_a_plans_model_that_is_its_own_baseline_is_compared_with_nothing(planned, folder, tmp_path):
    a, b = planned.models
    own = replace(planned, models=(replace(a, baseline="a"), b))
    assert "a" not in found(own, folder, [])
    candidate = found(own, folder, [], f"a={tmp_path / 'old.onnx'}")
    assert candidate["a"].model.path == tmp_path / "a.onnx"
