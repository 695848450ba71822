"""A runtime for tests that is one executable. It speaks json-lines (docs/agent-protocol.md): y = 2x.

    doubling_command.py [--mark FILE] [--sleep SECONDS] [--die-in OP]

`--mark` makes FILE when the first `run` has begun, `--sleep` lasts that long then. `--die-in` exits by
SIGKILL in the middle of OP.
"""

from __future__ import annotations

import array
import json
import os
import signal
import sys
import time

LATENCY_NS = 1_000_000


def main() -> None:
    """Answer requests until stdin ends."""
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    x = array.array("f")
    for line in sys.stdin:
        request = json.loads(line)
        op = request["op"]
        answer: dict[str, object] = {"ok": True}
        if op == options.get("--die-in"):
            os.kill(os.getpid(), signal.SIGKILL)
        if op == "load":
            spec = {"shape": [None, 4], "dtype": "float32"}
            answer.update(inputs=[{"name": "x", **spec}], outputs=[{"name": "y", **spec}], version="2.0")
        elif op == "feed":
            with open(request["path"], "rb") as file:
                (entry,) = request["arrays"]
                file.seek(entry["offset"])
                x = array.array("f", file.read(entry["nbytes"]))
        elif op == "run":
            if "--mark" in options and not os.path.exists(options["--mark"]):
                open(options["--mark"], "w").close()
                time.sleep(float(options.get("--sleep", "0")))
            answer["latency_ns"] = [LATENCY_NS + i for i in range(request["count"])]
        elif op == "read":
            y = array.array("f", (2 * value for value in x)).tobytes()
            with open(request["path"], "wb") as file:
                file.write(y)
            shape = [len(x) // 4, 4]
            answer["arrays"] = [
                {"name": "y", "dtype": "float32", "shape": shape, "offset": 0, "nbytes": len(y)}
            ]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
