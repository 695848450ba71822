"""tools/setup.sh on hosts that lack something: one line that says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.emulation import host
from harness.emulation.plugins import compiler

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "tools" / "setup.sh"


@pytest.fixture
def bare(tmp_path):
    """A PATH with only what is put there, and a function that puts a script there."""
    for tool in ("sh", "grep", "mktemp", "tail", "rm"):
        (tmp_path / tool).symlink_to(
            Path("/usr/bin") / tool if (Path("/usr/bin") / tool).exists() else f"/bin/{tool}"
        )

    def script(name: str, body: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(SETUP), *args],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return script, run


def test_a_user_without_rights_gets_the_line_that_installs(bare):
    script, run = bare
    script("dpkg-query", "exit 1")
    script("apt-get", "exit 0")
    script("id", "echo 1000")
    done = run("--host-packages", "emulation")
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends qemu-system-arm" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_root_installs_what_is_missing_and_only_that(bare, tmp_path):
    script, run = bare
    script("dpkg-query", 'case "$4" in fakeroot) exit 1;; *) echo "install ok installed";; esac')
    script("apt-get", f'echo "$@" >> {tmp_path}/calls')
    script("env", 'shift; exec "$@"')
    script("id", "echo 0")
    done = run("--host-packages", "emulation")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith("--no-install-recommends fakeroot")


EVERYTHING_BUT_A_COMPILER = 'case "$4" in gcc|libc6-dev) exit 1;; *) echo "install ok installed";; esac'


def test_root_gets_a_compiler_with_the_rest(bare, tmp_path):
    script, run = bare
    script(
        "dpkg-query", 'case "$4" in fakeroot|gcc|libc6-dev) exit 1;; *) echo "install ok installed";; esac'
    )
    script("apt-get", f'echo "$@" >> {tmp_path}/calls')
    script("env", 'shift; exec "$@"')
    script("id", "echo 0")
    done = run("--host-packages", "emulation")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines()[-1].endswith(" fakeroot gcc libc6-dev")


def test_a_user_without_rights_is_not_stopped_for_a_compiler(bare):
    script, run = bare
    script("dpkg-query", EVERYTHING_BUT_A_COMPILER)
    script("apt-get", "exit 99")
    script("id", "echo 1000")
    done = run("--host-packages", "emulation")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "will be coarser" in line
    assert line.endswith("apt-get install gcc libc6-dev")


def test_a_compiler_that_can_t_be_installed_stops_nobody(bare):
    script, run = bare
    script("dpkg-query", EVERYTHING_BUT_A_COMPILER)
    script("apt-get", "echo E: no network >&2; exit 100")
    script("id", "echo 0")
    done = run("--host-packages", "emulation")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "will be coarser" in line


def test_a_compiler_of_any_kind_is_enough(bare):
    script, run = bare
    script("dpkg-query", EVERYTHING_BUT_A_COMPILER)
    script("apt-get", "exit 99")
    script("cc", "exit 0")
    script("id", "echo 0")
    done = run("--host-packages", "emulation")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compiler_s_packages_are_those_that_the_plugin_names():
    assert f'COMPILER="{compiler.PACKAGES}"' in SETUP.read_text()


def test_a_failed_install_shows_why(bare):
    script, run = bare
    script("dpkg-query", "exit 1")
    script("apt-get", "echo E: no network >&2; exit 100")
    script("id", "echo 0")
    done = run("--host-packages", "emulation")
    assert done.returncode == 1
    assert "E: no network" in done.stderr


def test_another_distribution_is_told_plainly(bare):
    _, run = bare
    done = run("--host-packages", "emulation")
    assert done.returncode == 1
    assert "neither Debian nor Ubuntu" in done.stderr


def test_an_old_python_is_told_plainly(bare):
    script, run = bare
    script("python3", 'case "$1" in --version) echo "Python 3.9.2";; *) exit 1;; esac')
    done = run("somewhere")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed (found: Python 3.9.2)" in done.stderr


def test_the_script_and_the_harness_ask_for_the_same_packages():
    line = next(x for x in SETUP.read_text().splitlines() if x.startswith("EMULATION="))
    wanted = set(line.split('"')[1].split())
    asked = {*host.COMMANDS.values(), host.KEYRING_PACKAGE}
    # apt, dpkg and tar are what makes a host Debian-like
    assert wanted == asked - {"apt", "dpkg", "tar"}
