"""Who collects a soak: one holder at a time, told apart by a token that only grows.

Whoever claims fences out the one before: requests with an older token are refused, so that two collectors
can't acknowledge, stop or remove past each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from typing import Any, Callable, Dict, Iterator, Optional

from ..faults import Fault
from ..probes import free_bytes
from .disk import FULL
from .folder import SoakFolder

_LOCK_WAIT_S = 5.0
_SEEN_EVERY_NS = 5 * 10**9  # how often being seen is written down: a write costs the device a sync
_FILE = "collector.json"


def read_boottime_ns() -> int:
    """Return the time since boot, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Claims:
    """The claims on one soak. `boot_id` is this boot's."""

    def __init__(
        self, folder: SoakFolder, boot_id: str, boottime_ns: Callable[[], int] = read_boottime_ns
    ) -> None:
        self._folder = folder
        self._boot_id = boot_id
        self._boottime_ns = boottime_ns

    def prepare(self) -> None:
        """Make the claim's files while there is room: a first claim may come when the disk is full.

        Nobody holds it then. What is there is left as it is. Raises OSError.
        """
        with self._locked():
            if not os.path.exists(self._folder.file(_FILE)):
                self._folder.write_object(_FILE, {"token": 0, "holder": "", "acked_segment": 0})

    def claim(self, holder: str, take_over: bool, lease_s: float) -> int:
        """Return a token greater than any before.

        Raises `busy` when another holder was seen within `lease_s` and `take_over` is false, `no_space` where
        the disk has no room to note it.
        """
        with self._locked():
            claim = self._folder.read_object(_FILE)
            age_ns = self._seen_age_ns(claim)
            held = bool(claim.get("token"))
            if held and not take_over and claim.get("holder") != holder and age_ns < lease_s * 1e9:
                raise Fault(
                    "busy",
                    "soak %s: %s collects it, seen %.0f s ago (lease_s = %g)"
                    % (self._folder.id, claim.get("holder"), age_ns / 1e9, lease_s),
                    holder=claim.get("holder"),
                    seen_age_ns=age_ns,
                )
            claim = {
                "token": self._next_token(claim),
                "holder": holder,
                "claimed_realtime_ns": time.time_ns(),
                "seen_boottime_ns": self._boottime_ns(),
                "boot_id": self._boot_id,
                "acked_segment": int(claim.get("acked_segment", 0)),
            }
            try:
                self._write(claim)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                raise self._no_room() from error
            return int(claim["token"])

    def check(self, token: int, acked_segment: int = 0) -> None:
        """Note that the holder of `token` was here, and what it has safe. Raises `fenced` for an old one."""
        with self._locked():
            claim = self._folder.read_object(_FILE)
            if not token or claim.get("token") != token:
                raise Fault(
                    "fenced",
                    "soak %s: token %d isn't the present one, %s; %s collects it now"
                    % (self._folder.id, token, claim.get("token"), claim.get("holder") or "nobody"),
                    holder=claim.get("holder"),
                )
            acked = max(acked_segment, int(claim["acked_segment"]))
            seen_lately = self._seen_age_ns(claim) < _SEEN_EVERY_NS and claim["boot_id"] == self._boot_id
            if acked == claim["acked_segment"] and seen_lately:
                return
            now = {
                "acked_segment": acked,
                "seen_boottime_ns": self._boottime_ns(),
                "boot_id": self._boot_id,
            }
            self._note(dict(claim, **now), acked > claim["acked_segment"])

    def _no_room(self) -> Fault:
        """Return what to raise for a claim that the disk has no room to note."""
        return Fault(
            "no_space",
            "soak %s can't be claimed: the disk of %s is full (%d bytes are free, its reserve is used "
            "up), and a block is needed to note who collects. It goes on; what it has written stays there"
            % (self._folder.id, self._folder.home, free_bytes(self._folder.home)),
        )

    def _note(self, claim: Dict[str, Any], acknowledges: bool) -> None:
        """Write down a claim that stays. A full disk refuses nobody: the collector acknowledges again.

        The reserve lends room for what may free some, not for being seen: that would use it up in minutes.
        """
        try:
            if acknowledges:
                self._write(claim)
            else:
                self._folder.write_object(_FILE, claim, lend=False)
        except OSError as error:
            if error.errno not in FULL:
                raise
            sys.stderr.write(
                "agent: soak %s: %s isn't brought up to date: %s\n" % (self._folder.id, _FILE, error)
            )

    def _write(self, claim: Dict[str, Any]) -> None:
        """Write down a claim, on a disk without a free block too. Raises OSError.

        Over the old one then; and where that takes a block as well (btrfs, f2fs), in place of the oldest
        segment that `claim` acknowledges: its collector has it, and only what is written here frees more.
        """
        try:
            self._folder.write_object(_FILE, claim)
            return
        except OSError as error:
            if error.errno not in FULL:
                raise
            full = error
        if self._folder.overwrite_object(_FILE, claim):
            return
        if not self._folder.remove_oldest(claim["acked_segment"]):
            raise full
        self._folder.write_object(_FILE, claim)

    def describe(self) -> Optional[Dict[str, Any]]:
        """Return the present claim with its `seen_age_ns` (null in another boot), None before the first."""
        claim = self._folder.read_object(_FILE)
        if not claim.get("token"):
            return None
        same_boot = claim.get("boot_id") == self._boot_id
        return {
            "token": claim.get("token"),
            "holder": claim.get("holder"),
            "claimed_realtime_ns": claim.get("claimed_realtime_ns"),
            "seen_age_ns": self._seen_age_ns(claim) if same_boot else None,
            "acked_segment": claim.get("acked_segment"),
        }

    def _seen_age_ns(self, claim: Dict[str, Any]) -> int:
        """Return how long ago the holder was seen, at least: since the boot where that was before it."""
        now_ns = self._boottime_ns()
        if claim.get("boot_id") != self._boot_id:
            return now_ns
        return max(0, now_ns - int(claim.get("seen_boottime_ns", 0)))

    def _next_token(self, claim: Dict[str, Any]) -> int:
        before = claim.get("token")
        if isinstance(before, int):
            return before + 1
        # the first; or the file is damaged, and then the seconds since 1970 are more than any count
        return 1 if not os.path.exists(self._folder.file(_FILE)) else int(time.time())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._folder.file("collector.lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            due_s = time.monotonic() + _LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > due_s:
                        raise Fault(
                            "busy", "soak %s: another agent holds collector.lock" % self._folder.id
                        ) from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(descriptor)
