"""`harness devices chamber`: a command at each temperature, over a real socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.meters import CHAMBER, read_spec
from support.scpi_peer import running_peer

from harness.cli.chamber import decisive
from harness.cli.main import main

# writes down the temperature that it was told, and fails where it is hot
COMMAND = (
    "import os, sys; t = os.environ['HARNESS_CHAMBER_TEMP_C']; "
    "open(sys.argv[1], 'a').write(t + ' '); sys.exit(11 if float(t) > 24 else 0)"
)


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[str]:
    with running_peer() as port:
        # the air of the peer is there within one look: 5 °C
        read_spec(tmp_path, CHAMBER.format(port=port, stable_for_s=0, settle_timeout_s=60))
        yield str(tmp_path / "devices.toml")


def test_the_command_runs_at_each_temperature(
    tmp_path: Path, devices: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen"
    argv = [sys.executable, "-c", COMMAND, str(seen)]
    code = main(["devices", "--devices", devices, "chamber", "--at=21", "--at=25.5", "board", "--", *argv])
    assert code == 11
    assert seen.read_text() == "21 25.5 "
    out = capsys.readouterr().out
    assert "21 °C: exit code 0; air 21.0 °C before, 21.0 °C after" in out
    assert "25.5 °C: exit code 11" in out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--at=25", "board"], "no command was given"),
        (["--at=85", "board", "--", "true"], "not within -20 to 60 °C"),
        (["--chamber", "fridge", "--at=25", "board", "--", "true"], "no chamber `fridge`; there are: meter"),
        (["--at=25", "board", "--", "./no-such-command"], "No such file"),
    ],
)
def test_wrong_use_is_told(
    devices: str, words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["devices", "--devices", devices, "chamber", *words]) == 2
    assert what in capsys.readouterr().err


def test_a_device_without_a_chamber_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "devices.toml"
    path.write_text('[types.board]\n[devices.board]\ntype = "board"\nkind = "local"\n')
    assert main(["devices", "--devices", str(path), "chamber", "--at=25", "board", "--", "true"]) == 2
    assert "it has no chamber; there are: none" in capsys.readouterr().err


def test_the_worst_exit_code_decides() -> None:
    assert [decisive(c) for c in ([], [0, 0], [0, 10, 11], [75, 1, 11], [4, 1], [0, 42])] == [
        0,
        0,
        11,
        1,
        4,
        42,
    ]
