"""Compare the decisions of the bundled model's file, which computes in int8, with those of float32 arithmetic.

    python scripts/int8_agreement.py [--corpora ../shared/corpora] [--weights ../shared/weights/whisper-tiny.en-encoder]

The reference is the same encoder in PyTorch, with the standardization and the output layer of the file, on every
recording of RAVDESS, nEMO and EMOVO in any of the emotions that the bundled model was trained or tested with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from bundled import measures
from bundled.embeddings import Embedder
from bundled.recordings import UNSEEN, Corpus, read_corpus
from numpy.typing import NDArray
from onnx import numpy_helper

from affekt.recognition.recognizer import Recognizer
from affekt.runtime.atomic_files import write_bytes

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "results" / "bundled" / "int8.json"


def standardization(model: bytes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and factor of the file's embedding (pooled - mean) factor, each [features]."""
    graph = onnx.load_from_string(model).graph
    values = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    scaled = made[made["embedding"].input[0]]
    centered = made[scaled.input[0]]
    return values[centered.input[1]], values[scaled.input[1]]


def agreement(recognizer: Recognizer, embedder: Embedder, corpus: Corpus) -> dict[str, float]:
    """Recordings, the share with the same class, and the largest difference of a probability."""
    mean, factor = standardization(recognizer.content)
    reference = recognizer.output_layer.probabilities((embedder.embed(corpus.waveforms) - mean) * factor)
    answers = measures.run(recognizer, corpus.waveforms).probabilities
    return {
        "recordings": len(answers),
        "equal": measures.rounded((answers.argmax(1) == reference.argmax(1)).mean()),
        "largest_difference": measures.rounded(np.abs(answers - reference).max()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = REPOSITORY.parent / "shared"
    parser.add_argument("--corpora", type=Path, default=shared / "corpora")
    parser.add_argument("--weights", type=Path, default=shared / "weights" / "whisper-tiny.en-encoder")
    parser.add_argument("--cache", type=Path, default=Path("runs/bundled"), help="as -o of scripts/bundled_model.py")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    recognizer, embedder = Recognizer.load(), Embedder(arguments.weights, arguments.cache / "embeddings")
    corpora = (read_corpus(arguments.corpora, name, arguments.cache / "audio") for name in UNSEEN)
    found = {corpus.name: agreement(recognizer, embedder, corpus) for corpus in corpora}
    text = json.dumps(found, indent=2)
    print(text)
    write_bytes(RESULTS, f"{text}\n".encode())


if __name__ == "__main__":
    main()
