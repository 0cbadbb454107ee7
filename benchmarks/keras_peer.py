"""The paper's network in Keras, the paper's toolkit: `python -m benchmarks.keras_peer [--bfloat16]`."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from benchmarks.setting import BATCH, CLASSES
from benchmarks.worker import serve

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
FILTERS, CELLS, FRAMES, MELS = (128, 128, 64, 64, 64, 64), 32, 750, 40
SECOND_BIASES = 2 * 4 * CELLS
"""PyTorch's LSTM has two biases for each gate and direction, of which only the sum matters; Keras' has one."""


def build() -> Any:
    """The same layers as `affekt.nn.Network`: six convolution modules, a bidirectional LSTM, attention, a softmax."""
    import keras
    from keras import layers, ops

    clip = keras.Input((FRAMES, MELS, 1))
    x = clip
    for index, filters in enumerate(FILTERS):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        if index < 5:
            x = layers.AveragePooling2D(2, padding="same")(x)
        x = layers.Dropout(0.25)(x)
    x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
    states = layers.Bidirectional(layers.LSTM(CELLS, return_sequences=True))(x)
    last = layers.Lambda(lambda h: ops.concatenate([h[:, -1, :CELLS], h[:, 0, CELLS:]], -1))(states)
    key = layers.Dense(2 * CELLS, use_bias=False)(last)
    weights = layers.Softmax(axis=1)(layers.Dot((2, 1))([states, key]))
    pooled = layers.Dot((1, 1))([weights, states])
    return keras.Model(clip, layers.Dense(len(CLASSES), activation="softmax", dtype="float32")(pooled))


def trainable_parameters(model: Any) -> int:
    """Number of parameters without the running statistics of batch norm."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def main() -> None:
    import keras

    if "--bfloat16" in sys.argv:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(BATCH, FRAMES, MELS, 1)).astype(np.float32)
    labels = rng.integers(0, len(CLASSES), BATCH)
    works = {
        "train": lambda: model.train_on_batch(clips, labels),
        "predict": lambda: model.predict_on_batch(clips),
    }
    parameters = trainable_parameters(model) + SECOND_BIASES
    serve(works, {"keras": keras.__version__, "backend": keras.backend.backend(), "parameters": parameters})


if __name__ == "__main__":
    main()
