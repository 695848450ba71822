"""The grammar of cycles, and that the device takes what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.agent.soak.cycles import parse_cycle as parse_on_device
from harness.errors import ConfigError
from harness.soak.cycles import parse_cycle


@pytest.mark.parametrize(
    ("text", "cycle"),
    [
        ("closed", {"kind": "closed"}),
        ("every 300 s", {"kind": "every", "period_ns": 300 * 10**9}),
        ("every  5min ", {"kind": "every", "period_ns": 300 * 10**9}),
        ("every 10 ms", {"kind": "every", "period_ns": 10**7}),
    ],
)
def test_what_is_written_is_what_the_device_gets(text: str, cycle: dict[str, object]):
    assert parse_cycle(text) == cycle
    parse_on_device(cycle, "here")


def test_a_poisson_cycle_has_the_same_arrivals_each_time():
    first, second = parse_cycle("poisson 2 /s"), parse_cycle("poisson 2 /s")
    assert first == second
    assert (first["kind"], first["rate_per_s"]) == ("poisson", 2.0)
    assert parse_on_device(first, "here").count(0, 10**12) == pytest.approx(2000, rel=0.1)


def test_a_trace_begins_with_its_first_call(tmp_path: Path):
    (tmp_path / "calls.csv").write_text("time_s,who\n1700000002.5,b\n1700000001,a\n\n1700000003,c\n")
    cycle = parse_cycle("trace calls.csv repeat 24 h", folder=tmp_path)
    assert cycle["repeat_ns"] == 24 * 3600 * 10**9
    assert cycle["offsets_ns"] == pytest.approx([0, 1.5e9, 2e9], abs=1000)  # a float's digits of Unix time
    parse_on_device(cycle, "here")


def test_a_trace_may_run_once_and_its_name_hold_blanks(tmp_path: Path):
    (tmp_path / "my repeat calls.csv").write_text("0\n1.5 s\n")
    cycle = parse_cycle(f'trace "{tmp_path}/my repeat calls.csv"')
    assert cycle == {"kind": "trace", "offsets_ns": [0, 1_500_000_000], "repeat_ns": 0}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "expected one of"),
        ("evry 3 s", "did you mean `every`?"),
        ("closed 3", "expected one of"),
        ("every", '`every` needs more, as "every 300 s"'),
        ("every 0 s", "from 1 µs to 30 days"),
        ("every banana", "banana"),
        ("every 5 kg", "unknown unit `kg`"),
        ("poisson 0 /s", "from 1e-6 /s"),
        ("poisson 3 s", "unknown unit"),
        ("trace missing.csv", "can't be read: No such file"),
        ("trace empty.csv", "holds no times"),
        ("trace bad.csv", "bad.csv:2"),
        ("trace good.csv repeat 1 s", "its last call is at 2 s"),
        ("trace good.csv repeat often", "often"),
        ("trace long.csv", "60000 calls, at most 50000"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, what: str):
    (tmp_path / "empty.csv").write_text("time_s\n")
    (tmp_path / "bad.csv").write_text("1\nnever\n")
    (tmp_path / "good.csv").write_text("0\n2\n")
    (tmp_path / "long.csv").write_text("".join(f"{i}\n" for i in range(60_000)))
    with pytest.raises(ConfigError) as caught:
        parse_cycle(text, where="models.a.soak.cycle", folder=tmp_path)
    assert what in str(caught.value)
    assert "models.a.soak.cycle" in str(caught.value)
