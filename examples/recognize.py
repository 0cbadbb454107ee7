"""Emotion of recordings without affekt: python recognize.py model.onnx a.wav b.flac"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile

session = onnxruntime.InferenceSession(sys.argv[1])
card = json.loads(session.get_modelmeta().custom_metadata_map["affekt.card"])

for path in sys.argv[2:]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != card["sample_rate_hz"]:
        sys.exit(f"{path} has {rate} Hz; the model hears {card['sample_rate_hz']} Hz: resample it first")
    waveform = samples.mean(axis=1)[None]  # [batch, samples], mono
    feeds = {"waveform": waveform, "samples": np.array([waveform.shape[1]])}
    probabilities = session.run(["probabilities"], feeds)[0][0]
    print(path, card["labels"][probabilities.argmax()], *probabilities.round(3))
