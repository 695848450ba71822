"""What extra work costs, in one process: a peer that answers line by line.

    python3 slowed_cost.py SITE MODEL INPUTS CPU BASE

MODEL leaves the amount of work open (benchmarks/slowed.py), so that the same session, at the same addresses,
runs with much work and with little: what differs from process to process drops out. For each line
"ELEMENTS PAIRS" it takes turns with BASE elements in blocks of 5 ms and answers with the median ratio over
pairs of block medians. Uses nothing of the harness.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from typing import Any

BLOCK_NS = 5_000_000
DROPPED = 3  # first calls of a block


def main() -> None:
    site, model, inputs, cpu, base_elements = sys.argv[1:]
    os.sched_setaffinity(0, {int(cpu)})
    sys.path.insert(0, site)
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    with np.load(inputs) as stored:
        image = {"image": stored["image"][:1].copy()}

    def feed(elements: int) -> dict[str, Any]:
        shapes = {"work": (1, elements), "nothing": (elements, 1)}
        return {**image, **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()}}

    def block(feeds: dict[str, Any], calls: int) -> float:
        times = []
        for _ in range(DROPPED + calls):
            begin = time.perf_counter_ns()
            session.run(outputs, feeds)
            times.append(time.perf_counter_ns() - begin)
        return statistics.median(times[DROPPED:])

    base = feed(int(base_elements))
    calls = max(4, int(BLOCK_NS / block(base, 2000)))
    print("ready", flush=True)
    order = random.Random(1)
    for line in sys.stdin:
        elements, pairs = map(int, line.split())
        slowed = feed(elements)
        block(slowed, calls)
        ratios = []
        for _ in range(pairs):
            turns = [slowed, base]
            order.shuffle(turns)
            took = {id(feeds): block(feeds, calls) for feeds in turns}
            ratios.append(took[id(slowed)] / took[id(base)])
        print(statistics.median(ratios), flush=True)


if __name__ == "__main__":
    main()
