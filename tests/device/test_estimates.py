"""The plugin that counts in QEMU. What is made of its counts: test_whole_session."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from harness.emulation.command import QEMU
from harness.emulation.plugins import build_plugin, plugin_arguments

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the counting plugin needs a C compiler"),
]


def test_the_installed_qemu_takes_the_plugin_that_was_built_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path))
    library = build_plugin()
    loads = plugin_arguments(
        library, tmp_path / "counts.txt", caches=[(32768, 2), (1 << 20, 16)], tlb=(1024, 4)
    )
    argv = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-monitor", "stdio", *loads]
    done = subprocess.run(argv, input="quit\n", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "counts.txt").read_text() == "H 1 2\n"
