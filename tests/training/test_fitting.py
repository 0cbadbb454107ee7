"""Training: it learns, stops by the rule, keeps the best epoch, and comes back bit for bit after it was cut off."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.features.clips import Clips
from affekt.features.log_mel import FeatureConfig
from affekt.losses import Loss, class_balanced_alpha
from affekt.nn import NetworkConfig
from affekt.nn.network import Output
from affekt.nn.zoo.encoder_back_end import TunedEncoder
from affekt.runtime import devices
from affekt.runtime.devices import autocast, choose_device, seeded
from affekt.training import fitting
from affekt.training.checkpoint import Checkpoint
from affekt.training.fitted import Epoch, Fitted, Subset, as_subset
from affekt.training.fitting import fit
from affekt.training.optimizer import make_optimizer, make_schedule
from affekt.training.scoring import Scored, score
from affekt.training.systems import System
from affekt.training.train_config import AugmentConfig, TrainConfig

CLASSES, MELS = 4, 8
NETWORK = NetworkConfig(filters=(16, 16), pools=(2, 2), lstm_cells_per_direction=8, masked=True)
SYSTEM = System("tiny", network=NETWORK, features=FeatureConfig(mels=MELS, clip_seconds=0.3))
CONFIG = TrainConfig(batch_size=8, learning_rate=3e-3, max_epochs=3)
EVERYTHING = TrainConfig(
    batch_size=7,
    learning_rate=3e-3,
    weight_decay=1e-2,
    max_epochs=4,
    monitor="ua",
    schedule="one-cycle",
    averaging=0.7,
    gradient_clip=1.0,
    adversary=0.3,
    bucketed=True,
    augment=AugmentConfig(
        gain_db=3.0, channel_db=2.0, noise_probability=0.5, warp=0.1, tempo=0.2, time_masks=1, mixup=0.4
    ),
)
CENTRES = replace(SYSTEM, loss="center", loss_options={"weight": 0.1})


@dataclass(frozen=True)
class Problem:
    """Utterances whose class is a louder band: a part to learn from, a part to stop by, and 8 that are in neither."""

    clips: Clips
    train: Subset
    validation: Subset

    def fit(self, system: System = SYSTEM, config: TrainConfig = CONFIG, seed: int = 0, **options: Any) -> Fitted:
        return fit(system, self.clips, self.train, self.validation, CLASSES, config, seed, **options)


def make_problem(train: int = 29) -> Problem:
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(56) % CLASSES
    features = []
    for label in labels:
        frames = int(torch.randint(9, 31, (), generator=generator))
        clip = -9 + torch.randn(frames, MELS, generator=generator)
        clip[:, 2 * label] += 4
        features.append(clip)
    clips = Clips.of(features, silence=-18.0)
    speakers = np.arange(56) // CLASSES % 5
    return Problem(clips, as_subset(range(train), labels, speakers), as_subset(range(32, 48), labels))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def bits(module: nn.Module) -> list[bytes]:
    return [tensor.double().numpy().tobytes() for tensor in module.state_dict().values()]


def timeless(history: list[Epoch]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in history]


def assert_same_fit(left: Fitted, right: Fitted) -> None:
    assert timeless(left.history) == timeless(right.history)
    assert left.best_epoch == right.best_epoch
    assert left.normalizer == right.normalizer
    assert bits(left.network) == bits(right.network)
    assert bits(left.loss) == bits(right.loss)


# ---------------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("masked", [True, False])
def test_a_separable_problem_is_learnt(problem: Problem, masked: bool) -> None:
    system = replace(SYSTEM, network=replace(NETWORK, masked=masked))
    fitted = problem.fit(system, replace(CONFIG, learning_rate=1e-2, max_epochs=9))
    losses = [epoch.train_loss for epoch in fitted.history]
    assert losses[-1] < 0.5 * losses[0]
    assert fitted.history[fitted.best_epoch - 1].validation_accuracy >= 0.9
    unseen = np.arange(48, 56)
    logits = score(fitted, problem.clips, unseen, CONFIG).logits
    assert (logits.argmax(1) == unseen % CLASSES).mean() >= 0.75


def test_measures_are_those_of_the_network_that_is_given_back(problem: Problem) -> None:
    fitted = problem.fit()
    best = fitted.history[fitted.best_epoch - 1]
    logits = torch.from_numpy(score(fitted, problem.clips, problem.validation.rows, CONFIG).logits)
    labels = torch.from_numpy(problem.validation.labels)
    assert float((logits.argmax(1) == labels).float().mean()) == best.validation_accuracy
    assert float(nn.functional.cross_entropy(logits, labels)) == best.validation_loss
    assert [epoch.epoch for epoch in fitted.history] == [1, 2, 3]


def test_train_loss_and_accuracy_are_means_over_utterances(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """29 utterances in batches of 8, 8, 8 and 5; the loss is asked for its means and its scores."""
    seen: list[tuple[float, float, int]] = []

    class Recorded(Loss):
        def batch_mean(self, scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
            loss = nn.functional.cross_entropy(scores, labels)
            seen.append((float(loss.detach()), float((scores.argmax(1) == labels).sum()), len(labels)))
            return loss

    epoch = problem.fit(replace(SYSTEM, loss=Recorded), replace(CONFIG, max_epochs=1)).history[0]
    assert sorted(count for *_, count in seen) == [5, 8, 8, 8]
    assert epoch.train_loss == pytest.approx(sum(loss * count for loss, _, count in seen) / 29, rel=1e-5)
    assert epoch.train_accuracy == pytest.approx(sum(correct for _, correct, _ in seen) / 29)


# ---------------------------------------------------------------------------------------------------- early stopping


@dataclass
class Script:
    """Validation results by the book: what `score` says in each epoch, and the networks that it was asked about."""

    answers: list[NDArrays]
    asked: list[tuple[list[bytes], list[bytes]]]

    def score(self, fitted: Fitted, *_: object) -> Scored:
        self.asked.append((bits(fitted.network), bits(fitted.loss)))
        logits = self.answers[len(self.asked) - 1].astype(np.float32)
        return Scored(logits, np.zeros((len(logits), 1), np.float32))


NDArrays = np.ndarray[Any, np.dtype[np.float64]]


def accuracies(problem: Problem, shares: list[float]) -> list[NDArrays]:
    """Logits that get such shares of the validation part right."""
    labels = problem.validation.labels
    right = [np.arange(len(labels)) < round(share * len(labels)) for share in shares]
    return [np.eye(CLASSES)[np.where(hit, labels, (labels + 1) % CLASSES)] for hit in right]


@pytest.mark.parametrize(
    ("shares", "patience", "epochs", "best"),
    [
        ([0.25, 0.5, 0.75, 0.5, 0.5, 1.0], 2, 5, 3),  # two epochs without a better one
        ([0.25, 0.5, 0.5, 0.5, 1.0, 1.0], 2, 4, 2),  # an equal one is not better: the first is kept
        ([0.25, 0.5, 0.25, 0.75, 0.5, 0.75], 2, 6, 4),  # a better one starts the count anew
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 4, 1),  # the first epoch is better than none
        ([0.0, 0.25, 0.5, 0.75, 0.75, 1.0], 1, 5, 4),
        ([0.0, 0.25, 0.5, 0.75, 0.75, 1.0], 6, 6, 6),  # the longest run
    ],
)
def test_stopping_follows_the_rule(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, shares: list[float], patience: int, epochs: int, best: int
) -> None:
    script = Script(accuracies(problem, shares), [])
    monkeypatch.setattr(fitting, "score", script.score)
    fitted = problem.fit(CENTRES, replace(CONFIG, max_epochs=6, patience=patience))
    assert [epoch.validation_accuracy for epoch in fitted.history] == shares[:epochs]
    assert fitted.best_epoch == best
    assert (bits(fitted.network), bits(fitted.loss)) == script.asked[best - 1]
    assert len({network[0] for network, _ in script.asked}) == epochs  # each epoch's network was another


def test_a_small_corpus_is_trained_for_the_least_number_of_steps(problem: Problem) -> None:
    """29 utterances are 4 batches of 8; 23 steps take 6 epochs instead of 4, and a patience of 2 becomes 3."""
    config = replace(CONFIG, batch_size=8, max_epochs=4, patience=4, schedule="one-cycle")
    longer, as_long = replace(config, min_steps=23), replace(config, max_epochs=6, patience=6)
    assert_same_fit(problem.fit(config=longer), problem.fit(config=as_long))
    assert len(problem.fit(config=replace(config, min_steps=16)).history) == 4
    assert replace(config, patience=2).stretched(4) == replace(config, patience=2)
    assert replace(longer, patience=2).stretched(4).patience == 3


def test_epochs_may_be_counted_in_steps(problem: Problem) -> None:
    """29 utterances are 4 batches of 8: three epochs of 6 steps end after 18 steps, in the fifth pass."""
    run = fitting._Run(
        SYSTEM,
        problem.clips,
        problem.train,
        problem.validation,
        CLASSES,
        replace(CONFIG, steps_per_epoch=6),
        seed=0,
        device=torch.device("cpu"),
    )
    lengths = problem.clips.lengths.numpy()
    batches = [run._batches(number, lengths) for number in (1, 2, 3)]
    assert [len(epoch) for epoch in batches] == [6, 6, 6]
    stream = [batch for epoch in batches for batch in epoch]
    passes = [np.sort(np.concatenate(stream[start : start + 4])).tolist() for start in (0, 4, 8, 12)]
    assert passes == 4 * [problem.train.rows.tolist()]
    assert len({stream[start].tobytes() for start in (0, 4, 8, 12)}) == 4
    as_many = replace(CONFIG, steps_per_epoch=4)
    assert_same_fit(problem.fit(), problem.fit(config=as_many))


def test_steps_of_an_epoch_are_what_is_stretched_and_resumed(problem: Problem, tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=2, min_steps=18, steps_per_epoch=6, schedule="one-cycle")
    whole = problem.fit(config=config)
    assert len(whole.history) == 3

    def interrupt(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        problem.fit(config=config, state=tmp_path / "state.pt", on_epoch=interrupt)
    assert_same_fit(problem.fit(config=config, state=tmp_path / "state.pt"), whole)


def test_a_state_of_version_0_1_still_has_its_identity() -> None:
    """Fields that came later are not part of it while they have their defaults."""
    text = repr((SYSTEM.to_dict(), CONFIG))
    identity = fitting._without_later_fields(text)
    assert not any(name in identity for name in ("steps_per_epoch", "initialization"))
    assert "steps_per_epoch=6" in fitting._without_later_fields(repr(replace(CONFIG, steps_per_epoch=6)))
    config = "TrainConfig(batch_size=8, learning_rate=0.003, beta1=0.9, weight_decay=0.0, max_epochs=3, min_steps=0, "
    config += "patience=10, monitor='accuracy', schedule='constant', averaging=0.0, gradient_clip=0.0, adversary=0.0, "
    config += "bucketed=False, precision='auto', augment=AugmentConfig(gain_db=0.0, channel_db=0.0, "
    config += (
        "noise_probability=0.0, noise_snr_db=(5.0, 30.0), band_probability=0.0, band_lowest=0.14, band_highest=0.65, "
    )
    config += "warp=0.0, tempo=0.0, time_masks=0, time_mask_frames=20, mel_masks=0, mel_mask_bands=6, mixup=0.0))"
    assert fitting._without_later_fields(repr(CONFIG)) == config


def test_what_is_monitored(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy is best in epoch 1, UA in epoch 2, loss in epoch 3."""
    labels = np.array([0] * 13 + [1, 2, 3])
    one_class, fair = np.eye(CLASSES)[np.zeros(16, int)], np.eye(CLASSES)[np.where(np.arange(16) < 8, 1, labels)]
    answers = [9 * one_class, 9 * fair, 0 * fair]
    for monitor, best in (("accuracy", 1), ("ua", 2), ("loss", 3)):
        script = Script(answers, [])
        monkeypatch.setattr(fitting, "score", script.score)
        config = replace(CONFIG, monitor=monitor)
        fitted = fit(SYSTEM, problem.clips, problem.train, Subset(problem.validation.rows, labels), CLASSES, config, 0)
        assert fitted.best_epoch == best, monitor


# ----------------------------------------------------------------------------------------------------------- resuming


class KilledError(Exception):
    pass


def kill_after(epochs: int) -> Callable[[Epoch], None]:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch > epochs:  # the epoch that is cut off is lost
            raise KilledError

    return on_epoch


@pytest.mark.parametrize(
    ("system", "config"),
    [(SYSTEM, CONFIG), (CENTRES, EVERYTHING), (replace(CENTRES, network=replace(NETWORK, masked=False)), CONFIG)],
    ids=["paper", "everything", "padded"],
)
def test_killed_and_resumed_is_uninterrupted(
    problem: Problem, tmp_path: Path, system: System, config: TrainConfig
) -> None:
    whole = problem.fit(system, config)
    state = tmp_path / "deep" / "state.pt"
    for epochs in range(config.max_epochs):
        torch.manual_seed(epochs)  # what the process drew elsewhere
        with pytest.raises(KilledError):
            problem.fit(system, config, state=state, on_epoch=kill_after(epochs))
    seen: list[Epoch] = []
    resumed = problem.fit(system, config, state=state, on_epoch=seen.append)
    assert [epoch.epoch for epoch in seen] == [config.max_epochs]
    assert_same_fit(resumed, whole)
    again = problem.fit(system, config, state=state, on_epoch=seen.append)
    assert len(seen) == 1
    assert_same_fit(again, whole)


def test_resuming_after_the_best_epoch_keeps_it(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = [0.25, 0.75, 0.5, 0.5, 0.5]
    script, config = Script(accuracies(problem, shares), []), replace(CONFIG, max_epochs=5, patience=3)
    monkeypatch.setattr(fitting, "score", script.score)
    with pytest.raises(KilledError):
        problem.fit(CENTRES, config, state=tmp_path / "state.pt", on_epoch=kill_after(3))
    script.asked.pop()  # epoch 4 was lost
    fitted = problem.fit(CENTRES, config, state=tmp_path / "state.pt")
    assert fitted.best_epoch == 2
    assert len(fitted.history) == 5
    assert (bits(fitted.network), bits(fitted.loss)) == script.asked[1]


def test_a_damaged_state_is_not_gone_on_with(problem: Problem, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    config = replace(CONFIG, max_epochs=2)
    whole = problem.fit(config=config, state=state)
    content = state.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(whole.network.head.bias.detach().numpy().tobytes()) + 1] ^= 4  # torch.load would not notice
    for damaged in (b"", content[:20], content[:-1], pickle.dumps({}), bytes(flipped)):
        state.write_bytes(damaged)
        seen: list[Epoch] = []
        assert_same_fit(problem.fit(config=config, state=state, on_epoch=seen.append), whole)
        assert len(seen) == 2
    assert list(tmp_path.iterdir()) == [state]


def test_the_state_of_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    problem, state, config = make_problem(), tmp_path / "state.pt", replace(CONFIG, max_epochs=1)
    others = [
        (make_problem(train=28), SYSTEM, config, 0),
        (problem, replace(SYSTEM, loss="focal"), config, 0),
        (problem, SYSTEM, replace(config, learning_rate=1e-3), 0),
        (problem, SYSTEM, config, 1),
    ]
    whole = problem.fit(config=config)
    for other, system, changed, seed in others:
        other.fit(system, changed, seed, state=state)
        seen: list[Epoch] = []
        assert_same_fit(problem.fit(config=config, state=state, on_epoch=seen.append), whole)
        assert len(seen) == 1


# ------------------------------------------------------------------------------------------------------------- seeds


def test_the_seed_decides_and_nothing_else(problem: Problem) -> None:
    first = problem.fit(CENTRES, EVERYTHING, seed=1)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    assert_same_fit(problem.fit(CENTRES, EVERYTHING, seed=1), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    other = problem.fit(CENTRES, EVERYTHING, seed=2)
    assert bits(other.network) != bits(first.network)
    assert timeless(other.history) != timeless(first.history)


def test_seeded_blocks_leave_the_outside_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with seeded(5):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(5):
        assert torch.equal(torch.rand(3), inside)


def test_nothing_is_learnt_from_rows_outside_the_training_part(problem: Problem) -> None:
    """Other recordings in the test part change no weight; in the validation part they change no normalizer."""
    fitted = problem.fit()
    values = problem.clips.values.clone()
    values[problem.clips.offsets[48] :] = 100.0
    test_changed = replace(problem, clips=replace(problem.clips, values=values))
    assert_same_fit(test_changed.fit(), fitted)
    values[problem.clips.offsets[32] :] = 100.0
    validation_changed = replace(problem, clips=replace(problem.clips, values=values)).fit()
    assert validation_changed.normalizer == fitted.normalizer
    assert [epoch.train_loss for epoch in validation_changed.history] == [epoch.train_loss for epoch in fitted.history]
    values[0] = 100.0
    assert replace(problem, clips=replace(problem.clips, values=values)).fit().normalizer != fitted.normalizer


# --------------------------------------------------------------------------------------------------------- the recipe


def test_class_balanced_weights_count_the_training_part(problem: Problem) -> None:
    system = replace(SYSTEM, loss="focal", loss_options={"gamma": 2.0, "alpha": "class-balanced", "beta": 0.9})
    fitted = problem.fit(system, replace(CONFIG, max_epochs=1))
    expected = class_balanced_alpha([8, 7, 7, 7], beta=0.9)  # 29 utterances, the classes in turn
    np.testing.assert_allclose(fitted.loss.alpha.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("utterances", [29, 25])  # with batches of 8: a batch of 5 at the end, or one of 9
def test_one_cycle_ends_at_its_lowest_rate(utterances: int) -> None:
    config = replace(CONFIG, schedule="one-cycle", max_epochs=5)
    rates = [epoch.learning_rate for epoch in make_problem(utterances).fit(config=config).history]
    assert rates[-1] == pytest.approx(3e-3 / 25 / 1e4, rel=1e-6)
    assert int(np.argmax(rates)) == 0  # a fifth of the steps goes up
    assert rates[0] == pytest.approx(3e-3, rel=0.05)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 6])
def test_one_cycle_of_a_few_steps(epochs: int) -> None:
    """One batch an epoch; PyTorch's scheduler divides by zero where a fifth of the steps is no step."""
    config = replace(CONFIG, schedule="one-cycle", max_epochs=epochs, batch_size=16)
    rates = [epoch.learning_rate for epoch in make_problem(16).fit(config=config).history]
    assert rates[-1] == pytest.approx(3e-3 if epochs == 1 else 3e-3 / 25 / 1e4, rel=1e-6)
    assert rates[0] == pytest.approx(3e-3, rel=0.3)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Tensor], float]]:
    """The weights after each step of the optimizer, and the norm of the gradients in it."""
    taken: list[tuple[list[Tensor], float]] = []
    step = torch.optim.AdamW.step

    def record(optimizer: torch.optim.AdamW) -> None:
        step(optimizer)
        weights = optimizer.param_groups[0]["params"]
        norm = math.sqrt(sum(float(weight.grad.square().sum()) for weight in weights))
        taken.append(([weight.detach().clone() for weight in weights], norm))

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    return taken


def test_averaging_is_an_exponential_mean_of_the_weights(problem: Problem, steps: list[Any]) -> None:
    config = replace(CONFIG, averaging=0.7, max_epochs=1, precision="float32")
    fitted = problem.fit(config=config)
    assert len(steps) == 4
    expected = steps[0][0]
    for weights, _ in steps[1:]:
        expected = [0.7 * mean + 0.3 * weight for mean, weight in zip(expected, weights, strict=True)]
    for parameter, mean in zip(fitted.network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), mean)
    plain = problem.fit(config=replace(config, averaging=0.0))
    assert plain.history[0].train_loss == fitted.history[0].train_loss  # what is trained is not the average
    assert plain.history[0].validation_loss != fitted.history[0].validation_loss


def test_gradients_are_clipped(problem: Problem, steps: list[Any]) -> None:
    problem.fit(config=replace(CONFIG, max_epochs=1))
    problem.fit(config=replace(CONFIG, max_epochs=1, gradient_clip=0.01))
    assert min(norm for _, norm in steps[:4]) > 0.1
    np.testing.assert_allclose([norm for _, norm in steps[4:]], 0.01, rtol=1e-3)


def test_without_weight_decay_it_is_adam(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, max_epochs=1, precision="float32")
    decoupled, decayed = problem.fit(config=config), problem.fit(config=replace(config, weight_decay=0.1))
    monkeypatch.setattr(torch.optim, "AdamW", torch.optim.Adam)
    assert bits(problem.fit(config=config).network) == bits(decoupled.network)
    assert bits(decayed.network) != bits(decoupled.network)


def test_a_training_that_diverges_is_an_error(problem: Problem) -> None:
    def diverging(scores: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
        return (scores * math.inf).sum()

    with pytest.raises(ConfigError, match=r"training of tiny, epoch 1: got a loss of .*not finite.*learning-rate"):
        problem.fit(replace(SYSTEM, loss=diverging))


def test_all_faults_of_a_configuration_at_once() -> None:
    wrong: dict[str, Any] = {"batch_size": 1, "learning_rate": math.nan, "beta1": 1.0, "weight_decay": -1.0}
    wrong |= {"max_epochs": 0, "min_steps": -1, "patience": 0, "averaging": 1.0, "gradient_clip": -1.0}
    wrong |= {"monitor": "f1", "schedule": "cosine", "precision": "float16"}
    with pytest.raises(ConfigError) as raised:
        TrainConfig(**wrong)
    assert [fault.what for fault in raised.value.faults] == [f"train.{name}" for name in wrong]


def test_the_paper_s_settings_are_the_defaults() -> None:
    config = TrainConfig()
    assert (config.learning_rate, config.beta1, config.max_epochs, config.patience) == (1e-4, 0.9, 100, 10)
    assert (config.monitor, config.schedule, config.weight_decay, config.averaging) == ("accuracy", "constant", 0, 0)
    assert not config.augment.active


# ------------------------------------------------------------------------------------------------------------ scoring


def test_scores_come_in_the_order_asked_for_and_do_not_depend_on_the_batch(problem: Problem) -> None:
    fitted = problem.fit(config=replace(CONFIG, max_epochs=1))
    exact = replace(CONFIG, precision="float32")
    rows = np.array([40, 3, 55, 0, 17])
    together = score(fitted, problem.clips, rows, exact)
    for place, row in enumerate(rows):
        alone = score(fitted, problem.clips, np.array([row]), replace(exact, batch_size=2))
        np.testing.assert_allclose(together.logits[place], alone.logits[0], atol=1e-5)
        np.testing.assert_allclose(together.embeddings[place], alone.embeddings[0], atol=1e-5)
    assert together.embeddings.shape == (5, 16)
    assert not fitted.network.training


class Watching(nn.Module):
    """An own network that writes down the shapes that it is given."""

    seen: list[tuple[int, list[int]]] = []  # noqa: RUF012

    def __init__(self, mels: int, classes: int, head: str) -> None:
        super().__init__()
        self.embedding_size = mels
        self.output = nn.Linear(mels, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Output:
        self.seen.append((features.shape[1], lengths.tolist()))
        return Output(self.output(features.mean(1)), features.mean(1))


def test_own_networks_are_given_the_lengths_and_no_fixed_padding(problem: Problem) -> None:
    Watching.seen.clear()
    problem.fit(replace(SYSTEM, network=Watching), replace(CONFIG, max_epochs=1))
    assert len(Watching.seen) == 4 + 2  # batches of the training and of the validation part
    assert all(width == max(lengths) for width, lengths in Watching.seen)
    assert sum(len(lengths) for _, lengths in Watching.seen) == 29 + 16


def test_padded_networks_see_the_whole_clip(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int | None] = []
    batch = Clips.batch
    monkeypatch.setattr(
        Clips, "batch", lambda clips, rows, frames=None: (widths.append(frames), batch(clips, rows, frames))[1]
    )
    problem.fit(replace(SYSTEM, network=replace(NETWORK, masked=False)), replace(CONFIG, max_epochs=1))
    assert set(widths) == {30}  # 0.3 s
    widths.clear()
    fitted = problem.fit(config=replace(CONFIG, max_epochs=1))
    longest = problem.clips.lengths[torch.from_numpy(problem.train.rows)].max()
    assert max(width for width in widths if width is not None) == longest  # of its own batch, known on the host
    widths.clear()
    score(fitted, problem.clips, problem.validation.rows, CONFIG)
    assert set(widths) == {None}


# -------------------------------------------------------------------------------------------- precision and the device


@pytest.mark.parametrize(
    ("precision", "fast", "enabled"),
    [("float32", True, False), ("bfloat16", False, True), ("auto", True, True), ("auto", False, False)],
)
def test_precision_is_bfloat16_where_asked_for_or_faster(
    monkeypatch: pytest.MonkeyPatch, precision: str, fast: bool, enabled: bool
) -> None:
    monkeypatch.setattr(devices, "_computes_bfloat16", lambda device: fast)
    with autocast(torch.device("cpu"), precision):
        assert torch.is_autocast_enabled("cpu") is enabled
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if enabled else torch.float32)


def test_both_precisions_learn_and_differ_in_their_bits(problem: Problem) -> None:
    exact, fast = (problem.fit(config=replace(CONFIG, precision=name)) for name in ("float32", "bfloat16"))
    assert bits(exact.network) != bits(fast.network)
    assert fast.history[-1].train_loss == pytest.approx(exact.history[-1].train_loss, rel=0.2)


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cpu:0").type == "cpu"
    present = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == present
    for wrong in ("tpu", "", "cpu:", "cpu:7", "cpu:x", "cuda:99", "CPU"):
        with pytest.raises(ConfigError, match=r"device: got .*expected auto, or a present device: .*cpu"):
            choose_device(wrong)


def test_an_absent_accelerator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="got 'cuda'"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for flag, value in (("allow_tf32", True), ("deterministic", False)):
        monkeypatch.setattr(torch.backends.cudnn, flag, value)
    choose_device("cpu")
    assert torch.backends.cudnn.allow_tf32
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert not torch.backends.cudnn.allow_tf32  # float32 is float32
    assert torch.backends.cudnn.deterministic
    with pytest.raises(ConfigError, match="cuda:0, cuda:1"):
        choose_device("cuda:2")


# -------------------------------------------------------------------------------------------------------- fine-tuning


def test_starting_from_a_model_takes_over_all_but_its_output_layer(problem: Problem) -> None:
    first = problem.fit(config=replace(CONFIG, max_epochs=1))
    loss_weights: dict[str, Tensor] = {}
    start = Checkpoint(SYSTEM, ("a", "b", "c"), first.normalizer, first.network.state_dict(), loss_weights)
    still = replace(CONFIG, max_epochs=1, learning_rate=1e-12)
    part = as_subset(range(4, 20), np.arange(56) % CLASSES)
    fitted = fit(SYSTEM, problem.clips, part, problem.validation, CLASSES, still, seed=7, start=start)
    assert fitted.normalizer == first.normalizer != problem.clips.normalizer(range(4, 20))
    kept, new = first.network.state_dict(), fitted.network.state_dict()
    for name in new:
        if "running" not in name and "tracked" not in name:
            assert torch.allclose(kept[name], new[name], atol=1e-6) is not name.startswith("head."), name


def test_starting_from_a_model_of_another_shape_is_refused(problem: Problem) -> None:
    first = problem.fit(config=replace(CONFIG, max_epochs=1))
    start = Checkpoint(SYSTEM, ("a",), first.normalizer, first.network.state_dict())
    wider = replace(SYSTEM, network=replace(NETWORK, filters=(16, 32)))
    with pytest.raises(ConfigError, match=r"model to start from: got system tiny, of another shape"):
        problem.fit(wider, start=start)


def test_a_fitted_network_is_not_changed_by_what_comes_after(problem: Problem) -> None:
    fitted = problem.fit()
    before = copy.deepcopy(bits(fitted.network))
    problem.fit(seed=3)
    assert bits(fitted.network) == before


def test_an_encoder_is_trained_at_a_rate_of_its_own() -> None:
    """The back end's parameters come first, so the history shows the recipe's rate."""
    network = TunedEncoder(80, 4, cells=2, width=4, heads=2, hidden=4, rate=0.1)
    optimizer = make_optimizer([network, torch.nn.Linear(2, 2)], TrainConfig(learning_rate=0.5))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.05]
    slow = {id(parameter) for parameter in optimizer.param_groups[1]["params"]}
    assert slow == {id(parameter) for parameter in network.encoder.parameters()}
    everything = sum(1 for _ in network.parameters()) + 2
    assert sum(len(group["params"]) for group in optimizer.param_groups) == everything
    schedule = make_schedule(optimizer, TrainConfig(learning_rate=0.5, schedule="one-cycle"), steps=10)
    assert schedule is not None
    for _ in range(4):
        optimizer.step()
        schedule.step()
    fast, slowly = (group["lr"] for group in optimizer.param_groups)
    assert slowly == pytest.approx(0.1 * fast)
