"""Calls on a schedule that doesn't wait for them: an open loop. A late call starts at once, none is left out.

Its latency counts from when it was due, which the host works out: so a slow call shows in those behind it
(coordinated omission is avoided).
"""

from __future__ import annotations

import time
from array import array
from typing import Any, Dict, Optional, Tuple

from . import timing
from .args import Args
from .faults import Fault
from .model import Answer, Model, packed, settle
from .wire import Tensor, WireFault, unpack_tensors

# Before the first call is due: time to leave the busy loop before it, and for a wait of its own (chosen)
FIRST_DUE_NS = 5000000
# Chosen: above the 50 µs timer slack (prctl(2)) and a wake-up's own time. On an only core a whole wait is
# better spent busy: see SETTLE_NS in model.py. Seen on the emulated board: 17.7 ms became 21.7 after a sleep.
SPIN_NS = 200000
NEVER_NS = 1 << 53
_WHY_NOT_COUNTED = "waits of a paced run are busy loops, which would be counted"


def paced_calls(
    next_call: Optional[timing.NextCall],
    invoke: timing.Invoke,
    offset: "array[int]",
    base_ns: int,
    start: "array[int]",
    end: "array[int]",
    spin_ns: int,
    max_behind_ns: int,
) -> int:
    """Make one call at each `base_ns` + `offset`, or as soon as the one before has ended; return how many.

    Fills `start` and `end`, clock readings. The last `spin_ns` of a wait are a busy loop. It stops early when
    a call's start would lag its due time by more than `max_behind_ns`.
    """
    now_ns, sleep = timing._now_ns, time.sleep
    for i in range(len(offset)):
        if next_call is not None:
            invoke = next_call()
        due_ns = base_ns + offset[i]
        wait_ns = due_ns - now_ns()
        if wait_ns > spin_ns:
            sleep((wait_ns - spin_ns) / 1e9)
        begin = now_ns()
        while begin < due_ns:
            begin = now_ns()
        if begin - due_ns > max_behind_ns:
            return i
        invoke()
        end[i] = now_ns()
        start[i] = begin
    return len(offset)


def paced(model: Model, args: Args, payload: Any) -> Answer:
    """Answer the op `paced`: warm up, then call on the schedule that came with the request."""
    warmup_max = args.integer("warmup_max", 0, 0, timing.MAX_ITERATIONS)
    spin_ns = args.integer("spin_ns", SPIN_NS)
    max_behind_ns = args.integer("max_behind_ns", NEVER_NS, 1)
    offsets = read_offsets(args.items("arrays"), payload)
    args.done()
    calls = model.calls("paced")
    with timing.quiet_heap():
        settle()
        warmup = model.refusable(
            lambda: timing.warm_up(calls.next_call, calls.invoke, warmup_max, timing.NEVER_NS)
        )
        start, end = timing.zeros(len(offsets)), timing.zeros(len(offsets))
        window = timing.Window()
        base_ns = timing._now_ns() + FIRST_DUE_NS
        got = model.refusable(
            lambda: paced_calls(
                calls.next_call, calls.invoke, offsets, base_ns, start, end, spin_ns, max_behind_ns
            )
        )
        report = window.close()
    report.update(warmup.report())
    report.update(
        iterations_requested=len(offsets),
        iterations_got=got,
        ended_by="schedule" if got == len(offsets) else "overload",
        instructions=None,
        not_counted=_WHY_NOT_COUNTED,
    )
    due = array("q", [base_ns + offset for offset in offsets[:got]])
    arrays = {"due_ns": due, "start_ns": start, "end_ns": end}
    return packed([int64(name, values[:got]) for name, values in arrays.items()], report)


def int64(name: str, values: "array[int]") -> Tensor:
    """Return an array as it travels."""
    return Tensor(name, "int64", (len(values),), memoryview(values).cast("B"))


def read_offsets(entries: Any, payload: Any) -> "array[int]":
    """Return `offset_ns` as it came with the request. Raises `bad_request`."""
    try:
        tensors = unpack_tensors(entries, payload)
    except WireFault as error:
        raise Fault("bad_request", "paced: %s" % error) from None
    found: Dict[str, Tuple[str, Tuple[int, ...]]] = {t.name: (t.dtype, t.shape) for t in tensors}
    if list(found) != ["offset_ns"] or found["offset_ns"][0] != "int64" or len(found["offset_ns"][1]) != 1:
        raise Fault("bad_request", "paced: the arrays are %s, expected `offset_ns` int64 (n,)" % (found,))
    offsets = array("q", bytes(tensors[0].data))
    if not 1 <= len(offsets) <= timing.MAX_ITERATIONS:
        text = "paced: `offset_ns` holds %d times, expected 1 to %d"
        raise Fault("bad_request", text % (len(offsets), timing.MAX_ITERATIONS))
    if offsets[0] < 0 or offsets[-1] > NEVER_NS or any(b < a for a, b in zip(offsets, offsets[1:])):
        raise Fault("bad_request", "paced: `offset_ns` must ascend from 0 or more")
    return offsets
