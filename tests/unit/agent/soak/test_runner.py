"""Whole lives of a soak with scripted children, on a clock that nobody waits for."""

from __future__ import annotations

import contextlib
import errno
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.soak_world import LOAD_NS, MS, Call, Death, Hang, Quick, S, Stage, World, spec, variant

from harness.agent.faults import Fault
from harness.agent.soak.folder import SoakFolder


def steady(duration_ns: int = 5 * MS) -> Call:
    return lambda _number, _t: duration_ns


def stage(tmp_path: Path, script: Any = None, **more: Any) -> Stage:
    world = World(script or (lambda _name, _number: steady()))
    return Stage(tmp_path, spec(**more), world)


def tiled(windows: list[dict[str, Any]]) -> bool:
    return all(a["t1_ns"] == b["t0_ns"] for a, b in pairwise(windows))


def test_a_quiet_soak(tmp_path: Path) -> None:
    it = stage(tmp_path)
    assert it.play() == "duration"
    records, windows = it.records(), it.windows()
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    assert [r["k"] for r in records] == ["life", *["window"] * 6, "end"]
    assert [(w["i"], w["n"], w["t1_ns"]) for w in windows] == [(i, 1, (i + 1) * 10 * S) for i in range(6)]
    assert tiled(windows)
    # a call each second, from when the model was loaded until before the end
    assert it.total("calls") == 60 - LOAD_NS // S - 1
    assert [w["streams"]["main"]["calls"] for w in windows[1:]] == [10] * 5
    main = windows[3]["streams"]["main"]
    assert (main["sum_ns"], main["min_ns"], main["max_ns"]) == (50 * MS, 5 * MS, 5 * MS)
    assert sum(count for _, count in main["h"]) == 10
    assert (main["late"], main["errors"], main["rss_bytes"]) == (0, {}, 1 << 20)


def test_a_closed_loop_fills_its_windows(tmp_path: Path) -> None:
    streams = [{"name": "main", "cycle": {"kind": "closed"}, "variants": [variant()]}]
    it = stage(tmp_path, lambda *_: steady(50 * MS), streams=streams)
    it.play()
    assert [w["streams"]["main"]["calls"] for w in it.windows()[1:]] == [200] * 5
    assert it.windows()[2]["streams"]["main"]["busy_ns"] == 10 * S


def test_no_wake_ups_beyond_window_and_slice(tmp_path: Path) -> None:
    streams = [{"name": "main", "cycle": {"kind": "every", "period_ns": 300 * S}, "variants": [variant()]}]
    it = stage(
        tmp_path, duration_s=72 * 3600, window_s=300, slice_ns=300 * S, compressed=True, streams=streams
    )
    assert it.play() == "duration"
    assert len(it.windows()) == 864
    assert it.total("calls") == 863  # the first is due at 300 s
    assert it.world.waits < 3 * 864  # an answer and a window's end each, and some to begin with


def test_calls_longer_than_windows_hold_up_no_window(tmp_path: Path) -> None:
    streams = [{"name": "main", "cycle": {"kind": "closed"}, "variants": [variant()]}]
    it = stage(tmp_path, lambda *_: steady(8 * S), duration_s=60, window_s=1, streams=streams)
    it.play()
    assert len(it.windows()) == 60
    assert {w["n"] for w in it.windows()} == {1}
    assert tiled(it.windows())
    assert it.total("calls") == 7


def test_two_streams_at_once(tmp_path: Path) -> None:
    streams = [
        {"name": "wake", "cycle": {"kind": "every", "period_ns": 10 * MS}, "variants": [variant()]},
        {"name": "check", "cycle": {"kind": "closed"}, "variants": [variant()]},
    ]
    slow = {"wake.a": steady(1 * MS), "check.a": steady(700 * MS)}
    it = stage(tmp_path, lambda name, _: slow[name], duration_s=20, window_s=5, streams=streams)
    it.play()
    assert it.total("calls", "wake") == 1800 - 1
    assert it.total("calls", "check") in range(25, 28)
    assert it.total("late", "wake") == 0


def test_an_exception_of_a_call_is_an_error_and_the_stream_goes_on(tmp_path: Path) -> None:
    def call(number: int, _t: int) -> int:
        if number % 4 == 0:
            raise ValueError("odd shape")
        return 5 * MS

    it = stage(tmp_path, lambda *_: call)
    assert it.play() == "duration"
    assert it.total("calls") == 57
    assert sum(w["streams"]["main"]["errors"].get("ValueError", 0) for w in it.windows()) == 57 // 4
    (event,) = it.events()
    assert event["event"] == "call_failed"
    assert event["stream"] == "main"
    assert "odd shape" in event["text"]


def test_a_crash_is_told_and_the_child_comes_back(tmp_path: Path) -> None:
    def crash(number: int, _t: int) -> int:
        if number == 21:
            raise Death()
        return 5 * MS

    it = stage(tmp_path, lambda _name, number: crash if number == 1 else steady())
    assert it.play() == "duration"
    died, back = it.events()
    assert (died["event"], died["details"]["signal"]) == ("crash", 11)
    assert died["details"]["stderr_tail"] == "bad pointer\n"
    assert back["event"] == "child_restarted"
    assert back["t_ns"] - died["t_ns"] == S + LOAD_NS  # the first back-off, and loading
    # what the dead child had not answered for, and what was due until the next one served, was missed
    missed = sum(w["streams"]["main"]["errors"].get("missed", 0) for w in it.windows())
    assert it.total("calls") == 57
    assert 3 <= missed <= 8
    assert sum(w["streams"]["main"]["restarts"] for w in it.windows()) == 1


def test_a_child_that_hangs_is_ended_as_a_crash(tmp_path: Path) -> None:
    def hang(number: int, _t: int) -> int:
        if number == 5:
            raise Hang()
        return 5 * MS

    it = stage(tmp_path, lambda _name, number: hang if number == 1 else steady(), duration_s=300)
    assert it.play() == "duration"
    crash, _ = it.events()
    assert crash["event"] == "crash"
    assert "no answer to a slice for 120 s" in crash["text"]
    assert tiled(it.windows())
    assert len(it.windows()) == 30


def test_a_child_that_answered_while_the_runner_was_away_is_not_late(tmp_path: Path) -> None:
    it = stage(tmp_path, duration_s=600)
    sync, syncs = it.disk.sync, []

    def stuck_once(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) == 5:  # a medium that takes minutes; where idle time flies, a second of the host's
            it.world.now_ns += 300 * S
        sync(descriptor)

    it.disk.sync = stuck_once  # type: ignore[method-assign]
    assert it.play() == "duration"
    assert len(syncs) > 5
    assert it.events("crash") == []
    assert it.world.started == ["main.a"]
    assert it.total("late") > 200  # the calls that were due meanwhile; none is missed
    assert [w["streams"]["main"]["errors"] for w in it.windows()] == [{}] * len(it.windows())


def test_out_of_memory_is_told_apart(tmp_path: Path) -> None:
    def oom(number: int, _t: int) -> int:
        if number == 5:
            raise Death(
                signal=9, oom=True, child="main.a", cgroup_peak_bytes=1 << 26, cgroup_max_bytes=1 << 26
            )
        return 5 * MS

    it = stage(tmp_path, lambda _name, number: oom if number == 1 else steady())
    it.play()
    assert [e["event"] for e in it.events()] == ["oom", "child_restarted"]
    assert it.events("oom")[0]["details"]["cgroup_max_bytes"] == 1 << 26


def test_restarts_back_off_and_are_used_up(tmp_path: Path) -> None:
    def crash(_number: int, _t: int) -> int:
        raise Death()

    it = stage(
        tmp_path, lambda *_: crash, duration_s=900, restart={"crash": True, "reboot": True, "max_per_h": 4}
    )
    assert it.play() == "aborted: every stream gave up"
    starts = [e["t_ns"] for e in it.events("child_restarted")]
    assert len(it.events("crash")) == 5
    assert len(starts) == 4
    gaps = [b - a for a, b in pairwise(starts)]
    assert gaps == sorted(gaps)
    assert gaps[0] < gaps[-1]
    (given_up,) = it.events("gave_up")
    assert "all 4 restarts of an hour are used up" in given_up["text"]


def test_one_stream_gives_up_the_other_goes_on(tmp_path: Path) -> None:
    streams = [
        {"name": name, "cycle": {"kind": "every", "period_ns": S}, "variants": [variant()]}
        for name in ("good", "bad")
    ]
    scripts = {"good.a": steady(), "bad.a": Fault("runtime_unavailable", "no module `x`")}
    it = stage(tmp_path, lambda name, _: scripts[name], streams=streams)
    assert it.play() == "duration"
    (event,) = it.events()
    assert (event["event"], event["stream"]) == ("gave_up", "bad")
    assert "no module `x`" in event["text"]
    assert it.total("calls", "bad") == 0
    assert it.total("calls", "good") == 57


def test_no_restart_where_none_is_wanted(tmp_path: Path) -> None:
    def crash(number: int, _t: int) -> int:
        if number == 3:
            raise Death()
        return 5 * MS

    it = stage(tmp_path, lambda *_: crash, restart={"crash": False, "reboot": True, "max_per_h": 4})
    assert it.play() == "aborted: every stream gave up"
    assert [e["event"] for e in it.events()] == ["crash", "gave_up", "stopping"]


def test_a_stop_ends_slices_at_once(tmp_path: Path) -> None:
    it = stage(tmp_path, duration_s=3600, window_s=300, slice_ns=300 * S)

    def stop(world: World) -> None:
        it.folder.write_object("stop.json", {"reason": "enough"})

    it.world.at[it.world.now_ns + 450 * S] = stop
    assert it.play() == "stopped"
    last = it.records()[-1]
    assert (last["k"], last["reason"]) == ("end", "stopped")
    assert it.events("stopping")[0]["text"] == "enough"
    assert it.windows()[-1]["t1_ns"] == 450 * S
    assert it.windows()[-1]["i"] == 1


def test_a_signal_ends_the_life_and_not_the_soak(tmp_path: Path) -> None:
    it = stage(tmp_path)

    def signal(world: World) -> None:
        it.signals.came = True

    it.world.at[it.world.now_ns + 25 * S] = signal
    assert it.play() is None
    assert it.records()[-1]["k"] == "window"
    it.signals.came = False
    it.world.now_ns += 7 * S
    assert it.play() == "duration"
    life = it.records()[[r["k"] for r in it.records()].index("life", 1)]
    assert (life["life"], life["gap_from"], life["gap_ns"], life["t_ns"]) == (2, "boottime", 7 * S, 32 * S)
    assert [e["event"] for e in it.events()] == ["stopping", "runner_restarted"]
    assert [w["t0_ns"] // S for w in it.windows()] == [0, 10, 20, 32, 40, 50]
    assert [r["seq"] for r in it.records()] == list(range(1, len(it.records()) + 1))


def test_a_device_that_shuts_down_crashes_no_child(tmp_path: Path) -> None:
    it = stage(tmp_path)

    def shut_down(world: World) -> None:
        it.signals.came = True
        world.children[0].queue.clear()
        world.children[0]._ends("died of signal 15", {"signal": 15})

    it.world.at[it.world.now_ns + 25 * S] = shut_down
    assert it.play() is None
    assert [e["event"] for e in it.events()] == ["stopping"]
    assert it.windows()[-1]["t1_ns"] == 25 * S


def test_a_stall_makes_one_long_window(tmp_path: Path) -> None:
    it = stage(tmp_path)

    def stall(world: World) -> None:
        world.now_ns += 27 * S  # the runner got no turn

    it.world.at[it.world.now_ns + 15 * S] = stall
    it.play()
    assert [(w["i"], w["n"]) for w in it.windows()] == [(0, 1), (1, 3), (4, 1), (5, 1)]
    assert tiled(it.windows())


def test_a_full_disk_that_holds_the_log_too_doesnt_end_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_folder: SoakFolder, _values: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    it = stage(tmp_path)
    monkeypatch.setattr(SoakFolder, "write_heartbeat", full)
    with open("/dev/full", "w", buffering=1) as log:  # full(4): every write fails with ENOSPC
        monkeypatch.setattr("sys.stderr", log)
        assert it.play() == "duration"
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            log.close()
    assert len(it.windows()) == 6


def test_a_full_disk_thins_windows_until_there_is_room(tmp_path: Path) -> None:
    it = stage(tmp_path, duration_s=300)
    it.disk = Quick(room_bytes=2600)

    def clear(world: World) -> None:
        it.disk.room_bytes = None

    it.world.at[it.world.now_ns + 201 * S] = clear
    assert it.play() == "duration"
    merged = [w for w in it.windows() if w["n"] > 1]
    assert len(merged) == 1
    assert merged[0]["n"] >= 15
    assert tiled(it.windows())
    assert it.total("calls") == 297  # none is lost, only when they were
    assert merged[0]["streams"]["main"]["sum_ns"] == 5 * MS * merged[0]["streams"]["main"]["calls"]
    assert [e["event"] for e in it.events()] == ["disk_full", "thinned", "disk_back"]
    assert it.events("thinned")[0]["details"]["n"] == merged[0]["n"]
    assert it.windows()[-1]["n"] == 1
    assert [r["seq"] for r in it.records()] == list(range(1, len(it.records()) + 1))


def test_the_heartbeat(tmp_path: Path) -> None:
    it = stage(tmp_path)
    it.play()
    beat = json.loads((tmp_path / "soak" / it.values["id"] / "runner.json").read_text())
    assert beat["state"] == "ended"
    assert beat["seq"] == it.windows()[-1]["seq"]
    assert beat["life"] == 1


VARIANTS = [variant("accurate"), variant("light")]


def switching(load: Any) -> Any:
    return lambda name, _number: lambda _n, t: load(t) if name == "main.accurate" else load(t) * 7 // 10


def test_the_light_variant_takes_over_under_load_and_gives_back(tmp_path: Path) -> None:
    def load(t_ns: int) -> int:
        return 900 * MS if 60 * S < t_ns < 180 * S else 300 * MS

    streams = [
        {
            "name": "main",
            "cycle": {"kind": "every", "period_ns": S},
            "variants": VARIANTS,
            "switch": {"above": 0.8, "below": 0.5, "hold_windows": 3},
        }
    ]
    it = stage(tmp_path, switching(load), duration_s=400, streams=streams)
    it.play()
    (lighter, there), (back, here) = [(e["details"]["to"], e["t_ns"] / S) for e in it.events("variant")]
    assert (lighter, back) == ("light", "accurate")
    # a window over `above`, loading while the other serves, then the slices that it has
    assert 70 < there < 95
    assert there + 30 < here
    assert it.events("variant")[0]["details"]["busy_ratio"] > 0.8
    names = [w["streams"]["main"]["variant"] for w in it.windows()]
    assert names[5] == "accurate"
    assert names[10] == "light"
    assert it.total("calls") == 397  # none left out, none twice
    assert it.total("late") == 0
    assert it.world.started == ["main.accurate", "main.light", "main.accurate"]


def test_a_window_that_ends_while_the_next_variant_begins_misses_no_call(tmp_path: Path) -> None:
    streams = [
        {
            "name": "main",
            "cycle": {"kind": "every", "period_ns": S},
            "variants": VARIANTS,
            "switch": {"above": 0.8, "below": 0.1, "hold_windows": 3},
        }
    ]
    it = stage(tmp_path, switching(lambda _t: 900 * MS), duration_s=400, streams=streams)
    it.world.begin_ns = 15 * S  # longer than a window
    it.play()
    assert [e["details"]["to"] for e in it.events("variant")] == ["light"]
    # those that were due meanwhile are made late: they aren't missed besides
    assert [w["streams"]["main"]["errors"] for w in it.windows()] == [{}] * 40
    assert it.total("late") > 10
    assert it.total("calls") == 397  # none left out, none twice


@pytest.mark.parametrize("kill_at_s", [3, 14, 29, 47])
def test_a_killed_runner_loses_no_written_window(tmp_path: Path, kill_at_s: int) -> None:
    class Killed(BaseException):
        pass

    def kill(_world: World) -> None:
        raise Killed

    it = stage(tmp_path)
    it.world.at[it.world.now_ns + kill_at_s * S] = kill
    with pytest.raises(Killed):
        it.play()
    before = it.records()
    it.world.children.clear()
    it.world.now_ns += 2 * S
    assert it.play() == "duration"
    records = it.records()
    assert records[: len(before)] == before
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    assert [e["event"] for e in it.events()] == ["runner_restarted"]
    second = records[len(before)]
    assert second["t_ns"] == (kill_at_s + 2) * S
    assert second["gap_ns"] == second["t_ns"] - kill_at_s // 10 * 10 * S


def test_a_crash_while_the_next_variant_loads_leaves_the_stream_to_it(tmp_path: Path) -> None:
    def crash(number: int, _t: int) -> int:
        if number > 19:
            raise Death()
        return 900 * MS

    streams = [
        {
            "name": "main",
            "cycle": {"kind": "every", "period_ns": S},
            "variants": VARIANTS,
            "switch": {"above": 0.8, "below": 0.5, "hold_windows": 3},
        }
    ]
    it = stage(
        tmp_path, lambda name, _: crash if name == "main.accurate" else steady(600 * MS), streams=streams
    )
    assert it.play() == "duration"
    assert [e["event"] for e in it.events()] == ["crash", "variant", "child_restarted"]
    assert it.world.started == ["main.accurate", "main.light"]
    assert it.total("calls") == 57


def test_a_next_variant_that_dies_while_it_loads_leaves_the_stream_as_it_is(tmp_path: Path) -> None:
    streams = [
        {
            "name": "main",
            "cycle": {"kind": "every", "period_ns": S},
            "variants": VARIANTS,
            "switch": {"above": 0.8, "below": 0.5, "hold_windows": 3},
        }
    ]
    broken = Fault("internal", "no room for it")
    it = stage(
        tmp_path, lambda name, _: steady(900 * MS) if name == "main.accurate" else broken, streams=streams
    )
    assert it.play() == "duration"
    assert {e["event"] for e in it.events()} == {"crash"}
    assert it.total("calls") == 57
    assert {w["streams"]["main"]["variant"] for w in it.windows()} == {"accurate"}
    assert 1 <= len(it.events()) <= 2  # tried again a minute later at the soonest
