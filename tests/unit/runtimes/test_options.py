"""Options of runtimes: those that a descriptor names, each of its type, from the plan or the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.model import Artifact, ModelCase, RuntimeSpec
from harness.plan import plan_from_mapping
from harness.runtimes import BUILT_IN, RuntimeDescriptor, options

KINDS = {"flag": bool, "count": int, "ratio": float, "mode": str}
FOUND = RuntimeDescriptor("r", ("x",), None, lambda v, p: (), "r", settable=KINDS)


def test_each_of_its_type():
    texts = {"flag": "false", "count": "3", "ratio": "2", "mode": "true"}
    typed = options.typed_options(texts, FOUND)
    assert typed == {"flag": False, "count": 3, "ratio": 2.0, "mode": "true"}
    assert [type(v) for v in typed.values()] == [bool, int, float, str]
    options.require_valid(typed, FOUND)
    options.require_valid({"ratio": 2}, FOUND)  # as TOML writes it


@pytest.mark.parametrize("wrong", [{"flag": 1}, {"count": True}, {"count": 1.5}, {"ratio": "1"}, {"mode": 1}])
def test_another_type_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"of runtime `r` is .*, expected"):
        options.require_valid(wrong, FOUND)


def test_every_problem_at_once_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        options.require_valid({"flog": True, "mode": 1}, FOUND)
    assert caught.value.problems == (
        "runtime `r` has no option `flog`; did you mean `flag`?",
        "option `mode` of runtime `r` is 1, expected text",
    )


def test_an_option_goes_to_the_runtimes_that_have_it():
    assert options.typed_options({"mode": "a"}, BUILT_IN["litert"]) == {}
    options.require_known({"mode": "a"}, {"litert": BUILT_IN["litert"], "r": FOUND})
    with pytest.raises(ConfigError, match="`litert` has no option `mode`; it has none that can be set"):
        options.require_known({"mode": "a"}, {"litert": BUILT_IN["litert"]})


@pytest.mark.parametrize("text", ["flag", "=true", "flag=", ""])
def test_what_names_no_option(text):
    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        options.parse_option(text)


def test_the_plan_keeps_them_for_its_runtime(tmp_path):
    raw = {"schema_version": 1, "models": {"m": {"path": "m.x", "options": {"flag": True, "ratio": 0.5}}}}
    (model,) = plan_from_mapping(raw, tmp_path / "release.toml").models
    assert model.options == {"flag": True, "ratio": 0.5}
    raw["models"]["m"]["options"]["mode"] = ["a"]
    with pytest.raises(
        ConfigError, match=r"models\.m\.options\.mode: expected true, false, a number or a string"
    ):
        plan_from_mapping(raw, tmp_path / "release.toml")


def test_a_run_says_what_was_set_and_nothing_where_nothing_was():
    artifact = Artifact("m", Path("m.x"), "ab", 1, "x")
    case = ModelCase(artifact, RuntimeSpec("r"), options={"mode": "a", "flag": True})
    assert options.runtime_settings(case) == {"runtime_options": {"flag": True, "mode": "a"}}
    assert options.runtime_settings(ModelCase(artifact, RuntimeSpec("r"))) == {}
