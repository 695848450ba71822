"""Which models the options pick."""

from __future__ import annotations

import pytest

from harness.agent.args import Args
from harness.errors import ConfigError
from harness.model import Plan, PlanModel, RuntimeSpec
from harness.selection import require_model_file, require_usable, select_models


@pytest.fixture
def plan(tmp_path):
    for name in ("a.onnx", "b.tflite"):
        (tmp_path / name).write_bytes(b"x")
    return Plan(None, models=(PlanModel("a", tmp_path / "a.onnx"), PlanModel("b", tmp_path / "b.tflite")))


def names(models):
    return [m.name for m in models]


def test_without_options_the_plans_models(plan):
    assert names(select_models(plan, (), (), {})) == ["a", "b"]


def test_a_name_a_file_and_a_candidate(plan, tmp_path):
    new = tmp_path / "new.onnx"
    new.write_bytes(b"y")
    assert names(select_models(plan, ["b"], (), {})) == ["b"]
    assert names(select_models(plan, [str(new)], (), {})) == ["new.onnx"]
    candidate = select_models(plan, [f"a={new}"], (), {})[0]
    assert (candidate.name, candidate.path) == ("a", new)


def test_the_plans_own_file_is_the_plans_model(plan, tmp_path):
    assert names(select_models(plan, [str(tmp_path / "a.onnx")], (), {})) == ["a"]


def test_every_wrong_model_is_told_at_once(plan):
    with pytest.raises(ConfigError) as caught:
        select_models(plan, ["nope.onnx", "aa=x.onnx"], (), {})
    assert len(caught.value.problems) == 2


def test_two_files_of_one_name_keep_apart(tmp_path):
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.onnx").write_bytes(b"x")
    given = [str(tmp_path / f / "m.onnx") for f in ("old", "new")]
    assert names(select_models(Plan(None), given, (), {})) == ["old-m.onnx", "new-m.onnx"]


def test_one_runtime_replaces_two_compare(plan):
    one, two = RuntimeSpec("onnxruntime", "1.20.1"), RuntimeSpec("onnxruntime")
    chosen = select_models(plan, (), (one,), {})
    assert [(m.name, m.runtime) for m in chosen] == [("a", one), ("b", None)]
    assert names(select_models(plan, ["a"], (one, two), {})) == ["a@onnxruntime==1.20.1", "a@onnxruntime"]


def test_an_unknown_or_useless_runtime_is_refused(plan):
    with pytest.raises(ConfigError, match="did you mean `onnxruntime`"):
        select_models(plan, (), (RuntimeSpec("onnxruntim"),), {})
    with pytest.raises(ConfigError, match="runs none of the chosen models"):
        select_models(plan, ["a"], (RuntimeSpec("litert"),), {})


def test_a_model_file_must_be_a_file_with_bytes(tmp_path):
    with pytest.raises(ConfigError, match="no such model file"):
        require_model_file(tmp_path / "x.onnx")
    with pytest.raises(ConfigError, match="is a folder"):
        require_model_file(tmp_path)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ConfigError, match="is empty"):
        require_model_file(tmp_path / "empty.onnx")


def test_names_are_plain_file_names_and_each_of_one_file(tmp_path):
    files = [tmp_path / place / "m.onnx" for place in ("a/x", "b/x", ".c d")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    given = [str(f) for f in (*files, files[0])]
    assert names(select_models(Plan(None), given, (), {})) == ["x-m.onnx", "x-m.onnx-2", "c_d-m.onnx"]
    long = tmp_path / ("é" * 100 + ".onnx")
    long.write_bytes(b"x")
    runtimes = (RuntimeSpec("onnxruntime", "1.20.1"), RuntimeSpec("onnxruntime"))
    for name in names(select_models(Plan(None), [str(long)], runtimes, {})):
        assert Args("store_activate", {"name": name}).name("name") == name


def test_a_file_given_twice_is_one_model(plan, tmp_path):
    (tmp_path / "new.onnx").write_bytes(b"x")
    assert names(select_models(plan, [str(tmp_path / "new.onnx")] * 2, (), {})) == ["new.onnx"]


def test_a_name_that_the_plan_lacks_says_what_to_do(plan):
    with pytest.raises(ConfigError) as caught:
        select_models(plan, ["c=new.onnx"], (), {})
    assert "`c` is no model of the plan" in str(caught.value)
    assert "Name it in the plan as models.c, or give the file alone: --model new.onnx." in str(caught.value)


def test_a_file_that_two_models_lack_is_told_once(plan, tmp_path):
    a = PlanModel("a", tmp_path / "a.onnx", inputs_path=tmp_path / "gone.npz")
    with pytest.raises(ConfigError) as caught:
        require_usable([a, PlanModel("a.baseline", tmp_path / "a.onnx", inputs_path=tmp_path / "gone.npz")])
    assert str(caught.value).count("gone.npz: no such inputs file") == 1
