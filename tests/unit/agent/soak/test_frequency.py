"""Governors and limits of the CPUs during a soak: what a board shows, what counts as a change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.agent.parsing import Unreadable
from harness.agent.soak.frequency import (
    HELD_NS,
    FrequencyWatch,
    parse_policies,
    policies_to_args,
    read_policies,
)

CAPTURES = Path(__file__).parents[3] / "captures"
S = 10**9


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Return the root of a copy of the RK3588's files, with whose CPUs its policies are."""
    shutil.copytree(CAPTURES / "rk3588" / "sys" / "devices", tmp_path / "sys" / "devices")
    for name, cpus in (("policy0", "0 1 2 3"), ("policy4", "4 5"), ("policy6", "6 7")):
        put(tmp_path, name, "affected_cpus", cpus)
    return tmp_path


def put(root: Path, policy: str, file: str, text: object) -> None:
    (root / "sys/devices/system/cpu/cpufreq" / policy / file).write_text(f"{text}\n")


def watch_of(root: Path, *cpus: int) -> FrequencyWatch:
    return FrequencyWatch(lambda: read_policies(str(root), cpus))


@pytest.mark.parametrize(
    ("device", "governor", "low_mhz", "high_mhz"),
    [("rpi4", "ondemand", 600, 1500), ("rpi5", "ondemand", 1500, 2400), ("rk3588", "ondemand", 408, 1800)],
)
def test_what_real_boards_show(device: str, governor: str, low_mhz: int, high_mhz: int) -> None:
    policy = read_policies(str(CAPTURES / device))["policy0"]
    assert (policy.governor, policy.min_hz, policy.max_hz) == (governor, low_mhz * 10**6, high_mhz * 10**6)
    assert policy.cpus == ()  # captures lack whose they are


def test_the_policies_of_the_cpus_that_a_soak_is_pinned_to(board: Path) -> None:
    assert list(read_policies(str(board), (5,))) == ["policy4"]
    assert list(read_policies(str(board))) == ["policy0", "policy4", "policy6"]


def test_a_board_that_shows_none_is_not_watched(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        read_policies(str(tmp_path))
    watch = watch_of(tmp_path)
    assert "no frequency policy" in watch.why_not
    assert watch.look(0) == watch.look(HELD_NS) == []


def test_another_governor_is_told_once_when_it_stays(board: Path) -> None:
    watch = watch_of(board)
    assert watch.look(0) == []
    put(board, "policy4", "scaling_governor", "powersave")
    assert watch.look(S) == watch.look(HELD_NS) == []
    ((event, text, details),) = watch.look(S + HELD_NS)
    assert (event, text) == ("governor", "cpu4,5 from ondemand to powersave")
    assert details == {"policy4": {"from": "ondemand", "to": "powersave"}}
    assert watch.look(2 * HELD_NS) == []
    put(board, "policy4", "scaling_governor", "ondemand")
    assert watch.look(3 * HELD_NS) == []
    assert watch.look(4 * HELD_NS)[0][2] == {"policy4": {"from": "powersave", "to": "ondemand"}}


def test_a_governor_that_was_set_for_a_moment_is_none(board: Path) -> None:
    watch = watch_of(board)
    put(board, "policy0", "scaling_governor", "performance")
    assert watch.look(S) == []
    put(board, "policy0", "scaling_governor", "ondemand")
    assert watch.look(2 * S) == []
    put(board, "policy0", "scaling_governor", "performance")
    assert watch.look(HELD_NS) == watch.look(2 * HELD_NS - S) == []  # its time counts anew


def test_a_cap_is_told_at_once_and_as_lifted_when_it_stays_away(board: Path) -> None:
    watch = watch_of(board)
    put(board, "policy0", "scaling_max_freq", 1750000)  # within 5%
    assert watch.look(0) == []
    put(board, "policy0", "scaling_max_freq", 1200000)
    ((event, text, details),) = watch.look(S)
    assert event == "frequency_capped"
    assert text == "cpu0-3 at 1200 MHz at most, 1800 at the start"
    assert details == {"policy0": {"max_hz": 1_200_000_000, "start_hz": 1_800_000_000}}
    for at in range(2, 200):  # heat sets and lifts it again and again
        put(board, "policy0", "scaling_max_freq", 1800000 if at % 20 else 1200000)
        assert watch.look(at * S) == []
    put(board, "policy0", "scaling_max_freq", 1800000)
    ((event, text, _),) = watch.look(180 * S + HELD_NS)
    assert (event, text) == ("frequency_uncapped", "cpu0-3 up to 1800 MHz again")


def test_a_later_life_is_held_against_the_soaks_start(board: Path) -> None:
    plain = policies_to_args(watch_of(board).now)
    assert parse_policies(plain) == read_policies(str(board))
    put(board, "policy0", "scaling_governor", "schedutil")
    watch = watch_of(board)
    watch.hold_against(parse_policies(plain))
    assert watch.look(0) == []
    assert [event for event, _, _ in watch.look(HELD_NS)] == ["governor"]


@pytest.mark.parametrize("plain", [None, [], {"policy0": 1}, {"policy0": {"governor": "x"}}])
def test_a_damaged_note_of_an_earlier_life_is_none(plain: object) -> None:
    assert parse_policies(plain) == {}


def test_a_cpu_that_is_away_is_no_change(board: Path) -> None:
    watch = watch_of(board)
    shutil.rmtree(board / "sys/devices/system/cpu/cpufreq/policy4")
    assert watch.look(0) == watch.look(HELD_NS) == []
