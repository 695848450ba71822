"""The peer's benchmark as its users write it: pyperf starts this file anew for each process.

HIL_BENCH_PEER as in peer_test.py. Options are pyperf's own.
"""

from __future__ import annotations

import json
import os

import pyperf
from bare import load


def main() -> None:
    runner = pyperf.Runner()
    if not runner.parse_args().worker:  # the first process only starts the others
        runner.bench_func("inference", print)
        return
    run, outputs, feeds = load(*json.loads(os.environ["HIL_BENCH_PEER"]))
    runner.bench_func("inference", run, outputs, feeds[0])


if __name__ == "__main__":
    main()
