"""Makes the MobileNets of benchmarks/estimate_borrowed.py: TFLite files with random weights, seeded.

    python benchmarks/estimate_borrowed_models.py --out build/mobilenets

Needs TensorFlow (tools/models-requirements.txt), so it runs in an environment of its own and imports nothing
of this project: `make bench-borrowed`. The networks are Keras' at full width for 224 × 224 pixels. The int8
ones have per-channel weights and int8 inputs and outputs; their ranges are those of random images.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SEED = 7
SIDE_PX = 224
CALIBRATION_IMAGES = 16
NETWORKS = (
    ("mobilenet_v1", "MobileNet", {}),
    ("mobilenet_v2", "MobileNetV2", {}),
    ("mobilenet_v3_large", "MobileNetV3Large", {"include_preprocessing": False}),
    ("mobilenet_v3_small", "MobileNetV3Small", {"include_preprocessing": False}),
)
INT8 = ("mobilenet_v1", "mobilenet_v2")  # that there are published figures of


def build(maker: str, options: dict[str, Any]) -> Any:
    """Return one network of `tf.keras.applications`, the same weights at every call."""
    import tensorflow as tf

    tf.keras.utils.disable_interactive_logging()  # a line for each of hundreds of tensors
    tf.keras.utils.set_random_seed(SEED)
    shape = (SIDE_PX, SIDE_PX, 3)
    return getattr(tf.keras.applications, maker)(weights=None, input_shape=shape, **options)


def convert(network: Any, *, int8: bool) -> bytes:
    """Return a network as a TFLite file."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = _images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def _images() -> Iterator[list[Any]]:
    rng = np.random.default_rng(SEED)
    for _ in range(CALIBRATION_IMAGES):
        yield [rng.uniform(-1, 1, (1, SIDE_PX, SIDE_PX, 3)).astype(np.float32)]


def write_file(path: Path, data: bytes) -> None:
    """Write `data` whole: temporary name, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    for name, maker, options in NETWORKS:
        network = build(maker, options)
        write_file(out / f"{name}.tflite", convert(network, int8=False))
        if name in INT8:
            write_file(out / f"{name}_int8.tflite", convert(network, int8=True))
        print(f"made {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
