"""Which calibration answers, and what an answer must say of itself."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from harness.errors import DataError
from harness.estimate import estimator
from harness.estimate.calibration import Calibration


@pytest.fixture(scope="module")
def known() -> list[Calibration]:
    return estimator.shipped()


@pytest.fixture(scope="module")
def network(known):
    (rpi4,) = [c for c in known if c.device_type == "rpi4"]
    return next(n for n in rpi4.networks if n.name == "mobilenet_v2")


def ask(known, network, **changed):
    asked = {
        "device_type": "rpi4",
        "runtime": "ncnn",
        "precision": "fp32",
        "threads": 1,
        "virtual_ns": network.virtual_ms * 1e6,
        "features": network.features,
        "core": "cortex-a72",
    }
    return estimator.answer(known, **(asked | changed))


def width(answer):
    return answer.estimate.high_ms / answer.estimate.board_ms


def test_a_calibrated_runtime_is_answered_with_its_band_and_its_sources(known, network):
    done = ask(known, network)
    assert done.estimate is not None
    assert done.estimate.low_ms < network.board_ms[1] < done.estimate.high_ms
    assert (done.calibration, done.notes) == ("rpi4-ncnn", ())
    assert done.mean_error_ratio == pytest.approx(0.026, abs=0.002)
    assert "Tencent/ncnn" in done.source
    assert done.age_days(datetime.date.fromisoformat(done.taken_on) + datetime.timedelta(days=30)) == 30


def test_without_counts_one_factor_serves_wider_and_says_so(known, network):
    counted, plain = ask(known, network), ask(known, network, features=None)
    assert width(plain) > width(counted)
    assert "nothing was counted" in plain.notes[0]
    assert plain.estimate.outside == ()


def test_a_runtime_without_a_calibration_borrows_wider_and_says_so(known, network):
    own, borrowed = ask(known, network), ask(known, network, runtime="litert")
    assert borrowed.estimate.board_ms == own.estimate.board_ms
    assert width(borrowed) > 1.15 > width(own)
    assert "borrowed from ncnn" in borrowed.notes[0]


def test_borrowed_threads_may_not_share_the_work_at_all(known, network):
    four, one = (ask(known, network, runtime="litert", threads=t) for t in (4, 1))
    assert four.estimate.board_ms < one.estimate.board_ms
    assert four.estimate.high_ms == one.estimate.high_ms
    assert "how well litert shares work" in four.notes[1]
    own_four, own_one = (ask(known, network, threads=t) for t in (4, 1))
    assert own_four.estimate.high_ms < own_one.estimate.low_ms  # how well its own runtime does is known


def test_a_calibration_of_the_runtime_itself_comes_first(known, network):
    own = dataclasses.replace(known[0], name="mine", runtime="litert")
    assert ask([*known, own], network, runtime="litert").calibration == "mine"


def wide_own(known, *, centre=1.0, spread=7.0, runtime="litert"):
    """Return a calibration of one's own that is `spread` times off, every other network the other way."""
    (rpi4,) = [c for c in known if c.device_type == "rpi4"]
    networks = [n for n in rpi4.networks if n.precision == "fp32"][:8]
    wild = [
        dataclasses.replace(n, board_ms={1: n.board_ms[1] * centre * spread ** (-1) ** number})
        for number, n in enumerate(networks)
    ]
    return dataclasses.replace(rpi4, name="mine", runtime=runtime, networks=tuple(wild))


@pytest.mark.parametrize("runtime", ["litert", "ncnn"])
def test_one_of_ones_own_that_is_too_wide_goes_behind_one_that_is_not_and_both_are_told(
    known, network, runtime
):
    own = wide_own(known, runtime=runtime)
    alone = ask([own], network, runtime=runtime)
    assert alone.estimate.is_wide
    assert alone.calibration == "mine"  # there is no other
    done = ask([own, *known], network, runtime=runtime)
    assert done.estimate == ask(known, network, runtime=runtime).estimate
    assert done.calibration == "rpi4-ncnn"
    said = f"mine isn't used: it says {alone.estimate.board_ms:.3g} ms ("
    assert said in done.notes[-1]
    assert "wider than × or ÷ 3" in done.notes[-1]
    assert not any("no calibration of litert" in note for note in done.notes)


def test_one_that_is_too_wide_and_still_rules_the_other_out_goes_first(known, network):
    own = wide_own(known, centre=1000.0, spread=2.5)
    done = ask([own, *known], network, runtime="litert")
    assert done.estimate.is_wide
    assert done.calibration == "mine"
    borrowed = ask(known, network, runtime="litert").estimate
    assert borrowed.board_ms < done.estimate.low_ms
    assert f"rpi4-ncnn isn't used: it says {borrowed.board_ms:.3g} ms (" in done.notes[-1]
    assert "outside this band" in done.notes[-1]


def test_one_that_gives_no_time_at_all_leaves_it_to_the_next_and_says_so(known, network):
    (rpi4,) = [c for c in known if c.device_type == "rpi4"]
    nothing = {"missed_by_loads": (0, 0), "missed_by_stores": (0, 0), "stored_bytes": 0}
    of_cycles = [
        dataclasses.replace(n, features=dataclasses.replace(n.features, **nothing))
        for n in rpi4.networks
        if n.precision == "fp32"
    ]
    own = dataclasses.replace(rpi4, name="mine", runtime="litert", networks=tuple(of_cycles))
    idle = dataclasses.replace(network.features, cycles=0)
    done = ask([own, *known], network, features=idle, runtime="litert")
    assert done.calibration == "rpi4-ncnn"
    assert "calibration mine: it gives no time at all for what was counted" in done.notes[-1]


def test_counts_for_one_core_are_never_put_into_the_fit_of_another(known, network):
    (rpi4,) = [c for c in known if c.device_type == "rpi4"]
    other = dataclasses.replace(rpi4, name="other core", core="cortex-a76")
    assert ask([other, *known], network).calibration == rpi4.name
    done = ask([other], network)
    assert done.estimate is None
    assert "for the cortex-a72" in done.problem
    assert "harness devices fit" in done.problem
    assert ask([other], network, features=None).calibration == "other core"  # its clock knows no core


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"device_type": "jetson"}, "no calibration of device type jetson.*harness devices fit"),
        ({"precision": "fp16"}, "no calibration of rpi4 for fp16 on 1 thread; there are: fp32 on 1"),
        ({"threads": 2}, "on 2 threads"),
    ],
)
def test_no_calibration_is_no_estimate_but_a_reason(known, network, changed, says):
    import re

    done = ask(known, network, **changed)
    assert done.estimate is None
    assert re.search(says, done.problem)


def test_few_networks_are_marked(known, network):
    assert ask(known, network, precision="int8").notes[0] == "only 7 networks"


def test_one_family_of_code_can_t_be_borrowed_from(known, network):
    (rpi4,) = [c for c in known if c.device_type == "rpi4"]
    one = dataclasses.replace(rpi4, networks=tuple(n for n in rpi4.networks if n.precision == "fp32"))
    with pytest.raises(DataError, match="no two families"):
        estimator.family_spread(one, 1)
    assert "no two families" in ask([one], network, runtime="litert").problem


def test_one_that_can_t_be_borrowed_from_stands_in_nobody_s_way(known, network):
    (rpi4,) = [c for c in known if c.device_type == "rpi4"]
    fp32 = tuple(n for n in rpi4.networks if n.precision == "fp32")
    own = dataclasses.replace(rpi4, name="own", runtime="onnxruntime", networks=fp32)
    answer = ask([own, *known], network, runtime="litert")
    assert answer.calibration == rpi4.name
    assert answer.estimate is not None
    assert ask([own, *known], network, runtime="onnxruntime").calibration == "own"


def test_what_lies_outside_the_range_is_told_in_words(known, network):
    tiny = dataclasses.replace(
        network.features, cycles=1_000_000, missed_by_loads=(0, 0), missed_by_stores=(0, 0)
    )
    assert ask(known, network, features=tiny).notes[:2] == (
        "length outside the calibration's range",
        "memory lines per cycle outside the calibration's range",
    )
    assert (
        ask(known, network, features=None, virtual_ns=1e6).notes[-1]
        == "length outside the calibration's range"
    )
