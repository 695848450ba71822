"""Who is asked for what, and when, in a duet: the order of events, without processes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.args import Args
from harness.agent.duet import Duet, DuetPlan, read_plan
from harness.agent.faults import Fault
from harness.agent.wire import Frame, Tensor, WireFault, pack_tensors, unpack_tensors

PLAN = read_plan(Args("duet", {"children": ["a", "b"], "pairs": 3, "seed": 7, "deadline_s": 9.0}))
Sent = tuple[str, str, dict[str, Any]]


def result(op: str, **args: Any) -> Frame:
    return Frame(1, "result", op, args)


def error(op: str, kind: str = "model_rejected", message: str = "bad node") -> Frame:
    return Frame(1, "error", op, {"kind": kind, "message": message, "details": {}})


class Stage:
    """A duet with two children that answer as they should, each block taking `block_ns`."""

    def __init__(self, plan: DuetPlan = PLAN, *, room: int = 1000, block_ns: int = 10) -> None:
        self.sent: list[Sent] = []
        self.now_ns = 0
        self.room = room
        self.block_ns = block_ns
        self.duet = Duet(plan, lambda *message: self.sent.append(message), lambda: self.now_ns)

    @property
    def asked(self) -> Sent:
        return self.sent[-1]

    def answer(self) -> None:
        child, op, args = self.asked
        if op == "duet_start":
            self.duet.answered(child, result(op, room_pairs=self.room))
        elif op == "duet_block":
            self.now_ns += self.block_ns
            self.duet.answered(child, result(op))
        else:
            data = [Tensor("latency_ns", "int64", (1,), (args["pairs"]).to_bytes(8, "little"))]
            entries, payload = pack_tensors(data)
            self.duet.answered(child, Frame(1, "result", op, {"arrays": entries, "calls": 4}, payload))

    def play(self, until: Callable[[], bool] = lambda: False) -> None:
        if not self.sent:
            self.duet.start()
        while not self.duet.done and not until():
            self.answer()

    def blocks(self) -> Iterator[tuple[str, int]]:
        return ((child, args["pair"]) for child, op, args in self.sent if op == "duet_block")


def test_one_is_ready_before_the_other_begins() -> None:
    stage = Stage()
    stage.duet.start()
    assert [(child, op) for child, op, _ in stage.sent] == [("a", "duet_start")]
    stage.answer()
    assert stage.asked[:2] == ("b", "duet_start")
    stage.answer()
    assert stage.asked[1:] == ("duet_block", {"pair": 0})


def test_what_an_arm_is_told() -> None:
    stage = Stage()
    stage.duet.start()
    assert stage.asked[2] == {
        "pairs": 3,
        "block_ns": 20_000_000,
        "block_calls": 4,
        "drop": 1,
        "settle_ns": 0,
        "warmup_max": 100,
        "max_duration_ns": 600 * 10**9,
    }


def test_the_answer_holds_both_arms_and_the_order() -> None:
    stage = Stage()
    stage.play()
    args, payload = stage.duet.result()
    arrays = {t.name: bytes(t.data) for t in unpack_tensors(args["arrays"], payload)}
    assert sorted(arrays) == ["latency_ns_0", "latency_ns_1", "order"]
    assert arrays["latency_ns_0"] == arrays["latency_ns_1"] == (3).to_bytes(8, "little")
    assert [arm["child"] for arm in args["arms"]] == ["a", "b"]
    assert (args["pairs_got"], args["ended_by"], args["seed"], args["elapsed_ns"]) == (3, "pairs", 7, 60)


@given(
    pairs=st.integers(2, 40),
    seed=st.integers(0, 1 << 53),
    room=st.integers(2, 50),
    block_ns=st.integers(1, 100),
    max_duration_ns=st.integers(1, 3000),
)
def test_pairs_are_whole_and_their_order_follows_the_seed(
    pairs: int, seed: int, room: int, block_ns: int, max_duration_ns: int
) -> None:
    plan = PLAN._replace(pairs=pairs, seed=seed, max_duration_ns=max_duration_ns)
    stage = Stage(plan, room=room, block_ns=block_ns)
    stage.play()
    args, payload = stage.duet.result()
    order = next(bytes(t.data) for t in unpack_tensors(args["arrays"], payload) if t.name == "order")
    draw = random.Random(seed)
    assert list(order) == [draw.getrandbits(1) for _ in order]
    firsts = ["ab"[arm] for arm in order]
    assert list(stage.blocks()) == [
        block
        for pair, first in enumerate(firsts)
        for block in ((first, pair), ("b" if first == "a" else "a", pair))
    ]
    timely = max(2, -(-max_duration_ns // (2 * block_ns)))  # pairs begun before the time was up
    assert args["pairs_got"] == len(order) == min(pairs, room, timely)
    if len(order) < min(pairs, room):
        assert args["ended_by"] == "max_duration"
    elif 2 * block_ns * len(order) < max_duration_ns:
        assert args["ended_by"] == ("pairs" if pairs <= room else "capacity")
    assert [args["pairs"] for _, op, args in stage.sent if op == "duet_end"] == [len(order)] * 2


@pytest.mark.parametrize("op", ["duet_start", "duet_block", "duet_end"])
@pytest.mark.parametrize("child", ["a", "b"])
@pytest.mark.parametrize("how", ["error", "lost"])
def test_a_failure_releases_the_other_child_first(op: str, child: str, how: str) -> None:
    stage = Stage()
    stage.play(until=lambda: stage.sent != [] and stage.asked[:2] == (child, op))
    others = {name for name, said, _ in stage.sent if said == "duet_start"} - {child}
    if how == "error":
        stage.duet.answered(child, error(op))
    else:
        stage.duet.lost(child, Fault("child_died", "it died"))
    left = op == "duet_end" and child == "b"  # the other one had ended its part already
    if others and not left:
        assert not stage.duet.done
        assert stage.asked == (others.pop(), "duet_end", {"pairs": 0})
        stage.answer()
    assert stage.duet.done
    assert stage.duet.working is None
    assert stage.duet.fault is not None
    expected = f"child `{child}`: bad node" if how == "error" else "it died"
    assert stage.duet.fault.message == expected


def test_a_child_lost_while_it_waits_lets_the_other_end_its_block() -> None:
    stage = Stage()
    stage.play(until=lambda: stage.sent != [] and stage.asked[1] == "duet_block")
    working = stage.asked[0]
    waiting = "b" if working == "a" else "a"
    stage.duet.lost(waiting, Fault("no_such_child", "was reaped"))
    assert not stage.duet.done
    assert stage.duet.working == working
    stage.answer()
    assert stage.asked == (working, "duet_end", {"pairs": 0})
    stage.answer()
    assert stage.duet.done


def test_the_first_failure_is_the_one_told() -> None:
    stage = Stage()
    stage.play(until=lambda: stage.sent != [] and stage.asked[:2] == ("b", "duet_block"))
    stage.duet.lost("b", Fault("deadline", "took too long"))
    stage.duet.lost("a", Fault("child_died", "and then this"))
    assert stage.duet.done
    assert stage.duet.fault is not None
    assert stage.duet.fault.message == "took too long"


def test_an_answer_out_of_turn_is_a_broken_wire() -> None:
    stage = Stage()
    stage.duet.start()
    with pytest.raises(WireFault, match="`b` out of its turn"):
        stage.duet.answered("b", result("duet_start", room_pairs=9))
    with pytest.raises(WireFault, match="room for None pairs"):
        stage.duet.answered("a", result("duet_start"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"children": ["a", "a"]}, "`a` can't take turns with itself"),
        ({"children": ["a"]}, "expected two names"),
        ({"children": [1, 2]}, "expected two names"),
        ({"children": "ab"}, "`children` is 'ab', expected a list"),
        ({"pairs": 1}, "`pairs` is 1, expected a whole number from 2"),
        ({"seed": -1}, "`seed` is -1"),
        ({"block_calls": 0}, "`block_calls` is 0"),
        ({"drop": -1}, "`drop` is -1"),
        ({"warmup_max": 0}, "`warmup_max` is 0"),
        ({"deadline_s": None}, "`deadline_s` is missing"),
        ({"pear": 3}, "`pear` is unknown"),
    ],
)
def test_what_is_refused(args: dict[str, Any], message: str) -> None:
    given = {"children": ["a", "b"], "pairs": 3, "seed": 7, "deadline_s": 9.0, **args}
    with pytest.raises(Fault, match=message) as caught:
        read_plan(Args("duet", given))
    assert caught.value.kind == "bad_request"
