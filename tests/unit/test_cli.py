"""The `harness` command in one process: exit codes, messages, what it prints and writes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from support import records

from harness.cli import deploy as deploy_command
from harness.cli.main import main
from harness.errors import ConnectionLost, HostSetupError
from harness.store import Store, update_latest

DEVICES = """
schema_version = 1
[types.host]
[types.rpi4]
[devices.desk]
type = "host"
kind = "local"
home = "{home}"
[devices.gone]
type = "rpi4"
kind = "ssh"
tags = ["bench-a"]
[devices.gone.ssh]
host = "127.0.0.1"
port = 1
user = "pi"
host_key = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
[devices.pi-emulated]
type = "rpi4"
kind = "qemu"
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a devices.toml, and nothing of this user's."""
    monkeypatch.setenv("HIL_HARNESS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "devices.toml").write_text(DEVICES.format(home=tmp_path / "home"))
    return tmp_path


def call(capsys, *argv: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    capsys.readouterr()
    try:
        code = main(argv)
    except SystemExit as ended:  # argparse's own way out
        code = int(ended.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# --- devices


def test_the_list_says_how_each_is_reached(capsys):
    code, out, _ = call(capsys, "devices")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:4] for line in out.splitlines()}
    assert rows["desk"][:2] == ["host", "local"]
    assert rows["gone"] == ["rpi4", "ssh", "pi@127.0.0.1:1"]
    assert rows["pi-emulated"] == ["rpi4", "qemu", "emulated"]


@pytest.mark.parametrize("where", ["before", "after"])
def test_devices_file_before_or_after_the_action(capsys, place, where):
    other = place / "other.toml"
    other.write_text('[types.t]\n[devices.only]\ntype = "t"\nkind = "local"\n')
    option = ["--devices", str(other)]
    argv = ["devices", *option, "list"] if where == "before" else ["devices", "list", *option]
    _, out, _ = call(capsys, *argv)
    assert "only" in out
    assert "gone" not in out


def test_check_says_what_is_there(capsys):
    code, out, _ = call(capsys, "devices", "check", "desk")
    assert code == 0
    assert out.startswith("desk: ok  ")
    assert " cores, " in out
    assert "[" not in out


def test_check_tells_what_does_not_answer_and_exits_so(capsys):
    code, out, _ = call(capsys, "devices", "check", "tag:bench-a")
    assert code == 75
    assert out.startswith("gone: NOT OK  ")
    assert out.count("gone") == 1, out


def test_a_device_that_is_held_is_left_alone_and_listed(capsys):
    from harness import leases, registry

    device = registry.load_registry(Path("devices.toml")).devices["desk"]
    with leases.lease(device, purpose="session X"):
        code, out, _ = call(capsys, "devices", "check", "desk")
        assert code == 75
        assert "session X" in out
        assert "session X" in call(capsys, "devices")[1]
        code, _, err = call(capsys, "deploy", "list", "desk")
        assert code == 75
        assert "session X" in err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("devices", "check", "rpi5"), 2, "Did you mean `rpi4`?"),
        (("devices", "up", "desk"), 2, "only emulated devices go up and down"),
        (("devices", "up", "pi-emulated", "--hours", "0"), 2, "expected a number above 0"),
        (("devices", "down", "pi-emulated"), 2, "no supervised machine `pi-emulated` is up"),
        (("devices", "ssh", "desk"), 2, "this is the host itself"),
        (("devices", "ssh", "pi-emulated"), 2, "harness devices up pi-emulated"),
        (("deploy", "push", "pi-emulated", "devices.toml"), 2, "first: harness devices up pi-emulated"),
        (("deploy", "push", "desk", "none.onnx"), 2, "no such model file"),
        (("deploy", "rollback", "desk", "door"), 2, "no model `door` is deployed there"),
        (("deploy", "gc", "desk", "--keep-versions", "0"), 2, "expected a whole number from 1"),
        (("deploy", "list", "gone"), 75, "gone: "),
        (("gate", "nowhere"), 2, "no session `nowhere` here"),
        (("gate", "."), 11, "no session.json here"),
        (("gate", ".", "--format", "pdf"), 2, "invalid choice: 'pdf'"),
        (("report", "nowhere"), 2, "no session `nowhere` here"),
        (("devices", "--devices", "none.toml", "list"), 2, "Check --devices."),
        ((), 2, "COMMAND"),
        (("gates",), 2, "invalid choice"),
    ],
)  # fmt: skip
def test_wrong_use_and_a_failing_lab(capsys, argv, code, said):
    found, out, err = call(capsys, *argv)
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [(HostSetupError("no qemu."), 75), (ConnectionLost("gone."), 75), (KeyboardInterrupt(), 130)],
)
def test_errors_become_a_line_and_an_exit_code(capsys, monkeypatch, error, code):
    def fail(args):
        raise error

    monkeypatch.setattr(deploy_command, "_open", fail)
    found, _, err = call(capsys, "deploy", "list", "desk")
    assert found == code
    assert err.startswith("harness: ")
    assert err.count("\n") == 1


# --- deploy


def test_push_list_rollback_and_gc(capsys, place):
    for content in ("one", "two", "three"):
        (place / "door.onnx").write_text(content)
        code, out, _ = call(capsys, "deploy", "push", "desk", "door.onnx", "--name", "door")
        assert code == 0
    assert out.startswith("door: ")
    assert "5 B sent, before it " in out
    _, out, _ = call(capsys, "deploy", "push", "desk", "door.onnx", "--name", "door")
    assert "its bytes were there already" in out

    _, out, _ = call(capsys, "deploy", "list", "desk", "door")
    lines = out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("  active")
    assert not lines[1].endswith("active")
    two = lines[1].split()[0]
    assert call(capsys, "deploy", "rollback", "desk", "door")[1] == f"door: {two[:12]} is active again\n"
    assert call(capsys, "deploy", "list", "desk")[1] == f"{two}  door\n"
    assert call(capsys, "deploy", "gc", "desk", "--keep-versions", "1")[1].startswith(
        "removed 1 version, freed 3 B"
    )


def test_an_empty_device_says_so(capsys):
    assert call(capsys, "deploy", "list", "desk")[1] == "no model is deployed on desk\n"


# --- gate and report


@pytest.fixture
def session(place) -> Path:
    """A stored session of one model that passes all its budgets."""
    writer = Store(place / "reports").open_session(records.session(finished_at=None))
    for run in records.model_runs("digits_fp32_onnx"):
        writer.add_run(run)
    writer.finish(records.session())
    return writer.folder


@pytest.mark.parametrize("form", ["text", "json", "markdown", "junit"])
def test_each_format_says_the_verdict(capsys, session, form):
    code, out, _ = call(capsys, "gate", str(session), "--format", form)
    verdict = json.loads(call(capsys, "gate", str(session), "--format", "json")[1])["verdict"]
    assert {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 10, "INVALID": 11, "INFRA_ERROR": 75}[verdict] == code
    assert verdict in out
    if form == "junit":
        ET.fromstring(out)


def test_a_damaged_series_is_invalid_and_names_its_file(capsys, session):
    damaged = next(session.glob("runs/*single_stream*/series.parquet"), None) or next(
        session.glob("runs/*/series.parquet")
    )
    damaged.write_bytes(damaged.read_bytes()[:-40])
    code, out, _ = call(capsys, "gate", str(session))
    assert code == 11
    assert out.startswith("release INVALID\n")
    assert str(damaged) in out
    assert "measure again" in out
    code, out, _ = call(capsys, "report", str(session))
    assert code == 0  # what can be read is shown
    assert str(damaged.name) in (session / "report.html").read_text()


def test_a_damaged_session_file_is_told(capsys, session):
    (session / "session.json").write_text("{")
    code, _, err = call(capsys, "gate", str(session))
    assert code == 11
    assert "session.json" in err


def test_another_plan_judges(capsys, session, place):
    plan = place / "strict.toml"
    plan.write_text(
        'schema_version = 1\n[release]\ndevice_types = ["rpi4"]\nrequired_suites = ["deploy"]\n'
        '[models.digits_fp32_onnx]\npath = "m.onnx"\n[budgets.rpi4.digits_fp32_onnx]\n'
        'peak_rss_bytes = "1 B"\n'
    )
    code, out, _ = call(capsys, "gate", str(session), "--plan", str(plan))
    assert code == 1, out
    assert "peak_rss_bytes" in out


# --- init


def test_init_writes_and_never_overwrites(capsys, place):
    code, out, _ = call(capsys, "init", "theirs")
    assert code == 0
    written = {line.removeprefix("wrote ") for line in out.splitlines() if line.startswith("wrote ")}
    assert {"theirs/devices.toml", "theirs/suites/conftest.py", "theirs/suites/release.toml"} <= written
    (place / "theirs" / "devices.toml").write_text("mine")
    (place / "theirs" / "suites" / "release.toml").unlink()
    code, _, err = call(capsys, "init", "theirs")
    assert code == 2
    assert "nothing was written" in err
    assert (place / "theirs" / "devices.toml").read_text() == "mine"
    assert not (place / "theirs" / "suites" / "release.toml").exists()


# --- baseline


def a_session(
    place: Path, session_id: str = "one", factor: float = 1.0, *, model: bytes | None = None
) -> Path:
    """Store a session of one model with two suites, its times `factor` as long; return its folder."""
    runs = []
    for run in records.model_runs("digits_fp32_onnx"):
        if run.suite not in ("deploy", "latency"):
            continue
        settings = {"profile": "timing", "runtime_packages": ["onnxruntime==1.31.1"]}
        sha256 = run.artifact_sha256
        if model is not None:
            (place / "net.onnx").write_bytes(model)
            settings["artifact_path"] = str(place / "net.onnx")
            sha256 = hashlib.sha256(model).hexdigest()
        numbers = tuple(
            m
            if m.value is None or not m.metric.endswith("_ns")
            else replace(m, value=m.value * factor, low=m.low * factor, high=m.high * factor)
            for m in run.measurements
        )
        runs.append(
            replace(
                run, session_id=session_id, measurements=numbers, settings=settings, artifact_sha256=sha256
            )
        )
    plan = records.plan(("digits_fp32_onnx",))
    record = records.session(session_id=session_id, plan=plan)
    folder = records.write_session(place / "reports", record, runs)
    update_latest(place / "reports", folder)
    return folder


def test_a_baseline_is_recorded_listed_shown_and_removed(capsys, place):
    a_session(place, model=b"bytes")
    code, out, err = call(capsys, "baseline", "set", "release")
    assert (code, err) == (0, "")
    sha256 = hashlib.sha256(b"bytes").hexdigest()
    assert out == f"release: digits_fp32_onnx on rpi4-emulated: 15 numbers and its file {sha256[:12]}\n"
    assert (place / "reports" / "baselines" / "release" / "artifacts" / f"{sha256}.onnx").is_file()
    code, out, _ = call(capsys, "baseline", "list")
    assert code == 0
    assert out.splitlines()[1].split() == [
        "release", "digits_fp32_onnx", "rpi4-emulated", "onnxruntime==1.31.1", "2026-01-02", "there",
    ]  # fmt: skip
    code, out, _ = call(capsys, "baseline", "show", "release")
    assert "runtime   onnxruntime==1.31.1 (onnxruntime==1.31.1)" in out
    assert "latency_p50_ns" in out
    entry = json.loads(call(capsys, "baseline", "show", "release", "--format", "json")[1])["entries"][0]
    assert (entry["model"], len(entry["numbers"])) == ("digits_fp32_onnx", 15)
    assert call(capsys, "baseline", "remove", "release")[:2] == (0, "release: removed\n")
    assert "no baseline is recorded" in call(capsys, "baseline", "list")[1]


def test_recording_again_says_what_it_replaced(capsys, place):
    first = a_session(place, model=b"bytes")
    call(capsys, "baseline", "set", "release", str(first))
    a_session(place, "two", model=b"other bytes")
    _, out, _ = call(capsys, "baseline", "set", "release")
    old = hashlib.sha256(b"bytes").hexdigest()[:12]
    assert f"in place of those of 2026-01-02T03:04:10Z ({old})" in out


def test_without_its_file_only_the_numbers_are_recorded_and_it_says_so(capsys, place):
    a_session(place)
    _, out, _ = call(capsys, "baseline", "set", "release")
    assert "15 numbers without its file\n  the session doesn't say where its file was" in out


def test_what_cannot_be_recorded_is_a_usage_error(capsys, place):
    code, _, err = call(capsys, "baseline", "set", "release")
    assert (code, "no session `latest` here" in err) == (2, True)
    a_session(place, factor=3.0)
    code, _, err = call(capsys, "baseline", "set", "release")
    assert code == 2
    assert "FAIL: digits_fp32_onnx on rpi4-emulated, latency: latency_p99_ns" in err
    assert "record it all the same with --force" in err
    assert call(capsys, "baseline", "set", "release", "--force")[0] == 0
    code, _, err = call(capsys, "baseline", "show", "relase")
    assert (code, "did you mean `release`?" in err) == (2, True)


# --- compare


def test_two_sessions_are_compared(capsys, place):
    a_session(place)
    a_session(place, "two", 1.03)
    code, out, _ = call(capsys, "compare", "one", "two")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "FAIL: B two against A one"
    p50 = next(line for line in lines if " latency_p50_ns (single_stream) " in line)
    assert p50.split()[2:8] == ["latency_p50_ns", "(single_stream)", "5.02", "ms", "5.17", "ms"]
    assert "+3%" in p50
    assert p50.endswith("FAIL")
    assert any(line.startswith("FAIL: digits_fp32_onnx on rpi4-emulated: latency_p50_ns") for line in lines)
    assert call(capsys, "compare", "one", "one")[0] in (0, 10)


def test_a_side_may_be_a_folder_a_run_or_a_run_of_a_session(capsys, place):
    folder = a_session(place)
    a_session(place, "two")
    run = "001-deploy-digits_fp32_onnx-rpi4-emulated"
    for a in (str(folder), str(folder / "runs" / run), f"one/{run}", "reports/one"):
        code, out, err = call(capsys, "compare", a, f"two/{run}")
        assert (code, err) == (0, ""), out
        assert "model_size_bytes" in out
    code, _, err = call(capsys, "compare", "one", run)
    assert code == 2
    assert f"run `{run}` is in 2 sessions. Say which: one/{run}, two/{run}." in err
    code, _, err = call(capsys, "compare", "one", "three")
    assert (code, "no session or run `three` here, nor in" in err) == (2, True)


def test_margins_come_from_the_candidates_plan_or_the_one_given(capsys, place):
    a_session(place)
    a_session(place, "two", 1.03)
    loose = place / "release.toml"
    loose.write_text(
        '[release]\ndevice_types = ["rpi4"]\n[models.digits_fp32_onnx]\npath = "x.onnx"\n'
        "[budgets.rpi4.digits_fp32_onnx]\nlatency_p50_ns = [\n"
        + "".join(f'    {{ margin = "10 %", batch_size = {n} }},\n' for n in (1, 2, 4, 8))
        + "]\n"
    )
    assert call(capsys, "compare", "one", "two")[0] == 1
    assert call(capsys, "compare", "one", "two", "--plan", str(loose))[0] == 0


def test_the_comparison_as_json_and_markdown(capsys, place):
    a_session(place)
    a_session(place, "two", 1.03)
    code, out, _ = call(capsys, "compare", "one", "two", "--format", "json")
    data = json.loads(out)
    assert (code, data["verdict"], data["exit_code"], data["a"], data["b"]) == (1, "FAIL", 1, "one", "two")
    p50 = next(r for r in data["results"] if r["metric"] == "latency_p50_ns")
    assert p50["comparison"]["value"] == pytest.approx(1.03)
    assert (p50["comparison"]["method"], p50["margin"]) == ("recorded", 0.001)
    _, out, _ = call(capsys, "compare", "one", "two", "--format", "markdown")
    assert out.startswith("**FAIL**: B `two` against A `one`")
    assert "| model | unit | metric | A | B | fidelity | change |" in out


def test_nothing_in_common_or_a_damaged_side_is_invalid(capsys, place):
    folder = a_session(place)
    other = a_session(place, "two")
    for path in (other / "runs").iterdir():
        if "deploy" not in path.name:
            shutil.rmtree(path)
    code, out, _ = call(capsys, "compare", "one", "two")
    assert code == 11
    assert "002-" in out or "004-" in out
    deploy = next(p.name for p in (other / "runs").iterdir())
    latency = next(p.name for p in (folder / "runs").iterdir() if "offline" in p.name)
    code, out, _ = call(capsys, "compare", f"one/{latency}", f"two/{deploy}")
    assert code == 11
    assert "only in" in out


def test_a_session_against_itself_says_so(capsys, place):
    a_session(place)
    _, out, _ = call(capsys, "compare", "one", "one")
    assert out.splitlines()[0].endswith(": B against A")
    assert "A and B are the same: one" in out


def test_what_one_side_alone_has_is_one_line_for_a_model(capsys, place):
    a_session(place)
    other = a_session(place, "two")
    for path in (other / "runs").iterdir():
        if "offline" in path.name:
            shutil.rmtree(path)
    _, out, _ = call(capsys, "compare", "one", "two")
    (line,) = [line for line in out.splitlines() if line.startswith("only in one: digits_fp32_onnx on")]
    assert "numbers: " in line
    assert "throughput_per_s, offline, batch 2; " in line


# --- sessions by name


@pytest.mark.parametrize("command", ["gate", "report"])
def test_a_session_is_found_by_its_id_too(capsys, place, command):
    a_session(place)
    code, out, err = call(capsys, command, "one")
    assert (code in (0, 1, 10, 11), bool(out), err) == (True, True, "")
    code, _, err = call(capsys, command, "oen")
    assert code == 2
    assert (
        f"no session `oen` here, nor in {place / 'reports'}. Give its folder or id; the last one is one."
        in err
    )


def test_without_any_session_the_next_step_is_to_measure(capsys):
    code, _, err = call(capsys, "report", "reports/latest")
    assert (code, "Measure first: pytest suites/ --device NAME" in err) == (2, True)


def test_the_command_alone_prints_its_help(capsys):
    code, _, err = call(capsys)
    assert code == 2
    assert "write devices.toml and suites/ into a folder" in err


def test_a_wrong_configuration_found_by_a_check_is_wrong_use(capsys, place):
    file = place / "devices.toml"
    file.write_text(file.read_text().replace('user = "pi"', 'user = "pi"\nidentity_path = "none"'))
    code, out, _ = call(capsys, "devices", "check", "gone")
    assert (code, "gone: NOT OK  no identity file" in out) == (2, True)


def test_a_folder_of_the_hosts_that_fails_is_named(capsys, place, monkeypatch):
    (place / "file").write_text("")
    monkeypatch.setenv("HIL_HARNESS_CACHE", str(place / "file" / "cache"))
    code, _, err = call(capsys, "cache")
    assert code == 75
    assert str(place / "file") in err
    assert "Not a directory" in err


def test_the_gate_says_what_its_verdict_rests_on(capsys, place):
    a_session(place)
    _, out, _ = call(capsys, "gate", "one")
    (line,) = [
        line for line in out.splitlines() if line.startswith("  judged: digits_fp32_onnx on rpi4-emulated")
    ]
    assert re.search(r": \d+ PASS", line)
