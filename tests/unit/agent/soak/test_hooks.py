"""Boot hooks: one line per soak, others' lines untouched, nothing written where nothing would run it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from harness.agent.soak.hooks import BootHooks

ID, OTHER = "20260102-030405-abcd", "20260102-030405-abce"
ARGV = ["/usr/bin/python3", "-I", "/home/pi/my agent%.pyz", "soak", "--id", ID]

# keeps its table in $CRONTAB_FILE, and says what cron's own says when there is none
CRONTAB = """#!/bin/sh
if [ "$1" = -l ]; then
    [ -f "$CRONTAB_FILE" ] || { echo "no crontab for pi" >&2; exit 1; }
    cat "$CRONTAB_FILE"
else
    [ ! -f "$CRONTAB_FILE.denied" ] || { echo "pi isn't allowed" >&2; exit 1; }
    cat >"$CRONTAB_FILE"
fi
"""


@pytest.fixture
def boot_script(tmp_path: Path) -> Path:
    path = tmp_path / "boot"
    path.write_text("")
    return path


@pytest.fixture
def hooks(tmp_path: Path, boot_script: Path, monkeypatch: pytest.MonkeyPatch) -> BootHooks:
    """Hooks of a board that runs ~/.hil-boot and has no crontab."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return BootHooks(str(tmp_path / ".hil-boot"), str(boot_script))


@pytest.fixture
def crontab(tmp_path: Path, hooks: BootHooks, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "crontab"
    program.write_text(CRONTAB)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("CRONTAB_FILE", str(tmp_path / "table"))
    return tmp_path / "table"


def test_a_line_in_hil_boot_that_a_shell_takes_as_it_was(hooks: BootHooks, tmp_path: Path) -> None:
    assert hooks.install(ID, ARGV) == "hil-boot"
    (line,) = (tmp_path / ".hil-boot").read_text().splitlines()
    assert line.endswith(f"& # hil-soak {ID}")
    assert shlex.split(line, comments=True)[1 : 1 + len(ARGV)] == ARGV
    done = subprocess.run(["/bin/sh", "-n", str(tmp_path / ".hil-boot")], capture_output=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, b"")


def test_installing_twice_leaves_one_line_and_others_stay(hooks: BootHooks, tmp_path: Path) -> None:
    (tmp_path / ".hil-boot").write_text("# mine\ntrue\n")
    hooks.install(OTHER, ARGV)
    hooks.install(ID, ARGV)
    hooks.install(ID, ["other", "command"])
    lines = (tmp_path / ".hil-boot").read_text().splitlines()
    assert lines[:2] == ["# mine", "true"]
    assert [line.rpartition(" ")[2] for line in lines[2:]] == [OTHER, ID]
    hooks.remove(ID)
    assert (tmp_path / ".hil-boot").read_text().splitlines() == lines[:3]


def test_the_last_line_takes_the_file_with_it(hooks: BootHooks, tmp_path: Path) -> None:
    hooks.install(ID, ARGV)
    hooks.remove(ID)
    hooks.remove(ID)
    assert not (tmp_path / ".hil-boot").exists()


def test_two_that_remove_the_last_line_at_once(hooks: BootHooks, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks.install(ID, ARGV)
    read = hooks._read

    def read_then_lose() -> list[str]:
        lines = read()
        Path(hooks._hook_file).unlink(missing_ok=True)
        return lines

    monkeypatch.setattr(hooks, "_read", read_then_lose)
    hooks.remove(ID)
    assert not Path(hooks._hook_file).exists()


def test_where_nothing_runs_it_nothing_is_written(
    hooks: BootHooks, tmp_path: Path, boot_script: Path
) -> None:
    boot_script.unlink()
    assert hooks.install(ID, ARGV) is None
    assert not (tmp_path / ".hil-boot").exists()


def test_a_line_in_the_crontab_comes_first(hooks: BootHooks, crontab: Path, tmp_path: Path) -> None:
    crontab.write_text("0 4 * * * backup\n")
    assert hooks.install(ID, ARGV) == "crontab"
    mine, line = crontab.read_text().splitlines()
    assert mine == "0 4 * * * backup"
    assert line.startswith("@reboot exec /usr/bin/python3 -I '/home/pi/my agent\\%.pyz' soak")
    assert not (tmp_path / ".hil-boot").exists()
    hooks.remove(ID)
    assert crontab.read_text() == "0 4 * * * backup\n"


def test_a_user_without_a_crontab_gets_one(hooks: BootHooks, crontab: Path) -> None:
    assert hooks.install(ID, ARGV) == "crontab"
    assert crontab.read_text().count("\n") == 1


def test_a_crontab_that_may_not_be_written(hooks: BootHooks, crontab: Path, tmp_path: Path) -> None:
    Path(f"{crontab}.denied").write_text("")
    assert hooks.install(ID, ARGV) == "hil-boot"
    crontab.write_text(f"@reboot it # hil-soak {ID}\n")
    with pytest.raises(OSError, match="can't be removed from the crontab"):
        hooks.remove(ID)
