"""Recognize a clip of 7.5 s with affekt or an alternative: `python -m benchmarks.clip_peer WAY THREADS FOLDER`.

Each runs in its own process: threads of onnxruntime and OpenMP spin for a while after their work, and would occupy a
core during the next turn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from affekt.export.onnx_file import Pipeline
from affekt.recognition.recognizer import Recognizer
from benchmarks import openvino_peer
from benchmarks.setting import encoder_pipeline, noise, paper_pipeline
from benchmarks.worker import claim_output, serve

IN_A_ROW = 8
"""Clips of a row, which follow each other at once."""
PLAIN, PLAIN_ENCODER = "plain.onnx", "plain-encoder.onnx"
"""In the folder: the networks as torch.onnx writes them, from features to scores."""

Floats = NDArray[np.float32]
Work = Callable[[], object]
Front = Callable[[Pipeline, Floats], Floats]


def ours(model: str | None, folder: Path, threads: int) -> Work:
    """An exported model in the folder; None for the bundled one."""
    recognizer = Recognizer.load(model and folder / model, threads=threads)
    return partial(recognizer.probabilities, [noise()])


def plain(features: Front, folder: Path, threads: int) -> Work:
    """The plain ONNX export, with another library's features."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession((folder / PLAIN).read_bytes(), options)
    pipeline, waveform = paper_pipeline(), noise()
    return lambda: session.run(None, {"features": features(pipeline, waveform)})


def plain_encoder(folder: Path, threads: int) -> Work:
    """The plain ONNX export of the encoder with torch's features."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession((folder / PLAIN_ENCODER).read_bytes(), options)
    pipeline, waveform = encoder_pipeline(), noise()
    return lambda: session.run(None, {"features": whisper_features(pipeline, waveform)})


def openvino(encoder: bool, int8: bool, folder: Path, threads: int) -> Work:
    """OpenVINO on a plain export, with torch's features."""
    pipeline = encoder_pipeline() if encoder else paper_pipeline()
    front = whisper_features if encoder else torch_features
    file = folder / (PLAIN_ENCODER if encoder else PLAIN)
    return openvino_peer.compiled(file, partial(front, pipeline), threads, int8)


def whisper_features(pipeline: Pipeline, waveform: Floats) -> Floats:
    """Whisper's log-mel with torch's Fourier transform, on one thread."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        features: Floats = pipeline.log_mel(torch.from_numpy(waveform)[None]).numpy()
    return features


def torch_features(pipeline: Pipeline, waveform: Floats) -> Floats:
    """Normalized log-mel features with torch's Fourier transform, on one thread: more would slow the network."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        features: Floats = pipeline.normalizer(pipeline.log_mel(torch.from_numpy(waveform)[None])).numpy()
    return features


def librosa_features(pipeline: Pipeline, waveform: Floats) -> Floats:
    """The same with librosa, except for the alignment of frames; the filters are made once."""
    import librosa

    config = pipeline.features
    spectrum = librosa.stft(
        waveform, n_fft=config.fft_samples, win_length=config.window_samples, hop_length=config.hop_samples
    )
    power = np.square(np.abs(spectrum[:, : config.clip_frames]))
    log_mel = np.log(np.maximum(pipeline.log_mel.filterbank.numpy().T @ power, np.float32(config.floor))).T[None]
    mean, std = np.float32(pipeline.normalizer.mean), np.float32(pipeline.normalizer.std)
    normalized: Floats = (log_mel - mean) / std
    return normalized


def wav2vec2(_: Path, threads: int) -> Work:
    """wav2vec2-base with a classifier of four classes and random weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    model: Any = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(num_labels=4)).eval()
    samples = torch.from_numpy(noise())[None]
    torch.set_num_threads(threads)

    @torch.inference_mode()
    def run() -> object:
        return model(samples).logits.softmax(-1)

    return run


WAYS: dict[str, Callable[[Path, int], Work]] = {
    "int8": partial(ours, "int8.onnx"),
    "float32": partial(ours, "float32.onnx"),
    "bundled": partial(ours, None),
    "plain": partial(plain, torch_features),
    "librosa": partial(plain, librosa_features),
    "wav2vec2": wav2vec2,
    "encoder-int8": partial(ours, "encoder-int8.onnx"),
    "encoder-float32": partial(ours, "encoder-float32.onnx"),
    "encoder-plain": plain_encoder,
    "openvino": partial(openvino, False, False),
    "openvino-int8": partial(openvino, False, True),
    "encoder-openvino": partial(openvino, True, False),
    "encoder-openvino-int8": partial(openvino, True, True),
}


def main() -> None:
    answers = claim_output()  # NNCF prints while it quantizes
    way, threads, folder = sys.argv[1:]
    work = WAYS[way](Path(folder), int(threads))
    with threadpool_limits(1, "blas"):  # librosa's, which would only get into the network's way
        serve({"recognize": work, "row": lambda: [work() for _ in range(IN_A_ROW)]}, {}, answers)


if __name__ == "__main__":
    main()
