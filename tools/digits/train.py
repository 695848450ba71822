"""Trains the network with Keras and returns its folded weights. Same seed, same machine: same weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from digits.data import CLASSES, SIDE_PX, Digits, augment
from digits.net import BLOCKS, STEM_CHANNELS, STEM_STRIDE, Folded, Weights, layer_names

EPOCHS = 60
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
LABEL_SMOOTHING = 0.05
THREADS = 2


def prepare_tensorflow(seed: int) -> None:
    """Seed every generator, ask for deterministic kernels, bound the threads. Call before any other use."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def train(digits: Digits, seed: int) -> tuple[Weights, float]:
    """Return the weights of the epoch with the best validation accuracy, and that accuracy."""
    import tensorflow as tf

    model = _build()
    steps = -(-len(digits.train.labels) // BATCH_SIZE)
    rate = tf.keras.optimizers.schedules.CosineDecay(LEARNING_RATE, EPOCHS * steps)
    model.compile(
        optimizer=tf.keras.optimizers.AdamW(rate, weight_decay=1e-3),
        loss=tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=LABEL_SMOOTHING),
        metrics=["accuracy"],
    )
    rng = np.random.default_rng(seed)
    targets = np.eye(CLASSES, dtype=np.float32)
    best, best_accuracy, best_loss = model.get_weights(), -1.0, np.inf
    for epoch in range(EPOCHS):
        image = augment(digits.train.image, rng)
        model.fit(image, targets[digits.train.labels], batch_size=BATCH_SIZE, epochs=1, verbose=0)
        loss, accuracy = model.evaluate(
            digits.validation.image, targets[digits.validation.labels], batch_size=240, verbose=0
        )
        if (accuracy, -loss) > (best_accuracy, -best_loss):
            best, best_accuracy, best_loss = model.get_weights(), float(accuracy), float(loss)
        print(f"epoch {epoch + 1}/{EPOCHS}: validation loss {loss:.4f}, accuracy {accuracy:.4f}", flush=True)
    model.set_weights(best)
    return _fold(model), best_accuracy


def _build() -> Any:
    from tensorflow.keras import Input, Model, layers

    def normed(x: Any, layer: Any) -> Any:
        return layers.BatchNormalization(momentum=0.9, name=f"{layer.name}_bn")(layer(x))

    image = Input((SIDE_PX, SIDE_PX, 1), name="image")
    stem = layers.Conv2D(STEM_CHANNELS, 3, STEM_STRIDE, "same", use_bias=False, name="stem")
    x = layers.ReLU()(normed(image, stem))
    for block in BLOCKS:
        depthwise = layers.DepthwiseConv2D(
            3, block.stride, "same", use_bias=False, name=f"{block.name}_depthwise"
        )
        pointwise = layers.Conv2D(block.channels_out, 1, use_bias=False, name=f"{block.name}_pointwise")
        y = normed(layers.ReLU()(normed(x, depthwise)), pointwise)
        x = layers.ReLU()(layers.Add()([x, y]) if block.residual else y)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return Model(image, layers.Dense(CLASSES, name="dense")(x))


def _fold(model: Any) -> Weights:
    """Return each kernel multiplied by its batch norm's gain, and the bias that remains."""
    weights: Weights = {}
    for name in layer_names():
        if name == "dense":
            kernel, bias = (np.asarray(v, dtype=np.float32) for v in model.get_layer(name).get_weights())
            weights[name] = Folded(kernel, bias)
            continue
        norm = model.get_layer(f"{name}_bn")
        (kernel,) = model.get_layer(name).get_weights()
        gamma, beta, mean, variance = (v.astype(np.float64) for v in norm.get_weights())
        gain = gamma / np.sqrt(variance + norm.epsilon)
        per_out = gain[:, np.newaxis] if name.endswith("_depthwise") else gain
        weights[name] = Folded((kernel * per_out).astype(np.float32), (beta - mean * gain).astype(np.float32))
    return weights
