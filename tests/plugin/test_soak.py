"""Soaks as a user has them on this host: pytest waits for one, Ctrl-C leaves it, the command collects it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from support.repository import Repository
from support.soaking import check_calls
from support.sshd import Sshd
from support.tiny import MODELS

from harness.cli.main import main
from harness.soak.table import read_table
from harness.store import read_session

PLAN = f"""
[release]
device_types = ["local"]
required_suites = ["soak"]
[soak]
window_s = 0.5
cycle = "every 10 ms"
[models.tiny]
path = "{MODELS}/tiny.onnx"
[models.other]
path = "{MODELS}/tiny.onnx"
[budgets.local.tiny]
coverage_ratio = "90 %"
[budgets.local.other]
coverage_ratio = "90 %"
"""
START = ["soak", "start", "--device", "local", "--duration", "3s", "--model", "tiny"]


@pytest.fixture
def theirs(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Return a repository with a plan of short windows, and be in it as its user is."""
    repository.write_plan(PLAN)
    monkeypatch.chdir(repository.root)
    monkeypatch.setenv("HIL_HARNESS_STATE", str(repository.root / "state"))
    return repository


def soaks(root: Path) -> list[Path]:
    return sorted((root / "reports" / "soaks").glob("*"))


def test_a_soak_runs_beside_nothing_else_and_its_session_passes(theirs, capsys):
    for duration_s in (3, 12, 48):
        done = theirs.pytest("--device", "local", "--soak", f"{duration_s}s", "--model", "tiny")
        table = read_table(soaks(theirs.root)[-1])
        served = np.flatnonzero(np.nan_to_num(table.channels["tiny/calls"]))
        if served.size > 3:
            break  # on a busy host the model isn't loaded within any given time
        shutil.rmtree(done.folder)
    assert done.returncode == 0, done.output
    assert "1 passed" in done.output
    (run,) = done.runs()
    assert (run["suite"], run["outcome"], run["model"]) == ("soak", "completed", "tiny")
    told = run["settings"]["soak"]
    assert (told["duration_s"], told["ended"]) == (duration_s, "duration")
    assert told["streams"][0]["cycle"] == "every 10 ms"
    verdicts = {r["metric"]: r["verdict"] for r in done.summary()["results"]}
    assert verdicts["coverage_ratio"] == "PASS"
    assert verdicts["crashes"] == "PASS"
    assert verdicts["rss_drift_bytes_per_h"] == "NOT_JUDGED"
    drift = done.results("rss_drift_bytes_per_h")[0]["reasons"]
    assert any("not judged: needs" in reason for reason in drift)
    (calls,) = done.results("soak_calls")
    assert calls["value"] == np.nansum(table.channels["tiny/calls"]) <= 100 * duration_s + 1
    check_calls(table, "tiny", table.start_s[served[0]], table.start_s[served[-1]], per_s=100)
    # what collected it knows that it is stored
    assert main(["soak", "list"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(" report")


def test_ctrl_c_leaves_it_running_and_attach_ends_it(theirs, capsys):
    running = theirs.start("--device", "local", "--soak", "6s", "--model", "tiny")
    running.wait_for_match(theirs.root / "reports" / "soaks", "*/segments/*.seg")
    running.interrupt()
    left = running.finish()
    assert left.returncode == 2, left.output
    (ledger,) = soaks(theirs.root)
    assert f"harness soak attach {ledger.name}" in left.output
    assert main(["soak", "status"]) == 0
    shown = capsys.readouterr().out  # on a busy host it may have ended by now
    assert f"{ledger.name}  running  tiny on local" in shown or "it ended (duration)" in shown
    assert main(["soak", "attach"]) == 0
    said = capsys.readouterr().out
    assert f"{ledger.name}: PASS" in said
    folder = theirs.root / "reports" / f"soak-{ledger.name}"
    (run,) = read_session(folder).runs
    windows = next(s for s in run.series if s.name == "soak.t_s").values
    table = read_table(ledger)
    # none lost, none twice, whoever collected it
    assert (table.missing_seq, table.doubled_seq, table.merged.sum()) == ((), (), 12)
    assert windows.size == len(set(windows.tolist())) == len(table.merged)
    assert run.settings["soak"]["coverage_ratio"] > 0.99
    assert (folder / "report.html").is_file()
    assert main(["gate", str(folder)]) in (0, 11)


def test_a_collector_that_is_killed_loses_nothing_and_another_host_needs_no_ledger(theirs, capsys, tmp_path):
    assert main(["soak", "start", "--device", "local", "--model", "tiny", "--duration", "5s"]) == 0
    (ledger,) = soaks(theirs.root)
    assert "It needs nobody now" in capsys.readouterr().out
    ledger.rename(tmp_path / "gone")  # as on a host that has never seen it
    assert main(["soak", "list"]) == 0
    assert "no soaks are known here" in capsys.readouterr().out
    assert main(["soak", "status", "--device", "local", ledger.name]) == 0
    assert f"{ledger.name}  " in capsys.readouterr().out
    assert main(["soak", "attach", ledger.name, "--device", "local"]) == 0
    assert f"{ledger.name}: PASS" in capsys.readouterr().out
    assert main(["soak", "attach", ledger.name]) == 0  # again: nothing is collected or stored twice
    assert len(list((theirs.root / "reports").glob("soak-*"))) == 1


def test_stop_ends_it_early_which_is_no_pass(theirs, capsys):
    assert main(["soak", "start", "--device", "local", "--model", "tiny", "--duration", "1h"]) == 0
    (ledger,) = soaks(theirs.root)
    assert main(["soak", "stop", "--reason", "the lab closes"]) == 0
    assert main(["soak", "status"]) == 0
    shown = capsys.readouterr().out
    assert "it ended (stopped)" in shown
    assert "the lab closes" in shown
    assert main(["soak", "attach", ledger.name]) == 10
    assert "INCONCLUSIVE" in capsys.readouterr().out
    assert main(["soak", "stop", ledger.name]) == 0
    assert "has ended already; it is stored in" in capsys.readouterr().out


def test_an_alert_is_told_and_ends_it(theirs, capsys):
    text = PLAN.replace("[soak]", '[soak]\nalerts = ["rss_bytes > 1 MB"]\nabort_on_alert = true')
    theirs.write_plan(text)
    for duration_s in (30, 240):
        done = theirs.pytest("--device", "local", "--soak", f"{duration_s}s", "--model", "tiny")
        (run,) = done.runs()
        told = run["settings"]["soak"]
        if told["ended"] != "duration":
            break  # a busy host may look only once the time is over
        shutil.rmtree(done.folder)
    assert done.returncode == 1, done.output
    assert told["ended"].startswith("aborted: rss_bytes > 1 MB")
    assert told["observed_s"] < duration_s
    events = [(e["source"], e["kind"]) for e in told["events"]]
    assert ("host", "alert") in events
    assert done.results("alerts_fired")[0]["verdict"] == "FAIL"


def test_kill_minus_9_of_the_collector(theirs, capsys):
    running = theirs.start("--device", "local", "--soak", "5s", "--model", "tiny")
    running.wait_for_match(theirs.root / "reports" / "soaks", "*/segments/*.seg")
    running.signal(signal.SIGKILL)
    running.finish()
    (ledger,) = soaks(theirs.root)
    assert main(["soak", "attach"]) == 0
    state = json.loads((ledger / "state.json").read_text())
    assert state["token"] == 2
    assert "PASS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--soak", "3"), "--soak: '3' has no unit; expected a duration as 72h"),
        (("--soak", "100ms"), "100 ms is shorter than one window; the shortest soak on local is 500 ms"),
        (("-m", "soak"), "how long is it to be? Say --soak 72h"),
        (("--soak",), "expected one argument"),
    ],
)
def test_what_cant_be_meant_is_refused_before_anything_runs(theirs, args, message):
    done = theirs.pytest("--device", "local", *args)
    assert done.returncode == 4, done.output
    assert message in done.output
    assert not (theirs.root / "reports").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('cycle = "every"', "`every` needs more"),
        ('alerts = ["rss > > 3"]', "rss > > 3"),
        ('webhook_env = "NO_SUCH_VARIABLE"', "$NO_SUCH_VARIABLE, which isn't set"),
        ('power_cycle_every_s = "60 s"', "its power can't be switched from here"),
    ],
)
def test_so_is_what_the_plan_gets_wrong(theirs, table, message):
    theirs.write_plan(PLAN.replace('cycle = "every 10 ms"', table))
    done = theirs.pytest("--device", "local", "--soak", "3s")
    assert done.returncode == 4, done.output
    assert message in done.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["soak", "attach"], "no soak is under way here"),
        (["soak", "status", "20250101-000000-abcd"], "no soak `20250101-000000-abcd` is known here"),
        (["soak", "start", "--device", "local", "--duration", "3s"], "which model? The plan has tiny, other"),
        (["soak", "start", "--device", "local", "--model", "tiny"], "how long is it to be?"),
        ([*START, "--model", "other"], "a soak is of one model, got tiny, other. Name those that"),
    ],
)
def test_so_is_what_the_command_cant_mean(theirs, capsys, args, message):
    assert main(args) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cycle", "message"),
    [
        ("evry 3 s", "got 'evry 3 s'; did you mean `every`?"),
        ("trace no.csv repeat 1 h", "{here}/no.csv: can't be read"),
    ],
)
def test_the_option_cycle_goes_over_the_models_own_and_its_paths_are_the_users(
    theirs, capsys, cycle, message
):
    theirs.write_plan(PLAN + '[models.tiny.soak]\ncycle = "every 20 ms"\n')
    assert main([*START, "--cycle", cycle]) == 2
    assert message.format(here=theirs.root) in capsys.readouterr().err


def over_ssh(theirs: Repository, sshd: Sshd) -> None:
    """Have a unit `board` in devices.toml: this host behind an sshd."""
    address = sshd.address()
    with (theirs.root / "devices.toml").open("a") as file:
        file.write(
            f'[types.board]\n[types.board.limits]\nmax_cpu_pressure = "100 %"\nmax_other_busy = 64\n'
            f'[devices.board]\ntype = "board"\nkind = "ssh"\nhome = "{theirs.root / "board"}"\n'
            f'[devices.board.ssh]\nhost = "{address.host}"\nport = {address.port}\nuser = "{address.user}"\n'
            f'identity_path = "{address.identity_path}"\nhost_key = "{address.host_key}"\n'
        )


def test_over_ssh_a_cut_link_loses_nothing_and_the_board_is_left_clean(theirs, sshd):
    over_ssh(theirs, sshd)
    running = theirs.start("--device", "board", "--soak", "8s", "--model", "tiny")
    running.wait_for_match(theirs.root / "reports" / "soaks", "*/segments/*.seg")
    sshd.end_sessions()
    done = running.finish()
    assert done.returncode == 0, done.output
    (run,) = done.runs()
    assert run["settings"]["soak"]["coverage_ratio"] > 0.99
    assert list((theirs.root / "board" / "soak").iterdir()) == []  # stored, so removed there


def test_nothing_else_is_measured_on_a_board_that_soaks(theirs, sshd, capsys):
    over_ssh(theirs, sshd)
    assert main(["soak", "start", "--device", "board", "--model", "tiny", "--duration", "1h"]) == 0
    (ledger,) = soaks(theirs.root)
    refused = theirs.pytest("--device", "board", "--model", "tiny", "-m", "deploy")
    assert refused.returncode == 75, refused.output
    assert f"soak {ledger.name} runs on it for another" in refused.output
    assert main(["soak", "start", "--device", "board", "--model", "tiny", "--duration", "1h"]) == 75
    assert f"harness soak stop {ledger.name} --device board" in capsys.readouterr().err
    assert main(["soak", "stop", ledger.name]) == 0
