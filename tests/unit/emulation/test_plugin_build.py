"""The counting plugin: built with a compiler alone for any version of the interface, the counts the same."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.emulation.plugins import build, compiler, interface
from harness.errors import HostSetupError

FAKE_QEMU = Path(__file__).with_name("fake_qemu.c")
COMPILER = shutil.which("cc")
needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C compiler on this host: the one-factor fit serves here"
)
# one set of 64 lines, one level; two pages in either level of the TLB
ARGUMENTS = ("cache=4096:64", "tlb=16:4")
# Four passes of the block: 4 loads of 8 bytes from lines beside each other, the first of them no stream's;
# 4 stores of 4 bytes to one line far away. Two pages. `begin` clears its own pass, `end` was entered once.
# After disarming, a window is empty.
COUNTED = """\
H 1 1
W 0
B 2 4000 d5032c5f
C 2 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
B 1 3000 f9400020f9000040
C 1 4 32 16 4 4 4 1 0 0 0 0 3 0 0 2 2
E
W 1
E
"""


def compile_fake(folder: Path, version: int) -> Path:
    assert COMPILER is not None
    made = folder / "fake_qemu"
    argv = [COMPILER, "-std=gnu11", "-Wall", "-rdynamic", f"-DINTERFACE={version}", str(FAKE_QEMU)]
    subprocess.run([*argv, "-o", str(made), "-ldl"], check=True, timeout=60)
    return made


def run_fake(fake: Path, library: Path, newest: int, out: Path) -> subprocess.CompletedProcess[str]:
    argv = [str(fake), str(library), str(newest), f"out={out}", *ARGUMENTS]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


@needs_compiler
@pytest.mark.parametrize("version", interface.KNOWN)
def test_it_counts_the_same_by_each_version_of_the_interface(tmp_path, version):
    library = tmp_path / "count.so"
    build.compile_plugin(str(COMPILER), version, library)
    done = run_fake(compile_fake(tmp_path, version), library, version, tmp_path / "counts.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "counts.txt").read_text() == COUNTED


@needs_compiler
def test_it_refuses_a_qemu_that_it_was_not_built_for(tmp_path):
    library = tmp_path / "count.so"
    build.compile_plugin(str(COMPILER), 2, library)
    done = run_fake(compile_fake(tmp_path, 2), library, 4, tmp_path / "counts.txt")
    assert done.returncode == 1
    assert "built for version 2 of QEMU's plugin interface, this QEMU has 4" in done.stderr


@needs_compiler
@pytest.mark.parametrize("version", interface.KNOWN)
def test_the_source_compiles_without_a_warning(tmp_path, version):
    flags = [
        *build.FLAGS,
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-Werror",
        f"-DINTERFACE={version}",
    ]
    argv = [str(COMPILER), *flags, str(build.SOURCE), "-o", str(tmp_path / "count.so")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@needs_compiler
def test_a_version_that_nobody_knows_is_no_build(tmp_path):
    with pytest.raises(HostSetupError, match=r"expected -DINTERFACE= and a number from 1 to 7"):
        build.compile_plugin(str(COMPILER), interface.KNOWN[-1] + 1, tmp_path / "count.so")
    assert list(tmp_path.iterdir()) == []


REFUSED = (
    "qemu-system-aarch64: Could not load plugin ./claims.so: plugin requires API version 2147483647, "
    "but this QEMU supports only up to version {}\n"
)


@pytest.mark.parametrize("version", [1, 4, 7])
def test_qemu_tells_its_version_by_refusing_a_later_one(version):
    assert interface.parse_interface_version(REFUSED.format(version), "QEMU") == version


def test_a_later_version_is_said_in_one_line():
    with pytest.raises(HostSetupError) as caught:
        interface.parse_interface_version(REFUSED.format(12), "QEMU emulator version 14.0.0")
    assert "14.0.0 has version 12 of the interface for plugins, the plugin is written for 1 to 7" in str(
        caught.value
    )
    assert "instructions alone" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_qemu_without_plugins_is_told_by_its_own_last_words():
    said = "warning: something\nqemu-system-aarch64: -plugin: invalid option\n"
    with pytest.raises(HostSetupError, match=r"loads no plugins\. It said: .*invalid option"):
        interface.parse_interface_version(said, "QEMU emulator version 7.2.0")
    with pytest.raises(HostSetupError, match=r"It said: \(nothing\)"):
        interface.parse_interface_version("", "QEMU emulator version 7.2.0")


def test_the_library_is_built_once_for_a_source_a_qemu_and_a_compiler(tmp_path, monkeypatch):
    calls = []

    def compile_(path, version, library):
        calls.append(library)
        library.write_bytes(b"library")

    cc = tmp_path / "cc"
    cc.write_bytes(b"one")
    told = {"qemu": "QEMU emulator version 7.2.0"}
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "compile_plugin", compile_)
    monkeypatch.setattr(build, "read_interface_version", lambda compiler: 1)
    monkeypatch.setattr(build, "qemu_version", lambda: told["qemu"])
    monkeypatch.setattr(build, "find_compiler", lambda: str(cc))
    assert build.build_plugin() == build.build_plugin() == calls[0]
    told["qemu"] = "QEMU emulator version 8.2.0"
    assert build.build_plugin() != calls[0]
    cc.write_bytes(b"another")
    assert build.build_plugin() not in calls[:2]
    assert len(calls) == 3


def test_a_host_without_a_compiler_is_told_what_is_left(monkeypatch):
    monkeypatch.setattr(compiler.shutil, "which", lambda name, path=None: None)
    with pytest.raises(HostSetupError, match=r"Install gcc libc6-dev.*instructions alone"):
        build.build_plugin()


MISSING_HEADER = """\
/p/count.c: In function 'x':
/p/count.c:1: warning: unused
/p/count.c:14:10: fatal error: inttypes.h: No such file or directory
   14 | #include <inttypes.h>
compilation terminated.
"""
MISSING_LIBRARY = """\
/usr/bin/ld: cannot find crti.o: No such file or directory
collect2: error: ld returned 1 exit status
"""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (MISSING_HEADER, "/p/count.c:14:10: fatal error: inttypes.h: No such file or directory"),
        (MISSING_LIBRARY, "/usr/bin/ld: cannot find crti.o: No such file or directory"),
        ("Killed\n", "Killed"),
        ("", "it said nothing"),
    ],
)
def test_why_a_compiler_failed_is_one_line(said, reason):
    assert compiler.reason(said) == reason


def test_a_compiler_that_fails_is_named_with_what_to_install(tmp_path):
    cc = tmp_path / "cc"
    cc.write_text("#!/bin/sh\necho 'x.c:1: error: no' >&2; exit 3\n")
    cc.chmod(0o755)
    with pytest.raises(HostSetupError) as caught:
        interface.read_interface_version(str(cc))
    assert f"`{cc}` exited with 3, expected 0: x.c:1: error: no. Install gcc libc6-dev." in str(caught.value)
    cc.chmod(0o644)
    with pytest.raises(HostSetupError, match=r"can't be run: Permission denied"):
        interface.read_interface_version(str(cc))


def test_qemu_is_told_the_caches_and_a_comma_is_refused(tmp_path):
    argv = build.plugin_arguments(
        tmp_path / "count.so", tmp_path / "out", caches=[(32768, 2), (1 << 20, 16)], tlb=(1024, 4)
    )
    assert argv[0] == "-plugin"
    assert argv[1].split(",")[1:] == [
        f"out={tmp_path / 'out'}",
        "cache=32768:2",
        "cache=1048576:16",
        "tlb=1024:4",
    ]
    with pytest.raises(HostSetupError, match="comma"):
        build.plugin_arguments(tmp_path / "a,b.so", tmp_path / "out", caches=[(32768, 2)], tlb=(1024, 4))
