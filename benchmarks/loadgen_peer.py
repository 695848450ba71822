"""MLPerf LoadGen's SingleStream scenario over onnxruntime, in a process of its own.

    python loadgen_peer.py SITE MODEL INPUTS THREADS CPU BATCH LOGS

As bare.py, but each line's count of queries is issued and timed by LoadGen, and the answer is its own p90
in ns, read from the summary it writes to LOGS.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import mlperf_loadgen as loadgen  # type: ignore[import-not-found]  # no stubs
from bare import FEEDS, load  # type: ignore[import-not-found]  # beside this script

SUMMARY = "mlperf_log_summary.txt"
_P90 = re.compile(r"^90\.00 percentile latency \(ns\)\s*:\s*(\d+)", re.MULTILINE)


def main() -> None:
    site, model, inputs, threads, cpu, batch, logs = sys.argv[1:]
    run, outputs, feeds = load(site, model, inputs, int(threads), -1, int(batch))
    anywhere = os.sched_getaffinity(0)

    def issue(samples: list[loadgen.QuerySample]) -> None:
        if os.sched_getaffinity(0) == anywhere:
            os.sched_setaffinity(0, {int(cpu)})  # this thread alone: LoadGen's own loggers run elsewhere
        for sample in samples:
            run(outputs, feeds[sample.index])
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(s.id, 0, 0) for s in samples])

    under_test = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(FEEDS, FEEDS, lambda indices: None, lambda indices: None)
    print("ready", flush=True)
    for line in sys.stdin:
        os.sched_setaffinity(0, anywhere)
        print(_p90_ns(under_test, library, int(line), Path(logs)), flush=True)
    os._exit(0)  # its log threads outlive DestroySUT


def _p90_ns(under_test: int, library: int, queries: int, logs: Path) -> int:
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = queries
    settings.min_duration_ms = 0
    output = loadgen.LogOutputSettings()
    output.outdir = str(logs)
    output.copy_summary_to_stdout = False
    log = loadgen.LogSettings()
    log.log_output = output
    log.enable_trace = False
    loadgen.StartTestWithLogSettings(under_test, library, settings, log)
    found = _P90.search((logs / SUMMARY).read_text())
    if found is None:
        raise ValueError(f"{logs / SUMMARY}: no line with a p90")
    return int(found[1])


if __name__ == "__main__":
    main()
