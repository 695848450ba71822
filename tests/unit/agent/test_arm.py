"""One arm of a duet: the size of its blocks, what lands in its arrays, and what it leaves behind."""

from __future__ import annotations

import gc
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent import arm as arms
from harness.agent import model, timing
from harness.agent.args import Args
from harness.agent.faults import Fault
from harness.agent.samples import Raw
from harness.agent.wire import Tensor, pack_tensors, unpack_tensors

MS = 1_000_000
PLAN = arms.ArmPlan(
    pairs=3, block_ns=20 * MS, block_calls=4, drop=1, settle_ns=0, warmup_max=8, max_duration_ns=10**12
)


class Session:
    """Each call takes `cost_ns` on the test's clock and notes which sample it was fed."""

    raw = True
    inputs = outputs = [{"name": "x", "shape": [None, 1], "dtype": "int64"}]  # noqa: RUF012

    def __init__(self, cost_ns: int) -> None:
        self.now = 1_000
        self.cost_ns = cost_ns
        self.fed: list[int] = []
        self.gc_was_on = False
        self.fails = False

    def read_clock(self) -> int:
        return self.now

    def prepare(self, feeds: dict[str, Raw]) -> Any:
        sample = struct.unpack("<q", feeds["x"].data)[0]

        def invoke() -> None:
            if self.fails:
                raise ValueError("bad node")
            self.fed.append(sample)
            self.gc_was_on |= gc.isenabled()
            self.now += self.cost_ns

        return invoke


def made(monkeypatch: pytest.MonkeyPatch, cost_ns: int = 3 * MS, samples: int = 5) -> Any:
    session = Session(cost_ns)
    monkeypatch.setattr(timing, "_now_ns", session.read_clock)
    monkeypatch.setattr(arms, "settle", lambda: None)
    loaded = model.Model(session, {})
    data = struct.pack(f"<{samples}q", *range(samples))
    entries, payload = pack_tensors([Tensor("x", "int64", (samples, 1), data)])
    loaded.set_inputs(Args("set_inputs", {"arrays": entries}), payload)
    return loaded, session


def arrays(answer: model.Answer) -> dict[str, list[int]]:
    kinds = {"int64": "q", "int32": "i"}
    return {
        t.name: list(memoryview(bytes(t.data)).cast(kinds[t.dtype]))
        for t in unpack_tensors(answer[0]["arrays"], answer[1])
    }


def test_blocks_land_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, session = made(monkeypatch)
    arm = arms.Arm(loaded, PLAN)
    session.fed.clear()
    for pair in range(3):
        session.cost_ns = (pair + 1) * MS
        arm.turn(pair)
    args, payload = arm.finish(3)
    arm.close()
    found = arrays((args, payload))
    assert args["calls"] == 7  # 7 × 3 ms are the first multiple over 20 ms
    assert found["block"] == [0] * 7 + [1] * 7 + [2] * 7
    assert found["latency_ns"] == [MS] * 7 + [2 * MS] * 7 + [3 * MS] * 7
    assert len(found["start_ns"]) == 21
    assert all(b > a for a, b in zip(found["start_ns"], found["start_ns"][1:], strict=False))
    assert args["turns_ns"] == 8 * (1 + 2 + 3) * MS  # the dropped calls too
    # one call before each block is dropped; every block begins with the sample of its number
    assert session.fed == [(pair + i) % 5 for pair in range(3) for i in range(8)]


def test_what_was_measured_past_the_end_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, _ = made(monkeypatch)
    arm = arms.Arm(loaded, PLAN)
    arm.turn(0)
    arm.turn(1)
    found = arrays(arm.finish(1))
    arm.close()
    assert found["block"] == [0] * 7


def test_garbage_collection_is_off_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, session = made(monkeypatch)
    arm = arms.Arm(loaded, PLAN)
    assert not gc.isenabled()
    arm.turn(0)
    assert not session.gc_was_on
    arm.close()
    arm.close()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_model_that_fails_is_rejected_and_nothing_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, session = made(monkeypatch)
    session.fails = True
    with pytest.raises(Fault, match="bad node") as caught:
        arms.Arm(loaded, PLAN)
    assert caught.value.kind == "model_rejected"
    assert gc.isenabled()


def test_it_is_busy_before_the_block_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, session = made(monkeypatch)
    monkeypatch.setattr(timing, "_now_ns", lambda: setattr(session, "now", session.now + 1) or session.now)
    arm = arms.Arm(loaded, PLAN._replace(settle_ns=1000))
    before = session.now
    arm.turn(0)
    arm.close()
    assert session.now - before > 1000 + 8 * 3 * MS


@pytest.mark.parametrize(
    ("median_ns", "expected"),
    [(3 * MS, 7), (20 * MS, 4), (5 * MS, 4), (10**9, 4), (1, 2_000_000), (0, 2_000_000), (57_700, 347)],
)
def test_a_block_lasts_20_ms_or_four_calls(median_ns: int, expected: int) -> None:
    assert arms.size_block(PLAN._replace(pairs=2), median_ns)[0] == expected


@given(
    median_ns=st.integers(0, 10**11),
    pairs=st.integers(2, 10**6),
    block_ns=st.integers(1, 10**10),
    max_duration_ns=st.integers(1, 10**13),
)
def test_room_is_bounded_and_never_under_two_blocks(
    median_ns: int, pairs: int, block_ns: int, max_duration_ns: int
) -> None:
    plan = PLAN._replace(pairs=pairs, block_ns=block_ns, max_duration_ns=max_duration_ns)
    calls, room = arms.size_block(plan, median_ns)
    assert calls >= 4
    assert 2 <= room <= pairs
    assert calls * room <= timing.MAX_ITERATIONS
    # what fits the time, at warm-up's pace, fits the arrays
    likely = max_duration_ns // (2 * calls * max(1, median_ns)) + 2
    assert room >= min(pairs, likely, timing.MAX_ITERATIONS // calls)
