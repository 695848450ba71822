"""The peer of the harness' measuring child: a plain loop over onnxruntime, in a process of its own.

    python3 bare.py SITE MODEL INPUTS THREADS CPU

Imports the runtime from SITE, loads MODEL and feeds the first samples of INPUTS (.npz) in turn. Then, for
each line on stdin with a count, times that many calls and answers with one JSON list of nanoseconds. CPU
-1: not pinned. Uses nothing of the harness; runs on the device too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

FEEDS = 16  # as many as the harness' child lets take turns (docs/agent-protocol.md, measure)


def load(
    site: str, model: str, inputs: str, threads: int, cpu: int, batch: int = 1
) -> tuple[Any, list[str], list[dict[str, Any]]]:
    """Return the session's `run`, the outputs' names and FEEDS batches; it has run once."""
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
    sys.path.insert(0, site)
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    with np.load(inputs) as stored:
        names = [i.name for i in session.get_inputs()]
        feeds = [{n: stored[n][k * batch : (k + 1) * batch].copy() for n in names} for k in range(FEEDS)]
    session.run(outputs, feeds[0])
    return session.run, outputs, feeds


def main() -> None:
    site, model, inputs, threads, cpu = sys.argv[1:]
    run, outputs, feeds = load(site, model, inputs, int(threads), int(cpu))
    print("ready", flush=True)
    at = 0
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            feed = feeds[at % FEEDS]
            at += 1
            begin = time.monotonic_ns()
            run(outputs, feed)
            times.append(time.monotonic_ns() - begin)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
