"""Whether and when a stream's child is started again, and which variant the load asks for. No I/O."""

from __future__ import annotations

from collections import deque
from typing import Deque, Optional

from .spec import Switch
from .workers import S

BACK_OFF_NS, MAX_BACK_OFF_NS = 1 * S, 60 * S
STEADY_NS = 600 * S  # so long without a death ends the back-off (chosen)
HOUR_NS = 3600 * S
# faults that don't go away by trying again
FINAL = ("bad_request", "not_found", "unsupported", "runtime_unavailable")


class Restarts:
    """The restarts of one stream. `plan` says when the next one comes, `why_not` why none does."""

    def __init__(self, wanted: bool, max_per_h: int) -> None:
        self._wanted = wanted
        self._max_per_h = max_per_h
        self._last_hour: Deque[int] = deque()
        self._back_off_ns = BACK_OFF_NS
        self.why_not = ""

    @property
    def count(self) -> int:
        """How many there were in the last hour."""
        return len(self._last_hour)

    def plan(self, kind: str, now_ns: int) -> Optional[int]:
        """Return when to start again after a fault of this kind; None: never."""
        if self._last_hour and now_ns - self._last_hour[-1] > STEADY_NS:
            self._back_off_ns = BACK_OFF_NS
        while self._last_hour and now_ns - self._last_hour[0] >= HOUR_NS:
            self._last_hour.popleft()
        if kind in FINAL:
            self.why_not = "another start would end in the same way"
        elif not self._wanted:
            self.why_not = "it isn't started again, as the soak asks"
        elif self.count >= self._max_per_h:
            self.why_not = "all %d restarts of an hour are used up" % self.count
        else:
            self._last_hour.append(now_ns)
            at_ns = now_ns + self._back_off_ns
            self._back_off_ns = min(2 * self._back_off_ns, MAX_BACK_OFF_NS)
            return at_ns
        return None


class Load:
    """Which of `n` variants a stream should have, by the share of each window that its calls took."""

    def __init__(self, switch: Optional[Switch], n: int) -> None:
        self._switch = switch
        self._n = n
        self._calm_windows = 0
        self._from_ns = 0  # no change before
        self.busy_ratio = 0.0  # that asked for the last change

    def hold_until(self, from_ns: int) -> None:
        """Have no change before `from_ns`."""
        self._from_ns = from_ns

    def consider(self, at: int, busy_ratio: float, now_ns: int) -> Optional[int]:
        """Return the variant to change to from `at` after a window; None: none."""
        switch = self._switch
        if switch is None:
            return None
        self._calm_windows = self._calm_windows + 1 if busy_ratio < switch.below else 0
        if now_ns < self._from_ns:
            return None
        if busy_ratio > switch.above and at + 1 < self._n:
            wanted = at + 1
        elif self._calm_windows >= switch.hold_windows and at > 0:
            wanted = at - 1
        else:
            return None
        self._calm_windows, self.busy_ratio = 0, busy_ratio
        return wanted
