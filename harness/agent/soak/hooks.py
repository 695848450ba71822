"""How a soak's runner comes back after a reboot: a line of the user's crontab, or of ~/.hil-boot.

A line ends with a comment that names its soak, which is how it is found again. ~/.hil-boot is what the
emulated board's init runs (docs/emulated-device.md); elsewhere a file of that name would do nothing, so none
is written.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import subprocess
from typing import List, Optional

from ..store import write_whole

BOOT_SCRIPT = "/usr/lib/hil/boot"  # where it is, ~/.hil-boot is run at boot
_TIMEOUT_S = 20.0


def hook_path() -> str:
    """Return ~/.hil-boot of this process's user, whatever HOME says."""
    return os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".hil-boot")


class BootHooks:
    """The hooks of this user. `hook_file` and `boot_script` differ in tests."""

    def __init__(self, hook_file: Optional[str] = None, boot_script: str = BOOT_SCRIPT) -> None:
        self._hook_file = hook_file or hook_path()
        self._boot_script = boot_script

    def install(self, soak_id: str, argv: List[str]) -> Optional[str]:
        """Have `argv` started at boot; return how: "crontab", "hil-boot", or None where nothing can."""
        command = " ".join(shlex.quote(word) for word in argv)
        lines = _read_crontab()
        if lines is not None:
            # crontab(5): an unescaped % is a newline
            line = "@reboot exec %s </dev/null >/dev/null 2>&1" % command.replace("%", r"\%")
            if _write_crontab(_without(lines, soak_id) + [line + _mark(soak_id)]):
                return "crontab"
        if os.path.exists(self._boot_script):
            line = "setsid %s </dev/null >/dev/null 2>&1 &" % command
            self._write(_without(self._read(), soak_id) + [line + _mark(soak_id)])
            return "hil-boot"
        return None

    def remove(self, soak_id: str) -> None:
        """Remove a soak's hook wherever there is one. Raises OSError."""
        lines = _read_crontab()
        rest = _without(lines or [], soak_id)
        if rest != (lines or []) and not _write_crontab(rest):
            raise OSError("the line of soak %s can't be removed from the crontab" % soak_id)
        lines = self._read()
        if _without(lines, soak_id) != lines:
            self._write(_without(lines, soak_id))

    def _read(self) -> List[str]:
        try:
            with open(self._hook_file, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def _write(self, lines: List[str]) -> None:
        if lines:
            write_whole(self._hook_file, "".join(line + "\n" for line in lines).encode("utf-8"))
        else:
            with contextlib.suppress(FileNotFoundError):  # the runner may remove it as well
                os.unlink(self._hook_file)


def _mark(soak_id: str) -> str:
    return " # hil-soak " + soak_id


def _without(lines: List[str], soak_id: str) -> List[str]:
    return [line for line in lines if not line.endswith(_mark(soak_id))]


def _read_crontab() -> Optional[List[str]]:
    """Return the lines of the user's crontab, None where there is no `crontab` or it refuses."""
    try:
        done = subprocess.run(
            ["crontab", "-l"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace").splitlines()
    return [] if b"no crontab" in done.stderr else None  # the words of cron, cronie and busybox


def _write_crontab(lines: List[str]) -> bool:
    """Replace the user's crontab; return whether that was allowed."""
    text = "".join(line + "\n" for line in lines)
    try:
        done = subprocess.run(
            ["crontab", "-"], input=text.encode("utf-8"), capture_output=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
