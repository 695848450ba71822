"""`harness soak list` and `status` from what this host has: never collected, stored, its raw windows gone."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support import soak_device, spools
from support.soak_ledgers import ABOUT, make_ledger

from harness.cli.main import main
from harness.errors import ConnectionLost
from harness.soak.about import About, about_to_plain
from harness.soak.conclude import conclude, stored_in
from harness.soak.ledger import Ledger

DEVICES = """
schema_version = 1
[types.host]
[devices.desk]
type = "host"
kind = "local"
home = "{home}"
"""
HOUR_NS = 3600 * 10**9


@pytest.fixture(autouse=True)
def soaks(tmp_path, monkeypatch) -> Path:
    """Return reports/soaks of a folder with a devices.toml that lacks the soaks' device."""
    monkeypatch.setenv("HIL_HARNESS_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(DEVICES.format(home=tmp_path / "home"))
    return tmp_path / "reports" / "soaks"


def say(capsys, *argv: str) -> str:
    capsys.readouterr()
    assert main(argv) == 0
    return capsys.readouterr().out


def test_one_that_was_never_collected_says_since_when_it_runs_where_and_what_to_type(soaks, capsys):
    spec = soak_device.spec(about=about_to_plain(begun_now()), duration_ns=72 * HOUR_NS)
    Ledger.create(soaks, spec, {"device": "rpi4-01", "kind": "ssh"})
    listed = say(capsys, "soak", "list")
    assert "unknown" not in listed
    row = listed.splitlines()[-2]
    assert row.split("  ")[0] == soak_device.SOAK_ID
    for word in ("started 2", "never", "rpi4-01", "door", "of 72 h, not collected yet"):
        assert word in row
    assert f"`harness soak attach {soak_device.SOAK_ID}` collects it" in listed.splitlines()[-1]


def test_one_that_nobody_has_asked_about_since_it_must_have_ended_is_marked(soaks, capsys):
    spec = soak_device.spec(about=about_to_plain(ABOUT), duration_ns=72 * HOUR_NS)  # begun in January 2025
    Ledger.create(soaks, spec, {"device": "rpi4-01", "kind": "ssh"})
    row, note = say(capsys, "soak", "list").splitlines()[-2:]
    assert row.split()[1:3] == ["OVERDUE", "never"]
    assert "its duration, 72 h, was over" in note
    assert "it was never collected" in note
    assert f"`harness soak attach {soak_device.SOAK_ID}` fetches, judges and stores it" in note


@pytest.mark.parametrize(
    ("ago_s", "state", "row_says", "note_says"),
    [
        (244, "running", ["running", "4.1", "min", "ago"], ""),
        (
            7230,
            "running",
            ["NOT", "HEARD", "OF", "2.0", "h", "ago"],
            "heard of it for 2.0 h, and it was running",
        ),
        (80 * 3600 + 120, "running", ["OVERDUE", "80", "h", "ago"], "its duration, 72 h, was over 8.0 h ago"),
        (80 * 3600 + 120, "ended", ["ended", "80", "h", "ago"], "fetches, judges and stores it"),
    ],
)
def test_a_list_says_how_old_what_it_shows_is(soaks, capsys, ago_s, state, row_says, note_says):
    spec = soak_device.spec(about=about_to_plain(begun_now()), duration_ns=72 * HOUR_NS)
    ledger = Ledger.create(soaks, spec, {"device": "rpi4-01", "kind": "ssh"})
    ledger.adopt(1, "lab@desk pid 1")
    ledger.note_status(1, {"state": state, "t_ns": 0}, time.time_ns() - ago_s * 10**9)
    lines = say(capsys, "soak", "list").splitlines()
    assert lines[1].split()[1 : 1 + len(row_says)] == row_says
    notes = "\n".join(lines[2:])
    assert note_says in notes if note_says else notes == ""


def begun_now() -> About:
    return replace(ABOUT, started_at=datetime.datetime.now(datetime.UTC).isoformat())


def test_a_device_that_cant_be_asked_hides_nothing_of_what_is_known_here(
    soaks, tmp_path, capsys, monkeypatch
):
    spec = soak_device.spec(about=about_to_plain(begun_now()), duration_ns=72 * HOUR_NS)
    Ledger.create(soaks, spec, {"device": "desk", "kind": "local"})

    def find_soaks(device):
        raise ConnectionLost("no route to host.", where=device.name)

    monkeypatch.setattr("harness.soak.attach.find_soaks", find_soaks)
    assert main(["soak", "list", "--device", "desk"]) == 75
    said = capsys.readouterr()
    assert soak_device.SOAK_ID in said.out
    assert "desk: no route to host." in said.err


@pytest.fixture
def stored(soaks, monkeypatch) -> Ledger:
    """Return the ledger of a soak that ended, is stored, and saw two errors, a restart and an event."""
    monkeypatch.setattr("harness.report.write_report", lambda folder: None)
    broken = {**spools.window(4)["streams"]["main"], "errors": {"timeout": 2}, "restarts": 1}
    middle = [spools.window(i) for i in range(9)] + [spools.window(9, streams={"main": broken})]
    records = [spools.life(), *middle, spools.event("crash", 5 * 10**9, "SIGSEGV"), spools.end(10**10)]
    ledger = make_ledger(soaks, spools.numbered(records))
    conclude(ledger, soaks.parent)
    return ledger


def test_a_stored_one_tells_the_same_with_its_raw_segments_and_without(stored, capsys):
    before = say(capsys, "soak", "status", stored.soak_id).splitlines()
    assert any(" 500 " in line and "2 timeout, 1 restart" in line for line in before)
    listed = say(capsys, "soak", "list")
    shutil.rmtree(stored.folder / "segments")
    after = say(capsys, "soak", "status", stored.soak_id).splitlines()
    gone = "Its raw segments are gone from this host; below is what its session keeps."
    assert [line for line in after if line != gone] == before
    assert gone in after
    assert say(capsys, "soak", "list") == listed


def test_one_whose_session_lacks_it_too_claims_no_numbers(stored, capsys):
    shutil.rmtree(stored.folder / "segments")
    session = stored.folder / (stored.folder / "stored.json").read_text().split('"')[3]
    for run in session.glob("runs/*/run.json"):
        run.write_text(run.read_text().replace(stored.soak_id, "20240101-000000-ffff"))
    shown = say(capsys, "soak", "status", stored.soak_id)
    assert "Its raw segments are gone from this host; its session doesn't have it either." in shown
    (main_row,) = [line for line in shown.splitlines() if line.startswith("main ")]
    assert main_row.split("closed")[1].split()[:2] == ["–", "–"]


def on_a_machine(ledger: Ledger) -> Ledger:
    """Have a ledger be of an emulated unit, whose machine isn't up."""
    path = ledger.folder / "device.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "qemu", "device": "pi"}))
    return ledger


@pytest.fixture
def no_machine(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))


def test_one_whose_emulated_machine_is_gone_is_lost_and_how_to_forget_it_is_said(soaks, no_machine, capsys):
    ledger = on_a_machine(make_ledger(soaks, spools.short_soak(9)[:-1]))
    row, note = say(capsys, "soak", "list").splitlines()[-2:]
    assert row.split()[1] == "LOST"
    assert f"remove {os.path.join('reports', 'soaks', ledger.soak_id)} to forget it" in note
    shown = say(capsys, "soak", "status", ledger.soak_id)
    assert "LOST" in shown.splitlines()[0]
    assert "Below is what was collected before." in shown


def test_one_that_is_here_to_its_end_is_stored_without_its_machine(soaks, no_machine, capsys, monkeypatch):
    monkeypatch.setattr("harness.report.write_report", lambda folder: None)
    ledger = on_a_machine(make_ledger(soaks))
    assert "ended" in say(capsys, "soak", "list").splitlines()[1]
    assert f"{ledger.soak_id}: PASS" in say(capsys, "soak", "attach", ledger.soak_id)
    assert stored_in(ledger.folder) is not None
