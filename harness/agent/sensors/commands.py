"""What a command of the board's vendor prints, where no file shows the same.

Under a root (a capture) the answer is the text file that `harness devices capture` made of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Sequence

from ..parsing import Unreadable, read_text

TIMEOUT_S = 5.0
KEPT_S = 0.01  # readings that are taken together share one run of the command


def capture_path(argv: Sequence[str]) -> str:
    """Return where in a capture the output of a command lies."""
    return "/commands/" + "-".join(argv) + ".txt"


class Command:
    """One command, run anew when its last output is older than KEPT_S."""

    def __init__(self, root: str, argv: Sequence[str]) -> None:
        self.root = root
        self.argv = list(argv)
        self._text = ""
        self._until_s = -1.0

    def is_there(self) -> bool:
        """Return whether it could be run here."""
        if self.root:
            return os.path.isfile(self.root + capture_path(self.argv))
        return shutil.which(self.argv[0]) is not None

    def output(self) -> str:
        """Return what it prints. Raises Unreadable when it fails."""
        now_s = time.monotonic()
        if now_s >= self._until_s:
            self._text = self._run()
            self._until_s = time.monotonic() + KEPT_S
        return self._text

    def _run(self) -> str:
        if self.root:
            return read_text(self.root + capture_path(self.argv))
        shown = " ".join(self.argv)
        try:
            done = subprocess.run(self.argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreadable("%s: %s" % (shown, error)) from None
        if done.returncode:
            raise Unreadable("%s exited with %d: %r" % (shown, done.returncode, done.stderr[:120]))
        return done.stdout.decode("utf-8", "replace")
