"""The counting plugin's builder: where its header comes from, what QEMU is told, and that the source
compiles.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest

from harness.emulation.plugins import build
from harness.emulation.sources import Entry
from harness.errors import HostSetupError

# as much of QEMU's interface as the plugin uses, by what its documentation says of each function
HEADER = """
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#define QEMU_PLUGIN_EXPORT __attribute__((visibility("default")))
#define QEMU_PLUGIN_VERSION %d
typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct { const char *target_name; } qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_RW = 3 };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*simple)(qemu_plugin_id_t);
typedef void (*udata)(unsigned int, void *);
typedef void (*mem)(unsigned int, qemu_plugin_meminfo_t, uint64_t, void *);
typedef void (*trans)(qemu_plugin_id_t, struct qemu_plugin_tb *);
void qemu_plugin_reset(qemu_plugin_id_t, simple);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, trans);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, udata, enum qemu_plugin_cb_flags,
void *); void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, mem, enum qemu_plugin_cb_flags,
                                      enum qemu_plugin_mem_rw, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
unsigned int qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
#if QEMU_PLUGIN_VERSION >= 2
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, udata, enum qemu_plugin_cb_flags, void *);
#else
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
#endif
#if QEMU_PLUGIN_VERSION >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#endif
"""


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_source_compiles_against_each_version_of_the_interface(tmp_path, version):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this host: the one-factor fit serves here")
    (tmp_path / build.HEADER).write_text(HEADER % version, encoding="ascii")
    argv = [compiler, *build._FLAGS, "-Wextra", "-Wno-unused-parameter", "-Werror", "-I", str(tmp_path)]
    done = subprocess.run(
        [*argv, str(build.SOURCE), "-o", str(tmp_path / "count.so")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "count.so").stat().st_size > 0


def test_the_library_is_built_once_for_a_source_and_a_qemu(tmp_path, monkeypatch):
    calls = []

    def compile_(compiler, include, library):
        calls.append(library)
        library.write_bytes(b"library")

    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "_compile", compile_)
    monkeypatch.setattr(build, "find_header", lambda folder: folder)
    monkeypatch.setattr(build, "qemu_version", lambda: "QEMU emulator version 7.2.0")
    monkeypatch.setattr(build.shutil, "which", lambda name, path=None: "/usr/bin/cc")
    assert build.build_plugin() == build.build_plugin() == calls[0]
    monkeypatch.setattr(build, "qemu_version", lambda: "QEMU emulator version 8.2.0")
    assert build.build_plugin() != calls[0]
    assert len(calls) == 2


def test_a_host_without_a_compiler_is_told_what_is_left(monkeypatch):
    monkeypatch.setattr(build.shutil, "which", lambda name, path=None: None)
    with pytest.raises(HostSetupError, match=r"Install gcc.*instructions alone"):
        build.build_plugin()


def test_the_user_s_header_is_taken_and_anything_else_refused(tmp_path, monkeypatch):
    header = tmp_path / build.HEADER
    monkeypatch.setenv(build.ENV_HEADER, str(header))
    with pytest.raises(HostSetupError, match=r"expected a file qemu-plugin\.h"):
        build.find_header(tmp_path / "into")
    header.write_text("", encoding="ascii")
    assert build.find_header(tmp_path / "into") == tmp_path


def test_the_header_comes_out_of_the_source_archive(tmp_path):
    archive = tmp_path / "qemu_7.2.orig.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for name, text in (("q/README", b"no"), (f"q/include/qemu/{build.HEADER}", b"#define X\n")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    assert build.header_in(archive) == b"#define X\n"
    with tarfile.open(tmp_path / "other.tar", "w"):
        pass
    assert build.header_in(tmp_path / "other.tar") is None


def test_the_host_s_archives_become_sources_of_source_packages():
    entries = [
        Entry("http://deb.debian.org/debian", "bookworm", ("main", "contrib"), (("signed-by", "/k.gpg"),)),
        Entry("https://example.org/apt", "stable", ("extras",)),
    ]
    text = build.source_stanzas(entries)
    assert "Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\n" in text
    assert "Signed-By: /k.gpg" in text
    assert "example.org" not in text


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
