"""Training of one system on one fold, with early stopping and resumption.

Every random draw depends on the seed and the number of the epoch alone, so a training that is killed and resumed ends
with the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.features.clips import Clips, batches_per_epoch, shuffled_batches
from affekt.features.log_mel import FeatureConfig, Normalizer
from affekt.measures.metrics import confusion_matrix, unweighted_accuracy
from affekt.runtime import allocator
from affekt.runtime.devices import autocast, seeded
from affekt.runtime.seeds import derive_seed, generator
from affekt.training.augmentation import augment
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch, Fitted, Subset, TrainingInterrupted
from affekt.training.mixup import Mixed, mix
from affekt.training.optimizer import copied, make_average, make_optimizer, make_schedule, move_options
from affekt.training.scoring import Scored, score
from affekt.training.speaker_adversary import Adversary
from affekt.training.state import read_state, write_state
from affekt.training.systems import System
from affekt.training.train_config import AugmentConfig, TrainConfig

LATER_FIELDS = {"steps_per_epoch": 0}
"""Fields of the configuration that version 0.1 did not have, with their defaults."""


def fit(
    system: System,
    clips: Clips,
    train: Subset,
    validation: Subset,
    classes: int,
    config: TrainConfig,
    seed: int,
    device: torch.device | str = "cpu",
    state: Path | None = None,
    start: Checkpoint | None = None,
    on_epoch: Callable[[Epoch], object] = lambda epoch: None,
) -> Fitted:
    """Train with early stopping and return the network of the best epoch.

    Args:
        system: network, loss and features.
        clips: features of all utterances, not normalized, on `device`.
        train, validation: parts of the fold; the normalizer is fitted on the training part alone.
        classes: number of classes.
        config: optimizer, schedule, stopping, precision, augmentation.
        seed: seed of all random draws.
        device: where to compute.
        state: file of the unfinished training, written after each epoch; if it exists, the training resumes from it.
        start: trained model to start from: its weights without the output layer, and its normalizer.
        on_epoch: called after each epoch.

    Returns:
        The trained network.

    Raises:
        ConfigError: the training diverged, or a speaker adversary without known speakers.
        TrainingInterrupted: Ctrl-C, once an epoch is finished; the same call with the same `state` resumes.
    """
    device = torch.device(device)
    with allocator.reuse_freed_memory():
        run = _Run(system, clips, train, validation, classes, config, seed, device, start)
        if state is not None and state.exists():
            run.restore(state)
        try:
            while not run.finished:
                on_epoch(run.step())
                if state is not None:
                    run.save(state)
        except KeyboardInterrupt as stop:
            if not run.best:
                raise
            raise TrainingInterrupted(run.kept()) from stop
        return run.fitted()


class _Run:
    """A training in progress: the state that changes from epoch to epoch."""

    def __init__(
        self,
        system: System,
        clips: Clips,
        train: Subset,
        validation: Subset,
        classes: int,
        config: TrainConfig,
        seed: int,
        device: torch.device,
        start: Checkpoint | None = None,
    ) -> None:
        self.pieces, self.piece_part = _pieces(system, clips, train)
        self.batches_per_pass = batches_per_epoch(len(self.piece_part.rows), config.batch_size)
        self.steps = config.steps_per_epoch or self.batches_per_pass
        config = config.stretched(self.steps)
        self.system, self.config, self.seed, self.device = system, config, seed, device
        self.clips, self.train, self.validation, self.classes = clips, train, validation, classes
        counts = np.bincount(train.labels, minlength=classes).tolist()
        with seeded(derive_seed(seed, "initialisation")):
            network, loss = system.build(classes, counts)
        if hasattr(network, "load_pretrained"):
            network.load_pretrained()  # type: ignore[operator]
        if start is not None:
            _start_from(network, start)
        self.normalizer = _normalizer(network, system, clips, train) if start is None else start.normalizer
        self.normalize = self.normalizer.on(device)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = loss.to(device)
        self.solves = hasattr(network, "solve")
        self.adversary = None if self.solves else _make_adversary(network, self.piece_part, config.adversary, seed)
        if self.adversary is not None:
            self.adversary.to(device)
        self.max_epochs = min(config.max_epochs, getattr(network, "solutions", config.max_epochs))
        self.optimizer = make_optimizer(self._learners(), config)
        self.schedule = make_schedule(self.optimizer, config, config.max_epochs * self.steps)
        self.average = None if self.solves else make_average(self.network, config)
        self.history: list[Epoch] = []
        self.best: dict[str, dict[str, Tensor]] = {}
        self.best_epoch = 0
        self.identity = self._identity()

    def _learners(self) -> list[nn.Module]:
        """The modules that the optimizer trains."""
        return [self.network, self.loss, *([] if self.adversary is None else [self.adversary])]

    def _identity(self) -> str:
        """A hash of everything that determines the training, including initial weights."""
        facts = (self.system.to_dict(), self.config, self.seed, self.classes, self.normalizer)
        digest = hashlib.sha256(_without_later_fields(repr(facts)).encode())
        for part in (self.train, self.validation):
            digest.update(part.rows.tobytes() + part.labels.tobytes())
        for tensor in (*self.network.state_dict().values(), *self.loss.state_dict().values()):
            digest.update(tensor.cpu().double().numpy().tobytes())
        return digest.hexdigest()

    @property
    def finished(self) -> bool:
        epochs = len(self.history)
        return epochs >= self.max_epochs or epochs - self.best_epoch >= self.config.patience > 0 < self.best_epoch

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.network if self.average is None else self.average.module

    def step(self) -> Epoch:
        """Run one epoch: train, validate, keep the weights if they are the best."""
        start, number = time.perf_counter(), len(self.history) + 1
        with seeded(derive_seed(self.seed, "epoch", number)):
            train_loss, train_accuracy = self._train_epoch(number)
        scored = score(self.fitted(), self.clips, self.validation.rows, self.config, self.device)
        self._check_finite(number, train_loss, scored)
        logits, labels = torch.from_numpy(scored.logits), self.validation.labels
        predicted = scored.logits.argmax(1)
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=float(nn.functional.cross_entropy(logits, torch.from_numpy(labels))),
            validation_accuracy=float((predicted == labels).mean()),
            validation_ua=float(unweighted_accuracy(confusion_matrix(labels, predicted, self.classes))),
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            seconds=time.perf_counter() - start,
        )
        self._keep_if_best(epoch)
        self.history.append(epoch)
        return epoch

    def _check_finite(self, number: int, train_loss: float, scored: Scored) -> None:
        if not (math.isfinite(train_loss) and np.isfinite(scored.logits).all()):
            raise ConfigError(
                f"training of {self.system.name}, epoch {number}",
                got=f"a loss of {train_loss:g}, or scores that are not finite",
                expected="numbers",
                remedy="choose a smaller --train.learning-rate, or a --train.gradient-clip",
            )

    def _keep_if_best(self, epoch: Epoch) -> None:
        """Keep the weights if the epoch is better than all before."""
        monitor = self.config.monitor
        if self.history and epoch.value(monitor) <= self.history[self.best_epoch - 1].value(monitor):
            return
        self.best = copy.deepcopy({"network": self.judged.state_dict(), "loss": self.loss.state_dict()})
        self.best_epoch = epoch.epoch

    def _train_epoch(self, number: int) -> tuple[float, float]:
        """Train for one epoch; mean loss and accuracy over its batches."""
        if self.solves:
            return self._solve(number)
        config, train = self.config, self.piece_part
        lengths = self.pieces.lengths.cpu().numpy()
        place = np.zeros(len(self.pieces), np.int64)
        place[train.rows] = np.arange(len(train.rows))
        changes = config.augment if isinstance(self.system.features, FeatureConfig) else AugmentConfig()
        draws = generator(self.seed, "augmentation", number)
        self.network.train()
        if self.adversary is not None:
            self.adversary.advance((number - 1) / config.max_epochs)
        total, correct = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        batches = self._batches(number, lengths)
        widths = [self._width(lengths[rows]) for rows in batches]
        drawn = place[np.concatenate(batches)]
        epoch = (np.concatenate(batches), train.labels[drawn], _speaker_numbers(train)[drawn])
        sizes = [len(rows) for rows in batches]
        parts = (self._on_device(numbers).split(sizes) for numbers in epoch)
        for width, rows, targets, speakers in zip(widths, *parts, strict=True):
            batch = self.pieces.batch(rows, width)
            mixed = mix(augment(batch, changes, self.pieces.silence, draws), changes.mixup, draws)
            loss, right = self._learn(mixed, targets, speakers)
            total += loss * len(rows)
            correct += right
        return float(total) / sum(sizes), float(correct) / sum(sizes)

    def _batches(self, number: int, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The batches of an epoch: steps (number - 1) S to number S - 1 of an endless sequence of shuffled passes."""
        first = (number - 1) * self.steps
        batches: list[NDArray[np.int64]] = []
        while len(batches) < self.steps:
            done, start = divmod(first + len(batches), self.batches_per_pass)
            order = derive_seed(self.seed, "order", done + 1)
            shuffled = shuffled_batches(
                lengths, self.piece_part.rows, self.config.batch_size, order, self.config.bucketed
            )
            batches += shuffled[start : start + self.steps - len(batches)]
        return batches

    def _learn(self, mixed: Mixed, targets: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step; return the mean loss of the batch and its number of correct predictions."""
        loss, scores = self._loss(mixed, targets, speakers)
        self._update(loss)
        if self.schedule is not None:
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss.detach(), (scores.argmax(1) == targets).sum()

    def _solve(self, number: int) -> tuple[float, float]:
        """An epoch of a network with its own solver: one of its solutions for the whole training part."""
        network, labels = self.network.eval(), torch.from_numpy(self.train.labels).to(self.device)
        rows = self.train.rows.copy()
        batch = self.pieces.batch(self._on_device(rows), self._width(self.pieces.lengths.cpu().numpy()[rows]))
        with torch.no_grad():
            features = self.normalize(batch.features)
            network.solve(number, network(features, batch.lengths).embedding, labels)
            scores, embedding = network(features, batch.lengths)
            return float(self.loss(scores, embedding, labels)), float((scores.argmax(1) == labels).float().mean())

    def _on_device(self, numbers: NDArray[np.int64]) -> Int[Tensor, " numbers"]:
        return torch.from_numpy(numbers).to(self.device)

    def _width(self, lengths: NDArray[np.int64]) -> int:
        """Frames to which a batch is padded: those of a full clip, or in masked mode those of its longest utterance."""
        if not self.system.masked:
            return self.system.features.clip_frames
        return int(lengths.max())

    def _loss(
        self, mixed: Mixed, targets: Int[Tensor, " batch"], speakers: Int[Tensor, " batch"]
    ) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.config.precision):
            scores, embedding = self.network(self.normalize(mixed.batch.features), mixed.batch.lengths)
        loss = mixed.loss(partial(self.loss, scores, embedding), targets)
        if self.adversary is not None:
            loss = loss + mixed.loss(partial(self.adversary, embedding.float()), speakers)
        return loss, scores

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.gradient_clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()

    def fitted(self) -> Fitted:
        """The best network if the training is finished, else the current one."""
        if self.finished:
            return self.kept()
        network, loss = self.judged.eval(), self.loss
        return Fitted(self.system, network, loss, self.normalizer, list(self.history), self.best_epoch)

    def kept(self) -> Fitted:
        """The best network so far."""
        network, loss = copied(self.judged), copy.deepcopy(self.loss)
        network.load_state_dict(self.best["network"])
        loss.load_state_dict(self.best["loss"])
        return Fitted(self.system, network.eval(), loss, self.normalizer, list(self.history), self.best_epoch)

    def _parts(self) -> dict[str, Any]:
        parts = {"network": self.network, "loss": self.loss, "optimizer": self.optimizer}
        optional = {"schedule": self.schedule, "average": self.average, "adversary": self.adversary}
        return parts | {name: part for name, part in optional.items() if part is not None}

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        progress = {
            "history": [asdict(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "identity": self.identity,
        }
        state = {name: part.state_dict() for name, part in self._parts().items()}
        write_state(path, state | {"best": self.best, "progress": progress})

    def restore(self, path: Path) -> None:
        """Restore the state; a damaged file or one of another training is ignored, and this one starts anew."""
        state = read_state(path, self.device)
        if state is None:
            return
        progress = state["progress"]
        if progress["identity"] != self.identity:
            return
        move_options(state["optimizer"], self.optimizer)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.history = [Epoch(**row) for row in progress["history"]]
        self.best, self.best_epoch = state["best"], progress["best_epoch"]


def _without_later_fields(text: str) -> str:
    """The text of a configuration without later fields that have their default.

    A training that version 0.1 left unfinished thus has the same identity and resumes.
    """
    for name, default in LATER_FIELDS.items():
        text = re.sub(rf", {name}={re.escape(repr(default))}(?=[,)])", "", text)
    return text


def _pieces(system: System, clips: Clips, train: Subset) -> tuple[Clips, Subset]:
    """The training examples: whole utterances, or the pieces that the system cuts them into."""
    if system.segments is None:
        return clips, train
    pieces, owners = system.segments.cut(clips, train.rows, system.features.hop_seconds)
    speakers = None if train.speakers is None else train.speakers[owners]
    return pieces, Subset(np.arange(len(pieces)), train.labels[owners], speakers)


def _speaker_numbers(train: Subset) -> NDArray[np.int64]:
    """Speaker numbers of a training part, from 0 without gaps; all 0 if none are known."""
    if train.speakers is None:
        return np.zeros(len(train.rows), np.int64)
    return np.unique(train.speakers, return_inverse=True)[1].astype(np.int64)


def _make_adversary(network: nn.Module, train: Subset, weight: float, seed: int) -> Adversary | None:
    if not weight:
        return None
    known = set() if train.speakers is None else set(train.speakers.tolist())
    if len(known) < 2 or -1 in known:
        got = "one speaker" if len(known - {-1}) == len(known) == 1 else "utterances without a speaker"
        expected, remedy = "at least 2, one of each utterance", "fill the column `speaker`, or leave the adversary at 0"
        raise ConfigError("train.adversary: speakers", got=got, expected=expected, remedy=remedy)
    with seeded(derive_seed(seed, "adversary")):
        return Adversary(int(network.embedding_size), len(known), weight)  # type: ignore[arg-type]


def _normalizer(network: nn.Module, system: System, clips: Clips, train: Subset) -> Normalizer:
    """The normalizer of the training part; the identity for networks that take unnormalized features."""
    if getattr(network, "as_is", False):
        dims = system.features.dims
        return Normalizer((0.0,) * dims, (1.0,) * dims)
    return clips.normalizer(train.rows.tolist())


def _start_from(network: nn.Module, start: Checkpoint) -> None:
    """Load all tensors of a trained model except those of its output layer."""
    own = network.state_dict()
    kept = {name: tensor for name, tensor in start.weights.items() if not name.startswith("head.")}
    needed = {name: tensor.shape for name, tensor in own.items() if not name.startswith("head.")}
    if {name: tensor.shape for name, tensor in kept.items()} != needed:
        raise ConfigError(
            "model to start from",
            got=f"system {start.system.name}, of another shape",
            expected="the network to train",
            remedy="choose the same --system and network options",
        )
    network.load_state_dict(own | kept)
