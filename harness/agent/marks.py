"""Marks in the code that runs: hints that mean nothing to a processor, seen by an emulator's counting plugin.

A child executes them around one call. On a real board they do nothing, and nothing reads them.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import time
from typing import Any, Callable, Dict

from .faults import Fault
from .model import Calls

# harness/emulation/plugins/count.c gives them their meaning
ARM, BEGIN, END, DISARM = 96, 97, 98, 99
# A64: HINT #n is 0xD503201F with n in bits 5 to 11; RET is 0xD65F03C0 (Arm ARM DDI 0487, C6.2)
_HINT, _RETURN = 0xD503201F, 0xD65F03C0
# For what passed the request on to end its work. 12 of 36 counts of a short model had 4 million instructions
# of another program, with a pause none (measured, emulated Cortex-A72); most of that, if not all, was the
# busy loop, which stands still meanwhile since (busyloop.py)
PAUSE_S = 0.05
WARM_CALLS = 2  # chosen: a runtime allocates in its first call, some in the second
CALLS_BEFORE = 1  # with the plugin armed: what the caches hold when counting begins

Mark = Callable[[], None]


def counted_call(calls: Calls) -> Dict[str, Any]:
    """Make some calls, the last of them between the marks; return how many were counted.

    Raises Fault `unsupported` on another machine than aarch64, or where memory can't be executed.
    """
    marks = {number: make_mark(number) for number in (ARM, BEGIN, END, DISARM)}
    time.sleep(PAUSE_S)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(WARM_CALLS):
            _next(calls)()
        marks[ARM]()
        for _ in range(CALLS_BEFORE):
            _next(calls)()
        invoke = _next(calls)
        marks[BEGIN]()
        invoke()
        marks[END]()
        marks[DISARM]()
    finally:
        if collecting:
            gc.enable()
    return {"counted": 1}


def _next(calls: Calls) -> Callable[[], Any]:
    invoke: Callable[[], Any] = calls.invoke if calls.next_call is None else calls.next_call()
    return invoke


def encode(number: int) -> bytes:
    """Return the code of a function that executes HINT #`number` and returns."""
    return (_HINT | number << 5).to_bytes(4, "little") + _RETURN.to_bytes(4, "little")


def make_mark(number: int) -> Mark:
    """Return a function that executes HINT #`number`."""
    machine = os.uname().machine
    if machine != "aarch64":
        raise Fault("unsupported", "count: marks are aarch64 code, this machine is %s" % machine)
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError as error:
        raise Fault("unsupported", "count: no memory that can be executed: %s" % error) from None
    page.write(encode(number))
    function = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))

    def mark(_page: Any = page) -> None:  # the page stays as long as the function
        function()

    return mark
