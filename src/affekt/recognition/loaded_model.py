"""A model in memory: its file, its sessions of onnxruntime, and the shift of a speaker that it is adapted to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from affekt.errors import CheckpointError, ConfigError
from affekt.recognition.adaptation import Shift
from affekt.recognition.card import ModelCard
from affekt.recognition.models import BUNDLED
from affekt.recognition.output_layer import OutputLayer
from affekt.recognition.prediction import Recognized, identity_of
from affekt.recognition.session import check_ports, open_session, read_model, run
from affekt.runtime.cpu_affinity import PinnedThreads, available_cores
from affekt.runtime.ordered_map import ordered_map

Floats = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")


class LoadedModel:
    """The part of a recognizer that runs the model.

    Attributes:
        content, name, card, labels, threads: as of :class:`affekt.recognition.recognizer.Recognizer`.
    """

    def __init__(self, model: bytes, name: str = "model", threads: int | None = None) -> None:
        """Use :meth:`load` for files.

        Args:
            model: the content of a file that `affekt export` wrote.
            name: how messages name it.
            threads: how many to use; by default one per core that this process may run on.

        Raises:
            CheckpointError: anything but such a file.
        """
        self._wanted_threads = threads
        self.threads = available_cores() if threads is None else max(1, threads)
        self.content = model
        self.name = name
        self._apart = PinnedThreads(self.threads)
        self._session = open_session(model, name, self.threads, self._apart.others)
        self.card = ModelCard.from_metadata(self._session.get_modelmeta().custom_metadata_map, name)
        self.labels = self.card.labels
        check_ports(self._session, self.card, name)
        self._shift: Shift | None = None

    @classmethod
    def load(cls, model: str | Path | None = None, threads: int | None = None) -> Self:
        """Read a model that `affekt export` wrote.

        Args:
            model: its file; None: the model that comes with affekt.
            threads: how many to use; by default one per core that this process may run on.

        Returns:
            The recognizer.

        Raises:
            CheckpointError: the file is missing, damaged or not an affekt model.
        """
        path = BUNDLED if model is None else Path(model)
        content = read_model(path, bundled=model is None)
        return cls(content, "bundled" if model is None else str(path), threads)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the model file and the adaptation; the session is opened again."""
        return _restored, (type(self), self.content, self.name, self._wanted_threads, self._shift)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.identity}: {', '.join(self.labels)}>"

    @cached_property
    def identity(self) -> str:
        return identity_of(self.name, self.card.version, self.content)

    @cached_property
    def output_layer(self) -> OutputLayer:
        """The layer on the embedding, for adaptation and fine-tuning.

        Raises:
            ConfigError: the model states none.
        """
        layer = OutputLayer.of(self._session.get_modelmeta().custom_metadata_map, self.card.temperature, self.name)
        if len(layer.bias) != len(self.labels):
            got, expected = f"{len(layer.bias)} outputs", f"{len(self.labels)}, as there are labels"
            raise CheckpointError(f"model {self.name}: head", got=got, expected=expected)
        return layer

    @property
    def assumption(self) -> str:
        """Assumption about the speaker; empty: none."""
        return "" if self._shift is None else self._shift.said

    def probabilities(self, waveforms: Sequence[Floats]) -> Recognized:
        """Run the model on one batch.

        Args:
            waveforms: each [samples] at the model's rate, at most a clip.

        Returns:
            Probabilities [batch, classes], embeddings [batch, features] and the model's other scores.

        Raises:
            CheckpointError: the model cannot be run.
        """
        with self._apart.caller():
            return self._shifted(run(self._session, waveforms))

    def map_windows(self, batches: Iterable[Sequence[Floats]]) -> Iterator[Recognized]:
        """Run the model on many batches, on all threads; only a few batches are held at a time.

        Args:
            batches: each as for :meth:`probabilities`.

        Returns:
            An iterator over the answers, in order.
        """
        return map_in_order(self._beside_others, batches, self.threads)

    def _beside_others(self, waveforms: Sequence[Floats]) -> Recognized:
        """One batch of many, on one core."""
        return self._shifted(run(self._shared_session, waveforms))

    def _shifted(self, answer: Recognized) -> Recognized:
        """Answers with the speaker's shift taken out, if one is known."""
        return answer if self._shift is None else self._shift.applied(answer, self.output_layer)

    @cached_property
    def _shared_session(self) -> onnxruntime.InferenceSession:
        """A session for many recordings: each thread of ours runs on its own core, without threads of onnxruntime's."""
        return self._session if self.threads == 1 else open_session(self.content, self.name, threads=1)

    def _threshold(self, min_confidence: Any) -> float:
        if min_confidence is None:
            return self.card.unsure_below
        number = isinstance(min_confidence, int | float | np.number) and not isinstance(min_confidence, bool)
        if not (number and 0 <= min_confidence <= 1):
            raise ConfigError("min_confidence", got=repr(min_confidence), expected="a number from 0 to 1")
        return float(min_confidence)


def _restored(kind: type[LoadedModel], content: bytes, name: str, threads: int | None, shift: Shift | None) -> Any:
    """A model that was pickled."""
    model = kind(content, name, threads)
    model._shift = shift
    return model


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """An ordered map; with one thread in the caller's own, which saves the hand-over."""
    return map(function, items) if threads == 1 else ordered_map(function, items, threads)
