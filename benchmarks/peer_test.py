"""The peer's benchmark as its users write it: `pytest --benchmark-…` on one inference (detection_peers.py).

HIL_BENCH_PEER holds, as JSON, the arguments of bare.load: the same runtime, model, inputs and thread count
as ours.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bare import load


def test_inference(benchmark: Any) -> None:
    run, outputs, feeds = load(*json.loads(os.environ["HIL_BENCH_PEER"]))
    benchmark(run, outputs, feeds[0])
