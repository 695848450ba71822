"""`harness init`: devices.toml, suites/ with a conftest, and a pytest.ini in the user's own repository."""

from __future__ import annotations

import argparse
import contextlib
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from harness.cli.options import add_command
from harness.errors import ConfigError
from harness.plan import SUITES
from harness.store import atomic

PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands,
        "init",
        "write devices.toml and suites/ into a folder",
        "Write devices.toml (this host and an emulated Pi), suites/ with a conftest and an empty plan,\n"
        "and a pytest.ini where nothing configures pytest yet.\n"
        "Files that exist are never touched: then nothing at all is written.",
    )
    parser.add_argument("folder", nargs="?", default=".", help="your repository (default: here)")
    parser.set_defaults(function=run)


def run(args: argparse.Namespace) -> int:
    """Write the files. Nothing that exists is touched: then nothing at all is written."""
    target = Path(args.folder)
    if target.exists() and not target.is_dir():
        raise ConfigError(
            "is a file; expected a folder.", where=str(target), next_step="Name your repository."
        )
    files = dict(_files())
    there = [name for name in files if (target / name).exists()]
    if there:
        raise ConfigError(
            f"already there: {', '.join(there)}; nothing was written.",
            where=str(target),
            next_step="Move them away, or edit them by hand.",
        )
    if not any((target / name).exists() for name in PYTEST_FILES):
        # pytest's rootdir; without it that depends on the arguments, and so does what pytest keeps there
        files["pytest.ini"] = "[pytest]\ntestpaths = suites\n"
    _write_all(target, files)
    sys.stdout.write("".join(f"wrote {target / name}\n" for name in files))
    sys.stdout.write(f"now: pytest {target / 'suites'} --device local --model YOUR.onnx\n")
    return 0


def _write_all(target: Path, files: dict[str, str]) -> None:
    """Write all of `files`, name → text, or none. Raises HostSetupError."""
    written: list[Path] = []
    made: list[Path] = []
    try:
        for name, text in files.items():
            path = target / name
            with atomic.disk_errors(path.parent):
                for folder in reversed([path.parent, *path.parent.parents]):
                    if not folder.exists():
                        folder.mkdir()
                        made.append(folder)
            atomic.write_text(path, text)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(
                OSError
            ):  # something of another's is in it by now; the first error counts
                folder.rmdir()
        raise


def _files() -> list[tuple[str, str]]:
    root = resources.files("harness.starter")
    suites = [f"suites/{n}.py" for n in ("conftest", *(f"test_{suite}" for suite in SUITES))]
    names = ["devices.toml", "suites/release.toml", *suites]
    return [(name, root.joinpath(name).read_text(encoding="utf-8")) for name in names]
