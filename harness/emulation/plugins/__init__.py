"""Our plugin for QEMU, `count.c`, and its builder. It counts what a guest's code does between two marks.

library = build_plugin()
argv += plugin_arguments(library, folder / "counts.txt", caches=((32768, 2), (1048576, 16)), tlb=(1024, 4))
"""

from __future__ import annotations

from harness.emulation.plugins.build import build_plugin, plugin_arguments

__all__ = ["build_plugin", "plugin_arguments"]
