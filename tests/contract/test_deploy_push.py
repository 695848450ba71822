"""`harness deploy push` over a real sshd: a model of several files goes there whole, as from the suites."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import ncnn_package
from support.ncnn_model import SmallNetwork, write_network
from support.sshd import Sshd
from support.tiny import MODELS

from harness import bundles, cache
from harness.cli.main import main

DEVICES = """
schema_version = 1
[types.board]
[devices.pi]
type = "board"
kind = "ssh"
home = "{home}"
[devices.pi.ssh]
host = "{sshd.host}"
port = {sshd.port}
user = "{sshd.user}"
identity_path = "{sshd.identity}"
host_key = "{sshd.host_key}"
"""
Push = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of the agent behind the sshd that a devices.toml here names; ncnn is an installed runtime."""
    place = tmp_path / "home"
    (tmp_path / "devices.toml").write_text(DEVICES.format(home=place, sshd=sshd))
    ncnn_package.install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv(cache.ENV_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield place
    for name in [name for name in sys.modules if name.split(".")[0] == "harness_ncnn"]:
        del sys.modules[name]


@pytest.fixture
def network(tmp_path: Path) -> SmallNetwork:
    (tmp_path / "models").mkdir()
    return write_network(tmp_path / "models")


@pytest.fixture
def push(home: Path, capsys: pytest.CaptureFixture[str]) -> Push:
    """A function that pushes, and returns what it says."""

    def call(*argv: object) -> str:
        assert main(["deploy", "push", "pi", *map(str, argv)]) == 0
        return capsys.readouterr().out

    return call


def active(home: Path, name: str) -> bytes:
    return (home / "active" / name).read_bytes()


def unpacked(home: Path, name: str) -> dict[str, bytes]:
    """Return the files that a runtime on the device finds for an active bundle."""
    sha256 = hashlib.sha256(active(home, name)).hexdigest()
    (folder,) = (p for p in home.rglob("*") if p.is_dir() and p.name == sha256)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_files_of_a_model_are_there_side_by_side(home, network, push):
    said = push(network.param)
    name = network.param.name
    assert said.startswith(f"{name}: ")
    assert f" sent: {name}, {network.bin.name})" in said
    assert unpacked(home, name) == {p.name: p.read_bytes() for p in (network.param, network.bin)}


def test_other_weights_are_another_version_and_the_same_are_not_sent_again(network, push, capsys):
    first = push(network.param, "--name", "scores")
    assert "its bytes were there already" in push(network.param, "--name", "scores")
    network.bin.write_bytes(network.bin.read_bytes()[:-4] + b"\1\2\3\4")
    before = first.partition(" is active")[0].removeprefix("scores: ")
    assert f"before it {before})" in push(network.param, "--name", "scores")
    assert main(["deploy", "list", "pi", "scores"]) == 0
    newest, oldest = capsys.readouterr().out.splitlines()
    assert newest.endswith("active")
    assert oldest.startswith(before)


def test_a_file_that_is_missing_is_named_and_nothing_is_sent(home, network, capsys):
    network.bin.unlink()
    assert main(["deploy", "push", "pi", str(network.param)]) == 2
    said = capsys.readouterr().err
    assert f"{network.param}: ncnn's weights belong beside {network.param.name}" in said
    assert "--runtime-option empty_weights=true" in said
    assert not home.exists()


def test_options_say_which_files_belong_to_it(home, network, push):
    network.bin.unlink()
    assert " sent)" in push(network.param, "--runtime-option", "empty_weights=true")
    assert active(home, network.param.name) == network.param.read_bytes()


def test_a_model_of_the_plan_goes_under_its_name_with_its_options(home, network, tmp_path, push):
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "release.toml").write_text(
        'schema_version = 1\n[models.scorer]\npath = "../models/NAME"\nruntime = "ncnn"\n'
        "options = { empty_weights = true }\n".replace("NAME", network.param.name)
    )
    assert push("scorer").startswith("scorer: ")
    assert active(home, "scorer") == network.param.read_bytes()
    assert push(network.param).startswith(f"{network.param.name}: ")  # the plan's options, the file's name
    assert active(home, network.param.name) == network.param.read_bytes()


def test_a_bundle_goes_as_it_is(home, network, tmp_path, push):
    push(network.param)
    kept = tmp_path / "kept.param"
    kept.write_bytes(active(home, network.param.name))
    assert bundles.is_bundle(kept)
    assert "its bytes were there already" in push(kept)


def test_one_file_stays_one_file_and_an_unknown_format_is_sent_as_it_is(home, tmp_path, push):
    assert " sent)" in push(MODELS / "tiny.onnx")
    assert active(home, "tiny.onnx") == (MODELS / "tiny.onnx").read_bytes()
    (tmp_path / "a b.engine").write_bytes(b"built for this board")
    assert " sent)" in push("a b.engine")
    assert active(home, "a_b.engine") == b"built for this board"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["none.onnx"], "harness: FILE: no such model file or plan model: none.onnx. Looked for it as "),
        ([MODELS / "tiny.onnx", "--runtime", "ncn"], "--runtime: unknown runtime `ncn`; did you mean"),
        ([MODELS / "tiny.onnx", "--runtime", "litert"], "--runtime: litert runs none of the chosen models"),
        ([MODELS / "tiny.onnx", "--runtime-option", "fast=1"], "runtime `onnxruntime` has no option `fast`"),
        ([MODELS / "tiny.onnx", "--name", "../door"], "--name: '../door' can't be a model's name"),
        (["."], ": is a folder, expected a model file.\n"),
    ],
)  # fmt: skip
def test_what_can_not_be_sent_is_refused(home, argv, said, capsys):
    assert main(["deploy", "push", "pi", *map(str, argv)]) == 2
    assert said in capsys.readouterr().err
    assert not home.exists()
