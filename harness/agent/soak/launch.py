"""Starting a soak's runner so that nothing ties it to who started it.

A shell in a session of its own puts it into the background and ends, so it is a child of init, in a process
group that nobody knows; its stdin is /dev/null, its output the log. Where the user's systemd outlives a
logout (lingering), it runs in a scope of that: a login's own scope may be ended with the login.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from typing import Dict, List

from ..faults import Fault
from .folder import SoakFolder

START_TIMEOUT_S = 30.0  # chosen: Python starts in under 2 s on a slow board
_SHELL_TIMEOUT_S = 30.0  # it only forks
_LINGER = "/var/lib/systemd/linger"
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "HIL_AGENT_SENSORS_ROOT")
# $0 is the log; the redirections leave the background process nothing of ours
_IN_BACKGROUND = '"$@" </dev/null >>"$0" 2>&1 & echo $!'


def runner_argv(python: str, agent: str, home: str, soak_id: str) -> List[str]:
    """Return the command that runs a soak until it ends. `agent` is the archive or its unpacked folder."""
    return [python, "-I", "-S", agent, "soak", "--home", home, "--id", soak_id]


def archive_of(location: str) -> str:
    """Return the archive that `location` was unpacked from, where it is there: it can unpack itself again."""
    archive = location[: -len(".d")]
    return archive if location.endswith(".pyz.d") and os.path.isfile(archive) else location


def start_runner(folder: SoakFolder, location: str) -> int:
    """Start a runner; return its pid when it holds the soak's lock. Raises `internal` with the log's end."""
    argv = runner_argv(sys.executable, location, folder.home, folder.id)
    scope = find_scope()
    if scope:
        try:
            return _start(folder, scope + argv)
        except Fault as fault:
            sys.stderr.write("agent: no scope of systemd's for soak %s: %s\n" % (folder.id, fault))
    return _start(folder, argv)


def find_scope(linger: str = _LINGER) -> List[str]:
    """Return the command that runs another in a scope of the user's systemd, empty where that ends early."""
    user = pwd.getpwuid(os.getuid()).pw_name
    if not os.path.exists(os.path.join(linger, user)):
        return []
    argv = ["systemctl", "--user", "show", "--property=Version"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return ["systemd-run", "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]


def _start(folder: SoakFolder, argv: List[str]) -> int:
    pid, due_s = _spawn(folder, argv), time.monotonic() + START_TIMEOUT_S
    while True:
        ended = not os.path.exists("/proc/%d" % pid)  # looked at first: it may take the lock after
        running = folder.living_runner()
        if running is not None:
            return running or pid
        if ended and folder.end().ended is not None:
            return pid  # the soak was over, all but its last record
        if ended or time.monotonic() > due_s:
            how = "ended at once" if ended else "didn't take its lock within %g s" % START_TIMEOUT_S
            said = folder.log_tail() or "(no output)"
            raise Fault("internal", "soak %s: its runner %s: %s" % (folder.id, how, said))
        time.sleep(0.02)


def _spawn(folder: SoakFolder, argv: List[str]) -> int:
    """Return the pid of `argv`, a child of init. Raises `internal`."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", _IN_BACKGROUND, folder.file("runner.log"), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=_environment(),
            timeout=_SHELL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Fault("internal", "soak %s: no shell starts its runner: %s" % (folder.id, error)) from None
    if not done.stdout.strip().isdigit():
        code = done.returncode
        raise Fault(
            "internal", "soak %s: the shell that starts its runner exited with %d" % (folder.id, code)
        )
    return int(done.stdout)


def _environment() -> Dict[str, str]:
    """Return what a runner gets of the environment: that of a login differs from that of a boot hook."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    kept.setdefault("PATH", os.defpath)
    kept.setdefault("XDG_RUNTIME_DIR", "/run/user/%d" % os.getuid())
    return kept
