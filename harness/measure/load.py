"""Deploy suite: the model is on the device, whole and active, and its runtime loads and runs it there."""

from __future__ import annotations

from harness.measure.bench import Bench, Observation
from harness.model import Fidelity, Measurement


def measure_load(bench: Bench) -> Observation:
    """Load the model in a fresh process and run it once. Raises ModelRejected when the runtime won't.

    Times are not reported here: the latency suite measures load time and first inference, on a clock
    that holds.
    """
    bench.progress.say("loading it")
    with bench.child("load") as (child, _):
        child.first()
        version = child.runtime_version
    size = float(bench.case.artifact.model_bytes)
    return Observation(
        measurements=(Measurement("model_size_bytes", size, size, size, 1, Fidelity.MEASURED),),
        settings={
            "runtime_version": version,
            "pushed": bench.deployed.pushed,
            "previous_sha256": bench.deployed.previous_sha256,
            "environment_sha256": bench.env.sha256,
            "packages": list(bench.env.packages),
        },
    )
