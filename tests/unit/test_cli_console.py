"""The command where the terminal's encoding lacks what it prints: readable, and no traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from harness.cli import console, main

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("encoding", "text", "printed"),
    [
        ("ascii", "61.5 µs ≤ 70 µs – 2.1 ms …", "61.5 us <= 70 us - 2.1 ms ..."),
        ("ascii", "54.7 °C, 0.1 Ω, a × b → c", "54.7 deg C, 0.1 ohm, a x b -> c"),
        ("latin-1", "54.7 °C ≤ 60 µs", "54.7 °C <= 60 µs"),
        ("utf-8", "54.7 °C ≤ 60 µs 模", "54.7 °C ≤ 60 µs 模"),
        ("ascii", "模型.onnx", "??.onnx"),
    ],
)
def test_a_unit_stays_readable(monkeypatch, encoding, text, printed):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    console.never_fail_on_a_character()
    sys.stdout.write(text)
    sys.stdout.flush()
    assert raw.getvalue().decode(encoding) == printed


def test_init_works_in_a_locale_without_utf_8(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "init", str(tmp_path / "new")],
        env={**os.environ, **ASCII}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "°C" in (tmp_path / "new" / "devices.toml").read_text(encoding="utf-8")


def test_the_command_itself_imports_next_to_nothing():
    """Ctrl-C while a command's modules load is told in a word; so nothing heavy may come before."""
    code = "import sys, harness.cli.main; print(*sorted(m for m in sys.modules if m.startswith('harness.')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["harness.cli", "harness.cli.console", "harness.cli.main", "harness.errors"]


def test_an_interrupt_while_it_starts_is_told_in_a_word(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "build_parser", interrupted)
    assert main.main(["devices"]) == main.EXIT_INTERRUPTED
    assert capsys.readouterr().err == "harness: interrupted\n"
