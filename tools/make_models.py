#!/usr/bin/env python3
"""Makes models/: one seeded training run, exported as ONNX and TFLite, in fp32 and int8, with its test set.

    make_models.py --out models

Needs tools/models-requirements.txt. Takes about two minutes on two cores. Files appear only when
all of them are made and the accuracies hold; the table in the folder's README.md is then rewritten.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
from digits import export_onnx, export_tflite, train
from digits.data import FloatArray, Part, read_digits
from digits.net import count_macs, count_params

SEED = 7
CALIBRATION_SAMPLES = 200  # of the training part
ACCURACY_MIN = 0.975
INT8_LOSS_MAX = 0.02
TABLE_BEGIN = "<!-- begin: written by tools/make_models.py -->"
TABLE_END = "<!-- end -->"


def main() -> int:
    """Return 0 when all files are written, 1 when a model misses its accuracy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    train.prepare_tensorflow(SEED)
    digits = read_digits(SEED)
    weights, validation_accuracy = train.train(digits, SEED)
    calibration = digits.train.image[:CALIBRATION_SAMPLES]
    fp32 = export_onnx.build_fp32(weights)
    files = {
        "digits_fp32.onnx": fp32.SerializeToString(deterministic=True),
        "digits_int8.onnx": export_onnx.build_int8(fp32, calibration).SerializeToString(deterministic=True),
        "digits_fp32.tflite": export_tflite.build_fp32(weights),
        "digits_int8.tflite": export_tflite.build_int8(weights, calibration),
    }
    accuracy = {name: compute_accuracy(name, data, digits.test) for name, data in files.items()}
    problems = find_problems(accuracy)
    if problems:
        print("nothing written: " + "; ".join(problems), file=sys.stderr)
        return 1
    files["digits_test.npz"] = pack_npz({"image": digits.test.image, "labels": digits.test.labels})
    for name, data in files.items():
        write_file(out / name, data)
    summary = (
        f"{2 * count_macs() / 1e6:.2f} MFLOP per image, {count_params(weights):,} parameters. "
        f"Images: {len(digits.train.labels)} training, {len(digits.validation.labels)} validation "
        f"(accuracy {validation_accuracy:.4f}), {len(digits.test.labels)} test."
    )
    write_table(out / "README.md", summary, files, accuracy)
    return 0


def compute_accuracy(name: str, model: bytes, test: Part) -> float:
    """Return the share of the test images whose largest logit is their label, as the runtime runs it here."""
    run = _run_onnx if name.endswith(".onnx") else _run_tflite
    return float((run(model, test.image).argmax(axis=1) == test.labels).mean())


def find_problems(accuracy: Mapping[str, float]) -> list[str]:
    """Return what is wrong with the accuracies, one line each."""
    problems = [
        f"{name}: accuracy {value:.4f}, expected at least {ACCURACY_MIN}"
        for name, value in accuracy.items()
        if value < ACCURACY_MIN
    ]
    for suffix in ("onnx", "tflite"):
        loss = accuracy[f"digits_fp32.{suffix}"] - accuracy[f"digits_int8.{suffix}"]
        if loss > INT8_LOSS_MAX:
            problems.append(f"digits_int8.{suffix}: loses {loss:.4f} of accuracy, at most {INT8_LOSS_MAX}")
    return problems


def pack_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the arrays as the bytes of a compressed .npz; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write `data` whole: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_table(
    readme: Path, summary: str, files: Mapping[str, bytes], accuracy: Mapping[str, float]
) -> None:
    """Print the table of files, and put it between its marks in `readme` if that exists."""
    rows = [summary, "", "| file | bytes | test accuracy | SHA-256 |", "|---|---|---|---|"]
    for name, data in files.items():
        value = f"{accuracy[name]:.4f}" if name in accuracy else "–"
        rows.append(f"| `{name}` | {len(data)} | {value} | `{hashlib.sha256(data).hexdigest()}` |")
    tools = ("tensorflow-cpu", "onnx", "onnxruntime", "ai-edge-litert", "scikit-learn", "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in tools)
    rows += ["", f"Made and measured with {versions}."]
    table = "\n".join(rows)
    print(table)
    if readme.exists():
        text = readme.read_text(encoding="utf-8")
        before, _, rest = text.partition(TABLE_BEGIN)
        _, _, after = rest.partition(TABLE_END)
        write_file(readme, f"{before}{TABLE_BEGIN}\n{table}\n{TABLE_END}{after}".encode())


def _run_onnx(model: bytes, image: FloatArray) -> FloatArray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": image})[0])


def _run_tflite(model: bytes, image: FloatArray) -> FloatArray:
    from ai_edge_litert.interpreter import Interpreter

    serve: Callable[..., dict[str, FloatArray]] = Interpreter(model_content=model).get_signature_runner(
        "serving_default"
    )
    return np.asarray(serve(image=image)["logits"])


if __name__ == "__main__":
    sys.exit(main())
