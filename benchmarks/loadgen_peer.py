"""MLPerf LoadGen's scenarios over onnxruntime, in a process of its own.

    python loadgen_peer.py SITE MODEL INPUTS THREADS CPU BATCH LOGS

As bare.py, but queries are issued and timed by LoadGen. Each line asks for one test as JSON: `scenario`
(LoadGen's name), `queries`, and of Server `rate_per_s` and `seed`. The answer is JSON, from the summary that
LoadGen writes to LOGS: `p50`, `p90`, `p99` … of its queries' latency in ns, or of Offline `sample_ns`, the
time of one of its samples. A sample is a batch of BATCH images; in MultiStream those that come at once.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen  # type: ignore[import-not-found]  # no stubs
from bare import FEEDS, load  # type: ignore[import-not-found]  # beside this script

SUMMARY = "mlperf_log_summary.txt"
_PERCENTILE = re.compile(r"^(\d+)\.00 percentile latency \(ns\)\s*:\s*(\d+)", re.MULTILINE)
_RATE = re.compile(r"^Samples per second\s*:\s*([0-9.eE+]+)", re.MULTILINE)


def main() -> None:
    site, model, inputs, threads, cpu, batch, logs = sys.argv[1:]
    run, outputs, feeds = load(site, model, inputs, int(threads), -1, int(batch))
    anywhere = os.sched_getaffinity(0)
    asked: dict[str, Any] = {}

    def issue(samples: list[loadgen.QuerySample]) -> None:
        if os.sched_getaffinity(0) == anywhere:
            os.sched_setaffinity(0, {int(cpu)})  # this thread alone: LoadGen's own loggers run elsewhere
        if asked["scenario"] == "MultiStream":
            run(outputs, feeds[samples[0].index])  # all of its images at once
        else:
            for sample in samples:
                run(outputs, feeds[sample.index])
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(s.id, 0, 0) for s in samples])

    under_test = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(FEEDS, FEEDS, lambda indices: None, lambda indices: None)
    print("ready", flush=True)
    for line in sys.stdin:
        os.sched_setaffinity(0, anywhere)
        asked.update(json.loads(line))
        print(json.dumps(_test(under_test, library, asked, int(batch), Path(logs))), flush=True)
    os._exit(0)  # its log threads outlive DestroySUT


def _test(under_test: int, library: int, asked: dict[str, Any], batch: int, logs: Path) -> dict[str, float]:
    """Run one test; return what its summary says. Raises ValueError where it doesn't."""
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, asked["scenario"])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = asked["queries"]
    settings.min_duration_ms = 0
    if asked["scenario"] == "MultiStream":
        settings.multi_stream_samples_per_query = batch
    if asked["scenario"] == "Server":
        settings.server_target_qps = asked["rate_per_s"]
        settings.schedule_rng_seed = asked["seed"]
    if asked["scenario"] == "Offline":  # one query that holds them all
        settings.min_query_count = settings.max_query_count = 1
        settings.offline_expected_qps = asked["queries"] / 0.66  # of which it takes 1.1 × 600 ms
        settings.min_duration_ms = 600
    output = loadgen.LogOutputSettings()
    output.outdir = str(logs)
    output.copy_summary_to_stdout = False
    log = loadgen.LogSettings()
    log.log_output = output
    log.enable_trace = False
    loadgen.StartTestWithLogSettings(under_test, library, settings, log)
    text = (logs / SUMMARY).read_text()
    if asked["scenario"] == "Offline":
        rate = _RATE.search(text)
        if rate is None:
            raise ValueError(f"{logs / SUMMARY}: no line with samples per second")
        return {"sample_ns": 1e9 / float(rate[1])}
    found = {f"p{p}": float(ns) for p, ns in _PERCENTILE.findall(text)}
    if "p90" not in found:
        raise ValueError(f"{logs / SUMMARY}: no line with a p90")
    return found


if __name__ == "__main__":
    main()
