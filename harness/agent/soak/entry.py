"""The runner's process: its output goes to the log, and a soak that has ended leaves no boot hook."""

from __future__ import annotations

import os
import signal
import sys

from ..faults import Fault
from .folder import SoakFolder
from .hooks import BootHooks


def run_entry(home: str, soak_id: str, location: str) -> int:
    """Run a soak until it ends; return the runner's exit code."""
    folder = SoakFolder(home, soak_id)
    try:
        folder.spec()
    except Fault as fault:
        sys.stderr.write("agent: %s\n" % fault)
        if fault.kind == "not_found":
            BootHooks().remove(soak_id)  # its folder was removed by hand
        return 5
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whoever started it may go
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    folder.keep_log_small()
    from .runner import run_soak

    code = run_soak(home, soak_id, location)
    if folder.end().ended is not None:
        BootHooks().remove(soak_id)
    return code
