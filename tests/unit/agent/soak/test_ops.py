"""What the agent answers about soaks: from their files, without their runners."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import soak_specs

from harness.agent.args import Args
from harness.agent.faults import Fault
from harness.agent.ops import OPS
from harness.agent.soak.folder import SoakFolder
from harness.agent.soak.hooks import BootHooks
from harness.agent.soak.ops import SOAK_OPS, Place
from harness.agent.soak.spool import Spool

ID = "20260102-030405-abcd"


class Runner:
    """A runner in this process: the lock and the spool, as long as it lives."""

    def __init__(self, folder: SoakFolder) -> None:
        lock = folder.take_lock()
        assert lock is not None
        self.lock: int | None = lock
        self.folder = folder
        self.spool: Spool = folder.open_spool()
        self.spool.write([{"k": "life", "life": self.spool.end.life + 1, "t_ns": self.spool.end.t_ns}])

    def end(self, reason: str | None = "duration") -> None:
        if self.lock is None:
            return
        if reason is not None:
            self.spool.write([{"k": "end", "life": 1, "t_ns": self.spool.end.t_ns, "reason": reason}])
        self.spool.close()
        os.close(self.lock)
        self.lock = None


class Lab:
    """A device's soaks, whose runners live here."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runners: list[Runner] = []
        self.ends_at_once = False
        (home / "boot").write_text("")
        hooks = BootHooks(str(home / ".hil-boot"), str(home / "boot"))
        self.place = Place(str(home), "/agent.pyz.d", self.start, lambda: hooks)
        (home / "model.onnx").write_text("")

    def start(self, folder: SoakFolder, location: str) -> int:
        assert location == "/agent.pyz.d"
        self.runners.append(Runner(folder))
        if self.ends_at_once:
            self.runners[-1].end("stopped")
        return os.getpid()

    def ask(self, op: str, **args: Any) -> Any:
        return SOAK_OPS[op](self.place, Args(op, args))

    def refusal(self, op: str, **args: Any) -> Fault:
        with pytest.raises(Fault) as caught:
            self.ask(op, **args)
        return caught.value

    def begin(self, **changes: Any) -> Runner:
        self.ask("soak_start", spec=self.spec(**changes))
        return self.runners[-1]

    def claim(self) -> int:
        return int(self.ask("soak_claim", id=ID, holder="desk")["token"])

    def spec(self, **changes: Any) -> dict[str, Any]:
        variant = soak_specs.variant(name="fp32", model_path=str(self.home / "model.onnx"))
        own = {
            "id": ID,
            "duration_ns": 60 * 10**9,
            "reserve_bytes": 4096,
            "python": "/usr/bin/python3",
            "agent": "/home/pi/agent.pyz",
            "streams": [soak_specs.stream(variant)],
            "channels": [{"id": "t", "kind": "temp_c", "unit": "degC"}],
        }
        return soak_specs.spec(**{**own, **changes})


@pytest.fixture(autouse=True)
def _no_crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    for runner in made.runners:
        runner.end(None)


def test_all_are_ops_of_the_agent() -> None:
    assert set(SOAK_OPS) <= set(OPS)


def test_start_writes_the_spec_and_a_boot_hook(lab: Lab) -> None:
    spec = lab.spec()
    assert lab.ask("soak_start", spec=spec) == {"pid": os.getpid(), "boot_hook": "hil-boot"}
    assert json.loads((lab.home / "soak" / ID / "spec.json").read_text()) == spec
    assert lab.ask("soak_spec", id=ID) == {"spec": spec}
    hook = (lab.home / ".hil-boot").read_text()
    assert f"/usr/bin/python3 -I -S /home/pi/agent.pyz soak --home {lab.home} --id {ID}" in hook


def test_a_start_that_is_repeated_finds_it_running(lab: Lab) -> None:
    lab.begin()
    assert lab.ask("soak_start", spec=lab.spec())["pid"] == os.getpid()
    assert len(lab.runners) == 1
    other = lab.refusal("soak_start", spec=lab.spec(duration_ns=1))
    assert "there is one with another spec" in other.message


def test_no_hook_where_a_reboot_ends_it(lab: Lab) -> None:
    restart = {"crash": True, "reboot": False, "max_per_h": 1}
    assert lab.ask("soak_start", spec=lab.spec(restart=restart))["boot_hook"] is None
    assert not (lab.home / ".hil-boot").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"id": "../x"}, "`id` is '../x'"),
        ({"id": "a b"}, "soak id 'a b'"),
        ({"id": ".x"}, "`id` is '.x'"),
        ({"id": "x" * 65}, "at most 64"),
        ({"version": 2}, "`version` is 2, this agent knows 1"),
        ({"window_ns": 0}, "`window_ns` is 0"),
        ({"compressed": 1}, "`compressed` is 1, expected true or false"),
        ({"speed": 1}, "`speed` is unknown; valid: "),
        ({"streams": []}, "0 `streams`, expected 1 to 16"),
        ({"streams": [1]}, "`streams` holds [1], expected objects"),
        ({"restart": {"crash": True}}, "spec.restart: `reboot` is missing"),
        ({"channels": [{"id": "t"}]}, "channels[0]: `kind` is missing"),
        ({"max_spool_bytes": 5}, "`max_spool_bytes` is 5"),
    ],
)
def test_a_wrong_spec_starts_nothing(lab: Lab, changes: dict[str, Any], text: str) -> None:
    fault = lab.refusal("soak_start", spec=lab.spec(**changes))
    assert fault.kind == "bad_request"
    assert text in fault.message
    assert not (lab.home / "soak").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cycle": {"kind": "often"}}, "streams[0].cycle: `kind` is 'often'"),
        ({"variants": []}, "streams[0]: `variants` is empty"),
        ({"switch": {"above": 0.5, "below": 0.5, "hold_windows": 1}}, "`below` is 0.5, expected less"),
        ({"switch": {"above": 0.5}}, "switch: `below` is missing"),
    ],
)
def test_a_wrong_stream_starts_nothing(lab: Lab, change: dict[str, Any], text: str) -> None:
    stream = {**lab.spec()["streams"][0], **change}
    assert text in lab.refusal("soak_start", spec=lab.spec(streams=[stream])).message
    twice = lab.spec()["streams"] * 2
    assert "'main' comes twice" in lab.refusal("soak_start", spec=lab.spec(streams=twice)).message


@pytest.mark.parametrize(
    "change", [{"model_path": "/none.onnx"}, {"npz_path": "/none.npz"}, {"env": "a" * 64}]
)
def test_files_that_arent_there_are_told_at_once(lab: Lab, change: dict[str, Any]) -> None:
    stream = lab.spec()["streams"][0]
    stream["variants"] = [{**stream["variants"][0], **change}]
    fault = lab.refusal("soak_start", spec=lab.spec(streams=[stream]))
    assert fault.kind == "not_found"
    assert str(next(iter(change.values()))) in fault.message


@pytest.mark.parametrize("soak_id", ["none", "..", "a/b", "", "\0"])
@pytest.mark.parametrize("op", ["soak_status", "soak_resume", "soak_spec", "soak_claim"])
def test_other_soaks_are_not_found(lab: Lab, op: str, soak_id: str) -> None:
    lab.begin()
    more = {"holder": "x"} if op == "soak_claim" else {}
    fault = lab.refusal(op, id=soak_id, **more)
    assert fault.kind == ("not_found" if soak_id == "none" else "bad_request")
    if soak_id == "none":
        assert ID in fault.message


def test_a_link_is_no_soak(lab: Lab, tmp_path: Path) -> None:
    lab.begin()
    (lab.home / "soak" / "linked").symlink_to(lab.home / "soak" / ID)
    assert lab.refusal("soak_status", id="linked").kind == "not_found"
    assert [soak["id"] for soak in lab.ask("soak_list")["soaks"]] == [ID]
    assert "is a link" in lab.refusal("soak_start", spec=lab.spec(id="linked")).message


def test_status_through_its_lives(lab: Lab) -> None:
    assert lab.ask("soak_list") == {"soaks": []}
    runner = lab.begin()
    runner.spool.write([{"k": "window", "life": 1, "t1_ns": 7}])
    lab.claim()
    status = lab.ask("soak_status", id=ID)
    assert (status["state"], status["pid"]) == ("running", os.getpid())
    assert (status["seq"], status["life"], status["t_ns"]) == (2, 1, 7)
    assert status["duration_ns"] == 60 * 10**9
    assert status["segments"] == [{"number": 1, "size_bytes": status["spool_bytes"]}]
    assert status["collector"]["holder"] == "desk"
    assert status["beat_age_ns"] is None
    runner.end(None)
    assert lab.ask("soak_status", id=ID)["state"] == "dead"
    assert lab.ask("soak_resume", id=ID) == {"pid": os.getpid(), "started": True}
    assert lab.ask("soak_resume", id=ID) == {"pid": os.getpid(), "started": False}
    lab.runners[-1].end("duration")
    assert lab.ask("soak_list")["soaks"][0]["state"] == "ended"
    assert lab.ask("soak_resume", id=ID) == {"pid": None, "started": False}


def test_the_beats_age_is_known_in_its_boot_only(lab: Lab) -> None:
    folder = lab.begin().folder
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    folder.write_heartbeat({"boot_id": boot_id, "beat_boottime_ns": 1})
    assert lab.ask("soak_status", id=ID)["beat_age_ns"] > 10**9
    folder.write_heartbeat({"boot_id": "another", "beat_boottime_ns": 1})
    assert lab.ask("soak_status", id=ID)["beat_age_ns"] is None


def test_a_soak_that_wrote_nothing_is_unknown(lab: Lab) -> None:
    lab.begin().end(None)
    for segment in (lab.home / "soak" / ID / "spool").glob("*.seg"):
        segment.unlink()
    assert lab.ask("soak_status", id=ID)["state"] == "unknown"


def read(lab: Lab, token: int, segment: int = 1, offset: int = 0, max_bytes: int = 1 << 20) -> Any:
    return lab.ask("soak_read", id=ID, token=token, segment=segment, offset=offset, max_bytes=max_bytes)


def test_read_in_pieces_gives_the_segment(lab: Lab) -> None:
    runner = lab.begin()
    for i in range(20):
        runner.spool.write([{"k": "window", "i": i, "t1_ns": i}])
    token, collected = lab.claim(), b""
    while True:
        answer, piece = read(lab, token, offset=len(collected), max_bytes=100)
        if not piece:
            break
        assert piece.endswith(b"\n")
        assert len(piece) <= 100
        collected += piece
    assert collected == (lab.home / "soak" / ID / "spool" / "00000001.seg").read_bytes()
    assert answer == {"size_bytes": len(collected), "last": 1}


def test_a_line_longer_than_asked_comes_whole(lab: Lab) -> None:
    runner = lab.begin()
    runner.spool.write([{"k": "window", "pad": "x" * 500}])
    token = lab.claim()
    _, first = read(lab, token, max_bytes=1)
    _, second = read(lab, token, offset=len(first), max_bytes=1)
    assert (first.count(b"\n"), second.count(b"\n")) == (1, 1)
    assert len(second) > 500


def test_what_is_being_written_is_not_read(lab: Lab) -> None:
    lab.begin()
    segment = lab.home / "soak" / ID / "spool" / "00000001.seg"
    whole = segment.read_bytes()
    token = lab.claim()
    for unfinished in (b'1234 {"se', b"\x0034abcdef {}\nmore\n"):
        segment.write_bytes(whole + unfinished)
        assert read(lab, token) == ({"size_bytes": len(whole), "last": 1}, whole)
        assert read(lab, token, offset=len(whole)) == ({"size_bytes": len(whole), "last": 1}, b"")
    assert read(lab, token, offset=10**6)[0]["size_bytes"] == segment.stat().st_size


def test_a_segment_that_isnt_there(lab: Lab) -> None:
    lab.begin()
    fault = lab.refusal("soak_read", id=ID, token=lab.claim(), segment=2, offset=0, max_bytes=10)
    assert fault.kind == "not_found"
    assert "there are 1 to 1" in fault.message


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("soak_read", {"segment": 1, "offset": 0, "max_bytes": 10}),
        ("soak_ack", {"segment": 1}),
        ("soak_stop", {"reason": "x"}),
        ("soak_remove", {}),
    ],
)
def test_an_old_token_can_do_nothing(lab: Lab, op: str, args: dict[str, Any]) -> None:
    lab.begin()
    token = lab.claim()
    lab.ask("soak_claim", id=ID, holder="laptop", take_over=True)
    fault = lab.refusal(op, id=ID, token=token, **args)
    assert (fault.kind, fault.details) == ("fenced", {"holder": "laptop"})
    assert not (lab.home / "soak" / ID / "stop.json").exists()


def test_acknowledged_segments_are_known_to_the_runner(lab: Lab) -> None:
    runner = lab.begin()
    assert lab.ask("soak_ack", id=ID, token=lab.claim(), segment=3) == {}
    assert runner.folder.acknowledged() == 3


def test_stop_asks_the_runner_and_says_whether_it_went(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = lab.begin()
    monkeypatch.setattr(os, "kill", lambda pid, number: None)  # the runner is this very process
    token = lab.claim()
    assert lab.ask("soak_stop", id=ID, token=token, reason="enough", deadline_s=0) == {"ended": False}
    assert runner.folder.stop_reason() == "enough"
    assert (lab.home / ".hil-boot").exists()
    assert lab.refusal("soak_remove", id=ID, token=token).kind == "busy"
    runner.end("stopped")
    assert lab.ask("soak_stop", id=ID, token=token, reason="twice") == {"ended": True}
    assert runner.folder.stop_reason() == "enough"
    assert not (lab.home / ".hil-boot").exists()


def test_a_dead_soak_that_is_stopped_gets_its_end(lab: Lab) -> None:
    lab.begin().end(None)
    token = lab.claim()
    assert lab.refusal("soak_remove", id=ID, token=token).kind == "busy"
    lab.ends_at_once = True
    assert lab.ask("soak_stop", id=ID, token=token, reason="enough") == {"ended": True}
    assert lab.ask("soak_status", id=ID)["state"] == "ended"


def test_a_dead_soak_whose_runner_cant_start_can_be_removed(lab: Lab, capsys) -> None:
    lab.begin().end(None)
    token = lab.claim()

    def fail(folder: SoakFolder, location: str) -> int:
        raise Fault("internal", "no such interpreter")

    lab.place = lab.place._replace(start=fail)
    assert lab.ask("soak_stop", id=ID, token=token, reason="enough") == {"ended": True}
    assert "no such interpreter" in capsys.readouterr().err
    assert lab.ask("soak_remove", id=ID, token=token) == {}
    assert os.listdir(lab.home / "soak") == []


def test_remove_takes_folder_and_hook(lab: Lab) -> None:
    lab.begin().end("duration")
    assert (lab.home / ".hil-boot").exists()
    assert lab.ask("soak_remove", id=ID, token=lab.claim()) == {}
    assert os.listdir(lab.home / "soak") == []
    assert not (lab.home / ".hil-boot").exists()


def test_a_second_runner_gets_no_lock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = lab.begin()
    monkeypatch.setattr("harness.agent.soak.folder._LOCK_WAIT_S", 0.0)
    assert runner.folder.take_lock() is None
    assert runner.folder.living_runner() == os.getpid()
    runner.end(None)
    assert runner.folder.living_runner() is None
