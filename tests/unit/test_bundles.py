"""Models of several files: one artifact of them, the same for the same files, wherever they lie."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness import bundles, cache, in_use
from harness.errors import ConfigError
from harness.model import PlanModel, RuntimeSpec
from harness.model_files import format_of, resolve_case
from harness.runtimes import RuntimeDescriptor

PAIR = RuntimeDescriptor(
    "pair",
    ("graph",),
    None,
    lambda version, python: (),
    "pair",
    files=lambda path, options: (path,) if options.get("alone") else (path, path.with_suffix(".weights")),
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(cache.ENV_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path) -> PlanModel:
    return write(tmp_path / "a")


def write(folder: Path, weights: bytes = b"weights") -> PlanModel:
    folder.mkdir()
    (folder / "net.graph").write_bytes(b"graph")
    (folder / "net.weights").write_bytes(weights)
    return PlanModel("net", folder / "net.graph", RuntimeSpec("pair"))


def bundled(model: PlanModel, found: RuntimeDescriptor = PAIR):
    return bundles.with_all_files(resolve_case(model), found).artifact


def test_its_files_travel_as_one_with_the_models_own_first(model):
    artifact = bundled(model)
    assert artifact.path.name == "net.graph"
    assert (artifact.format, artifact.name) == ("graph", "net")
    assert artifact.files == ("net.graph", "net.weights")
    assert artifact.sources == (model.path, model.path.with_suffix(".weights"))
    assert artifact.size_bytes == artifact.path.stat().st_size
    assert artifact.model_bytes == len(b"graph") + len(b"weights")
    with tarfile.open(artifact.path) as tar:
        assert tar.getnames() == ["net.graph", "net.weights"]
        content = tar.extractfile("net.weights")
        assert content is not None
        assert content.read() == b"weights"


def test_the_same_files_elsewhere_are_the_same_artifact(model, tmp_path):
    assert bundled(write(tmp_path / "b")).sha256 == bundled(model).sha256


def test_other_weights_are_another_artifact(model, tmp_path):
    assert bundled(write(tmp_path / "b", b"retrained")).sha256 != bundled(model).sha256


def test_one_file_alone_stays_as_it_is(model):
    case = resolve_case(replace(model, options={"alone": True}))
    assert bundles.with_all_files(case, PAIR) is case
    assert bundles.with_all_files(case, replace(PAIR, files=None)) is case


def test_a_file_that_is_not_there_is_named(model):
    missing = model.path.with_suffix(".weights")
    missing.unlink()
    with pytest.raises(ConfigError, match=r"net\.weights: runtime `pair` needs it beside net\.graph"):
        bundled(model)


def test_two_files_of_one_name_are_refused(model):
    def files(path, options):
        return path, path.parent / "more" / path.name

    (model.path.parent / "more").mkdir()
    (model.path.parent / "more" / "net.graph").write_bytes(b"x")
    with pytest.raises(
        ConfigError, match=r"two files of the model are called the same: net\.graph, net\.graph"
    ):
        bundled(model, replace(PAIR, files=files))


def test_a_bundle_is_taken_as_it_is(model, tmp_path):
    made = bundled(model)
    kept = tmp_path / "kept.graph"
    kept.write_bytes(made.path.read_bytes())
    again = bundled(PlanModel("net", kept, RuntimeSpec("pair")))
    assert (again.sha256, again.files, again.sources) == (made.sha256, made.files, ())
    assert (again.path, again.model_bytes) == (kept, made.model_bytes)
    assert format_of(again.path) == "graph"


def test_a_bundle_that_is_cut_is_refused(model, tmp_path):
    kept = tmp_path / "kept.graph"
    kept.write_bytes(bundled(model).path.read_bytes()[:700])
    with pytest.raises(ConfigError, match="looks like a tar"):
        bundled(PlanModel("net", kept, RuntimeSpec("pair")))


def test_settings_say_of_what_it_was_made(model):
    artifact = bundled(model)
    assert bundles.artifact_settings(artifact) == {
        "artifact_path": str(artifact.path),
        "artifact_files": [str(model.path), str(model.path.with_suffix(".weights"))],
    }
    assert bundles.artifact_settings(resolve_case(model).artifact) == {"artifact_path": str(model.path)}


def test_the_cache_lists_and_prunes_it(model):
    path = bundled(model).path
    assert [e.path for e in cache.entries()] == [path.parent]
    in_use.let_go()  # as at the end of the process that made it
    assert cache.prune(cap_bytes=0) == (f"bundles/{path.parent.name}",)
    assert not path.exists()
    assert bundled(model).path.exists()  # made anew
    assert [p.name for p in cache.folder(cache.BUNDLES).iterdir()] == [path.parent.name]  # nothing left over
