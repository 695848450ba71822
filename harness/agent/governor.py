"""The governor of the CPUs' frequency while an agent lives (kernel: admin-guide/pm/cpufreq)."""

from __future__ import annotations

import os
from typing import Any, Dict

from .faults import Fault
from .guard import Settings
from .parsing import Unreadable
from .probes import Probes


def set_governor(settings: Settings, probes: Probes, wanted: str) -> Dict[str, Any]:
    """Give every CPU the governor `wanted` until the agent ends; return by cpu what it was and what it is.

    Raises `unsupported`, with the reason, where that can't be done; then nothing was changed.
    """
    try:
        files = probes.governor_files()
        was = probes.governors()
    except Unreadable as error:
        raise Fault(
            "unsupported", "the frequency of these CPUs has no governor: %s (a virtual machine?)" % error
        ) from None
    try:
        known = probes.available_governors()
    except Unreadable:
        known = []  # then the kernel says
    if known and wanted not in known:
        raise Fault("unsupported", "no governor `%s` here; there are: %s" % (wanted, ", ".join(known)))
    try:
        settings.write({path: wanted for path in files})
        now = probes.governors()
    except PermissionError as error:
        raise Fault(
            "unsupported",
            "user %d may not set the governor (%s). Allow it at each boot, for instance by a line"
            " `z %s 0664 root GROUP` in /etc/tmpfiles.d/." % (os.geteuid(), error, files[0]),
        ) from None
    except (OSError, Unreadable) as error:
        raise Fault("unsupported", "the governor can't be set: %s" % error) from None
    return {"was": was, "is": now}
