"""A board that `harness devices up` keeps: the commands on it, and every runtime that we ship."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.repository import Repository

from harness.emulation import list_machines

pytestmark = pytest.mark.device
ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
TIMEOUT_S = 900.0  # only ends what hangs: the first one builds the image


@dataclass(frozen=True)
class Lab:
    """A repository whose emulated board is up."""

    repository: Repository
    name: str

    def harness(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness.cli.main", *argv],
            cwd=self.repository.root,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "HIL_HARNESS_STATE": str(self.repository.root / "state"),
            },
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
        )

    def say(self, *argv: str) -> str:
        """Return what a command that must succeed prints."""
        done = self.harness(*argv)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    repository = Repository.make(tmp_path_factory.mktemp("lab") / "theirs")
    name = f"rpi4-{secrets.token_hex(4)}"
    devices = repository.root / "devices.toml"
    devices.write_text(devices.read_text().replace("rpi4-emulated", name))
    made = Lab(repository, name)
    try:
        said = made.say("devices", "up", "rpi4", "--hours", "0.5")
        assert said.startswith(f"{name}: up on port ")
        assert "for 0.5 h" in said
        yield made
    finally:
        made.harness("devices", "down", name)
    assert name not in {m.name for m in list_machines()}


def test_it_is_listed_as_up(lab):
    (line,) = (line for line in lab.say("devices").splitlines() if line.startswith(lab.name))
    assert "up (functional, port " in line
    assert "0.5 h left" in line


def test_up_again_prolongs_it(lab):
    lab.say("devices", "up", lab.name, "--hours", "2")
    assert "2.0 h left" in lab.say("devices")


def test_another_profile_is_refused_while_it_is_up(lab):
    done = lab.harness("devices", "up", lab.name, "--profile", "timing")
    assert done.returncode == 2
    assert f"harness devices down {lab.name}" in done.stderr


def test_check_says_what_it_is(lab):
    said = lab.say("devices", "check", lab.name)
    assert said.startswith(f"{lab.name}: ok  Raspberry Pi 4 Model B")
    assert "2 cores, 2" in said


def test_ssh_runs_a_command_and_gives_its_exit_code(lab):
    assert lab.say("devices", "ssh", lab.name, "--", "uname", "-m") == "aarch64\n"
    assert lab.say("devices", "ssh", lab.name, "echo", "it's; a $HOME") == "it's; a $HOME\n"
    assert lab.harness("devices", "ssh", lab.name, "--", "sh", "-c", "exit 7").returncode == 7


def test_versions_of_a_model(lab):
    fp32, int8 = MODELS / "digits_fp32.onnx", MODELS / "digits_int8.onnx"
    assert "sent)" in lab.say("deploy", "push", lab.name, str(fp32), "--name", "digits")
    assert "sent, before it" in lab.say("deploy", "push", lab.name, str(int8), "--name", "digits")
    first, second = lab.say("deploy", "list", lab.name, "digits").splitlines()
    assert first.endswith("active")
    old = second.split()[0]
    assert lab.say("deploy", "rollback", lab.name, "digits") == f"digits: {old[:12]} is active again\n"
    assert f"{old}  digits" in lab.say("deploy", "list", lab.name)
    assert lab.say("deploy", "gc", lab.name, "--keep-versions", "1").startswith("removed ")


def test_each_runtime_and_two_builds_of_one_run_their_model(lab):
    done = lab.repository.pytest(
        "--device", lab.name, "-m", "deploy",
        "--model", str(MODELS / "digits_int8.onnx"), "--model", str(MODELS / "digits_int8.tflite"),
        "--runtime", "onnxruntime", "--runtime", "onnxruntime==1.20.1",
        "--runtime", "litert", "--runtime", "tflite-runtime",
    )  # fmt: skip
    assert done.returncode == 0, done.output
    rows = {(r["model"], r["runtime"], r["runtime_version"]) for r in done.results("model_size_bytes")}
    assert {(runtime, version) for _, runtime, version in rows} == {
        ("onnxruntime", "1.31.1"),
        ("onnxruntime", "1.20.1"),
        ("litert", "2.3.0"),
        ("tflite-runtime", "2.14.0"),
    }
    assert len({model for model, _, _ in rows}) == 4  # each under a name of its own
    assert lab.name in {m.name for m in list_machines()}  # the session left it up
