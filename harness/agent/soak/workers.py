"""One child of a stream: its way through `start`, `load`, `set_inputs`, `soak_begin`, then slice by slice."""

from __future__ import annotations

import struct
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple

from ..samples import count_items
from ..wire import ITEM_BYTES, Frame, Tensor, pack_tensors
from .spec import Variant

S = 10**9
# Chosen: a board's slowest import or load; a hung call is told from a slow one by far more than it ever took
SETUP_NS = 900 * S
HANG_NS, HANG_CALLS = 120 * S, 10


class Slice(NamedTuple):
    """A slice that the child has been sent, by the id of its request."""

    id: int
    until_ns: int


class Worker:
    """A child and what it has been asked. `stage` is the request that is open, or "ready": loaded; "soak"."""

    def __init__(self, link: Any, variant: Variant, now_ns: int) -> None:
        self.link = link
        self.variant = variant
        self.stage = "start"
        self.due_ns: Optional[int] = now_ns + SETUP_NS  # of the answer to it
        self.slices: Deque[Slice] = deque()
        self.killed = False

    @property
    def serves(self) -> bool:
        return self.stage == "soak"

    @property
    def begins(self) -> bool:
        """Whether it was asked to serve: its answer tells which calls it takes, of those due already too."""
        return self.stage == "soak_begin"

    def next_step(self, frame: Frame, now_ns: int) -> None:
        """Go on after the answer to a step of the way up; afterwards it may be "ready" or "soak"."""
        variant = self.variant
        if self.stage == "start":
            args = {"model_path": variant.model_path, "options": variant.options, "threads": variant.threads}
            self._ask("load", args, now_ns)
        elif self.stage == "load":
            if isinstance(frame.args.get("measured_pid"), int):
                self.link.set_measured_pid(frame.args["measured_pid"])
            args, payload = {"npz_path": variant.npz_path}, b""
            if not variant.npz_path:
                args, payload = zeros(frame.args["signature"]["inputs"])
            self._ask("set_inputs", args, now_ns, payload)
        elif self.stage == "set_inputs":
            self.stage, self.due_ns = "ready", None
        elif self.stage == "soak_begin":
            self.stage, self.due_ns = "soak", None

    def begin(self, cycle: Dict[str, Any], epoch_ns: int, after_ns: Optional[int], now_ns: int) -> None:
        """Have a loaded child take the calls that are due after `after_ns`; None: from now on."""
        args: Dict[str, Any] = {"epoch_ns": epoch_ns, "cycle": dict(cycle)}
        if after_ns is not None:
            args["after_ns"] = after_ns
        payload = b""
        if cycle.get("kind") == "trace":
            offsets = args["cycle"].pop("offsets_ns")
            data = struct.pack("<%dq" % len(offsets), *offsets)
            tensor = Tensor("offsets_ns", "int64", (len(offsets),), data)
            args["arrays"], payload = pack_tensors([tensor])
        self._ask("soak_begin", args, now_ns, payload)

    def _ask(self, op: str, args: Dict[str, Any], now_ns: int, payload: bytes = b"") -> None:
        self.stage, self.due_ns = op, now_ns + SETUP_NS
        self.link.send(op, args, payload)

    def send_slice(self, until_ns: int, longest_ns: int) -> None:
        """Send a slice; `longest_ns` is the longest call that was seen."""
        self.slices.append(Slice(self.link.send("soak", {"until_ns": until_ns}), until_ns))
        self.expect(longest_ns)

    def expect(self, longest_ns: int) -> None:
        """Set when the oldest slice's answer is overdue."""
        patience_ns = HANG_NS + HANG_CALLS * longest_ns
        self.due_ns = self.slices[0].until_ns + patience_ns if self.slices else None

    def end_if_late(self, now_ns: int) -> None:
        """Kill a child whose answer is overdue: nothing is known of its state."""
        if self.killed or self.due_ns is None or now_ns < self.due_ns:
            return
        self.killed, self.due_ns = True, None
        what = "a slice" if self.serves else "`%s`" % self.stage
        late_ns = now_ns - self.slices[0].until_ns if self.slices else SETUP_NS
        self.link.kill("no answer to %s for %.0f s" % (what, late_ns / S))


def zeros(inputs: List[Dict[str, Any]]) -> Tuple[Dict[str, Any], bytes]:
    """Return args and payload of a `set_inputs` with one sample of zeros, open sizes being 1."""
    tensors = []
    for spec in inputs:
        shape = tuple(size or 1 for size in spec["shape"]) or (1,)
        data = bytes(count_items(shape) * ITEM_BYTES[spec["dtype"]])
        tensors.append(Tensor(spec["name"], spec["dtype"], shape, data))
    entries, payload = pack_tensors(tensors)
    return {"arrays": entries}, payload
