"""Runtime environments: what goes in, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from harness import cache
from harness.errors import ConfigError, HostSetupError, RuntimeUnavailable
from harness.model import RuntimeSpec
from harness.runtimes import Environment, Platform, RuntimeDescriptor, environment, environments

PI = Platform("aarch64", "3.11", "2.36")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))


def own(adapter, requirements=lambda version, python: ()):
    return RuntimeDescriptor("own", ("onnx",), "1.0", requirements, adapter)


def make(found, spec=None) -> Environment:
    return environment(spec or RuntimeSpec("own"), found, PI)


def elf(machine: int) -> bytes:
    return b"\x7fELF" + bytes(14) + machine.to_bytes(2, "little") + bytes(44)


def fake_pip(monkeypatch, files=None, returncode=0, stderr=""):
    calls = []

    def run(argv, **kwargs):
        calls.append(argv)
        if "pip" in argv:
            target = argv[argv.index("--target") + 1]
            for name, data in (files or {}).items():
                path = Path(target) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return subprocess.CompletedProcess(argv, returncode, "", stderr)

    monkeypatch.setattr(environments.subprocess, "run", run)
    return calls


def test_platform_tags_follow_the_c_library():
    assert PI.pip_tags()[0] == "manylinux_2_36_aarch64"
    assert "manylinux2014_aarch64" in PI.pip_tags()
    assert "manylinux_2_37_aarch64" not in PI.pip_tags()


def test_an_adapter_travels_with_its_environment_and_is_made_once(tmp_path):
    adapter = tmp_path / "adapter.py"
    adapter.write_text("NAME = 'own'\n")
    first, second = make(own(adapter)), make(own(adapter))
    assert first == second
    assert first.adapter == "env"
    with tarfile.open(first.path) as tar:
        assert "adapter.py" in tar.getnames()


def test_another_adapter_is_another_environment(tmp_path):
    adapter = tmp_path / "adapter.py"
    adapter.write_text("NAME = 'own'\n")
    first = make(own(adapter))
    adapter.write_text("NAME = 'changed'\n")
    assert make(own(adapter)).sha256 != first.sha256


def test_the_same_files_give_the_same_bytes(tmp_path, monkeypatch):
    adapter = tmp_path / "adapter.py"
    adapter.write_text("NAME = 'own'\n")
    first = make(own(adapter))
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "elsewhere"))
    assert make(own(adapter)).sha256 == first.sha256


def test_tests_and_stubs_stay_behind(monkeypatch):
    fake_pip(
        monkeypatch, {"pkg/__init__.py": b"", "pkg/x.pyi": b"", "pkg/tests/test_x.py": b"", "bin/tool": b""}
    )
    made = make(own("own", lambda version, python: ("pkg==1",)))
    with tarfile.open(made.path) as tar:
        names = tar.getnames()
    assert "site/pkg/__init__.py" in names
    assert not [n for n in names if "tests" in n or n.endswith(".pyi") or "bin/" in n]


def test_a_wheel_of_another_architecture_is_refused(monkeypatch):
    fake_pip(monkeypatch, {"pkg/core.so": elf(62)})
    with pytest.raises(RuntimeUnavailable, match=r"built for x86_64, expected aarch64"):
        make(own("own", lambda version, python: ("pkg==1",)))
    assert not list(cache.folder(cache.ENVIRONMENTS).iterdir())  # nothing half-made stays


def test_a_version_that_does_not_exist_names_those_that_do(monkeypatch):
    fake_pip(monkeypatch, returncode=1, stderr="ERROR: Could not find … (from versions: 1.0, 1.1)\n")
    with pytest.raises(ConfigError, match=r"newest builds there: 1\.0, 1\.1"):
        make(own("own", lambda version, python: ("pkg==9",)))


def test_an_index_that_does_not_answer_is_the_labs_failure(monkeypatch):
    fake_pip(monkeypatch, returncode=1, stderr="ERROR: Could not find … (from versions: none)\n")
    with pytest.raises(RuntimeUnavailable, match=r"package index"):
        make(own("own", lambda version, python: ("pkg==9",)))


def test_a_python_without_pip_says_how_to_get_it(monkeypatch):
    fake_pip(monkeypatch, returncode=1, stderr="/usr/bin/python3: No module named pip\n")
    with pytest.raises(HostSetupError, match=r"ensurepip"):
        make(own("own", lambda version, python: ("pkg==9",)))


def test_only_wheels_for_the_device_are_asked_for(monkeypatch):
    calls = fake_pip(monkeypatch, {"pkg/__init__.py": b""})
    make(own("own", lambda version, python: (f"pkg=={version}",)), RuntimeSpec("own", "2.5"))
    pip = calls[0]
    assert pip[0] == sys.executable
    assert "pkg==2.5" in pip
    assert "--only-binary=:all:" in pip
    assert pip[pip.index("--python-version") + 1] == "3.11"
    assert not [a for a in pip if "x86_64" in a]
