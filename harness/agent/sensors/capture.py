"""Copies what a board's sensors' files hold. Runs by itself, as a program on the board's stdin would.

    python3 -I -S capture.py '{"root": "", "files": [patterns], "commands": [[argv]]}'

prints {"files": {path: text}, "commands": {path: text}, "unreadable": {path: why}, "about": {…}} as JSON.
Knows nothing of what the files mean.
"""

from __future__ import annotations

import glob
import json
import platform
import subprocess
import sys
from typing import Any, Dict, List

MAX_BYTES = 4096  # a page: no file of sysfs holds more
TIMEOUT_S = 5.0


def collect(root: str, patterns: List[str], commands: List[List[str]]) -> Dict[str, Any]:
    """Return texts by path; what can't be read is named with its reason."""
    files: Dict[str, str] = {}
    unreadable: Dict[str, str] = {}
    for pattern in patterns:
        for path in sorted(glob.glob(root + pattern)):
            try:
                with open(path, "rb") as file:
                    files[path[len(root) :]] = file.read(MAX_BYTES).decode("utf-8", "replace")
            except OSError as error:
                unreadable[path[len(root) :]] = error.strerror or str(error)
    printed = {}
    for argv in commands:
        name = " ".join(argv)
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
            )
        except FileNotFoundError:
            continue  # not this vendor's board
        except (OSError, subprocess.TimeoutExpired) as error:
            unreadable[name] = str(error)
        else:
            printed[name] = done.stdout[: 16 * MAX_BYTES].decode("utf-8", "replace")
    return {"files": files, "commands": printed, "unreadable": unreadable, "about": about(root)}


def about(root: str) -> Dict[str, str]:
    """Return the board's name and its kernel."""
    model = ""
    for path in ("/proc/device-tree/model", "/sys/class/dmi/id/product_name"):
        try:
            with open(root + path, "rb") as file:
                model = model or file.read(MAX_BYTES).decode("utf-8", "replace").strip("\0 \n")
        except OSError:
            continue
    return {"model": model, "kernel": platform.release()}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    json.dump(collect(asked["root"], asked["files"], asked["commands"]), sys.stdout)
