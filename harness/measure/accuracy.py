"""Accuracy suite: the task metric on the device, and agreement of its outputs with the host's.

The reference comes from the same runtime, same build, on the host, fed the same bytes. Golden outputs, which
the same runtime gave once, are compared sample by sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, Unsupported
from harness.measure.bench import Bench, Observation
from harness.measure.golden import TOLERANCES, load_golden, measure_golden, tolerance_of
from harness.measure.tasks import measure_task
from harness.model import Fidelity, Measurement, Series

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[Any]]

COMMAND = "command"  # the adapter of an executable that the device has and this host may lack
CHUNK_SAMPLES = 32  # chosen: some progress every second or so on an emulated board


def infer_all(bench: Bench, label: str) -> dict[str, npt.NDArray[Any]]:
    """Return every output for every sample, by output name, each of shape (n_samples, …)."""
    import numpy as np

    parts: list[dict[str, npt.NDArray[Any]]] = []
    with bench.child(label) as (child, _):
        for start in range(0, bench.inputs.n_samples, CHUNK_SAMPLES):
            count = min(CHUNK_SAMPLES, bench.inputs.n_samples - start)
            bench.progress.count("inference", start, bench.inputs.n_samples)
            parts.append(child.infer(start, count))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def measure_accuracy(bench: Bench, reference: Bench) -> Observation:
    """Compare the device's outputs with `reference`'s, with labels and golden outputs where there are any.

    An executable that only the device has gives no reference: then the others alone judge it. Raises
    Unsupported where there is none of them either.
    """
    if not bench.inputs.n_samples:
        what = "it takes no inputs from here, so there are no outputs to compare."
        raise Unsupported(what, where=bench.case.name)
    case, labels, golden = bench.case, bench.inputs.labels, None
    if case.golden_path is not None:  # first: what is wrong with it shall not wait for the device
        golden = load_golden(case.golden_path, bench.signature.outputs, bench.inputs.n_samples)
    outputs = infer_all(bench, "accuracy")
    precision = precision_of(bench)
    judged_here = golden is not None or (case.task is not None and labels is not None)
    expected, source = _reference_outputs(bench, reference, judged_here)
    measurements: list[Measurement] = []
    series: list[Series] = []
    worst = None
    if expected is not None:
        agreement, worst = measure_agreement(outputs, expected, precision, case.rtol, case.atol)
        measurements.append(agreement)
    found: list[tuple[Measurement, Series]] = []
    if case.task and labels is not None:
        found.append(measure_task(case.task, outputs, labels))
    if golden is not None:
        tolerance = tolerance_of(precision, case.rtol, case.atol)
        found.append(measure_golden(outputs, golden, *tolerance, where=str(case.golden_path)))
    for measured, per_sample in found:
        measurements.append(measured)
        series.append(per_sample)
    return Observation(
        measurements=tuple(measurements),
        series=tuple(series),
        settings={
            "reference": source,
            "precision": precision,
            "n_samples": bench.inputs.n_samples,
            "inputs_sha256": bench.inputs.sha256,
            "inputs_made_from_signature": bench.inputs.made,
            "worst_output": worst,
            "golden": str(case.golden_path) if case.golden_path else None,
        },
    )


def _reference_outputs(bench: Bench, reference: Bench, judged_here: bool) -> tuple[Arrays | None, str]:
    """Return the reference's outputs and where they come from; None of an executable that it lacks.

    Raises Unsupported for that unless something else judges the outputs.
    """
    try:
        outputs = infer_all(reference, "reference")
    except ConfigError as error:
        if bench.env.adapter != COMMAND or reference is bench:
            raise
        if not judged_here:
            raise Unsupported(
                f"there is nothing to compare its outputs with: {error.what}",
                where=bench.case.name,
                next_step="Install the executable here too, or give `inputs` with labels and a `task`.",
            ) from error
        return None, f"none: {error}"
    return outputs, f"{reference.board.device.name} ({reference.board.facts.platform})"


def precision_of(bench: Bench) -> str:
    """Return "fp32", "fp16" or "int8": from the variant's name, the runtime, else the operators."""
    variant = (bench.case.variant or "").lower()
    for name in TOLERANCES:
        if name in variant:
            return name
    if bench.look.quantised is not None:
        return "int8" if bench.look.quantised else "fp32"
    if any(s.dtype in ("int8", "uint8") for s in (*bench.signature.inputs, *bench.signature.outputs)):
        return "int8"
    data = bench.case.artifact.path.read_bytes()
    # operator names stand as plain strings in an ONNX file (onnx.proto, NodeProto.op_type)
    quantised = (b"QuantizeLinear", b"QLinearConv", b"QLinearMatMul", b"ConvInteger", b"MatMulInteger")
    return "int8" if any(op in data for op in quantised) else "fp32"


def measure_agreement(
    outputs: dict[str, npt.NDArray[Any]],
    expected: dict[str, npt.NDArray[Any]],
    precision: str,
    rtol: float | None,
    atol: float | None,
) -> tuple[Measurement, str]:
    """Return `output_max_abs_error` over all outputs, and the name of the output where it stands.

    Its limit is atol + rtol × the largest reference value of that output. An output that is missing, has
    another shape, or isn't finite in another way than the reference (NaN, +inf and -inf each match only
    themselves) disagrees: its error is infinite. Where no value of any output is finite there is nothing
    to compare: the value is None.
    """
    import numpy as np

    r, a = tolerance_of(precision, rtol, atol)
    found: list[tuple[float, float, str]] = []
    for name, want in expected.items():
        got = outputs.get(name)
        if got is None or got.shape != want.shape:
            shape = None if got is None else got.shape
            return _disagree(f"output `{name}` has shape {shape}, expected {want.shape}"), name
        got64, want64 = got.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(want64)
        if not np.array_equal(got64[~finite], want64[~finite], equal_nan=True) or not np.all(
            np.isfinite(got64[finite])
        ):
            return _disagree(f"output `{name}` is not finite in the same places as the host's"), name
        if not finite.any() and want64.size:
            continue
        error = float(np.abs(got64[finite] - want64[finite]).max(initial=0.0))
        limit = a + r * float(np.abs(want64[finite]).max(initial=0.0))
        found.append((error, limit, name))
    n = int(next(iter(expected.values())).shape[0])
    if not found:
        why = "no value of any output is finite, on the device or on the host"
        nothing = Measurement(
            "output_max_abs_error", None, None, None, n, Fidelity.MEASURED, reasons=(why,), limit=0.0
        )
        return nothing, next(iter(expected))
    # the one furthest beyond its own limit; a limit of 0 asks for equality
    error, limit, name = max(found, key=lambda f: (f[0] > f[1], f[0] / f[1] if f[1] else 0.0))
    return (
        Measurement(
            "output_max_abs_error",
            error,
            error,
            error,
            n,
            Fidelity.MEASURED,
            limit=limit,
            reasons=(f"output `{name}`: tolerance for {precision} is {a:g} + {r:g} × its largest value",),
        ),
        name,
    )


def _disagree(why: str) -> Measurement:
    return Measurement(
        "output_max_abs_error", float("inf"), None, None, 0, Fidelity.MEASURED, reasons=(why,), limit=0.0
    )
