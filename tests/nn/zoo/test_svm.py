"""The linear SVM: scikit-learn's own decisions, and a fit that goes through every C."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from affekt.features.clips import Clips
from affekt.features.frontends import LogMelFunctionals
from affekt.features.log_mel import Normalizer
from affekt.nn.zoo.svm import COMPLEXITIES, LinearSVM
from affekt.training.fitted import as_subset
from affekt.training.fitting import fit
from affekt.training.scoring import score
from affekt.training.systems import SYSTEMS, System
from affekt.training.train_config import TrainConfig

RNG = np.random.default_rng(5)
LABELS = np.arange(60) % 3
FEATURES = torch.from_numpy((np.eye(3, 7)[LABELS] + RNG.normal(size=(60, 7))).astype(np.float32))


@pytest.mark.parametrize("number", [1, 4, 6])
def test_decisions_are_scikit_learns(number: int) -> None:
    svm = LinearSVM(7, 3)
    svm.solve(number, FEATURES, torch.from_numpy(LABELS))
    own = LinearSVC(C=COMPLEXITIES[number - 1], class_weight="balanced", dual=True, max_iter=20_000, random_state=0)
    own.fit(FEATURES.double().numpy(), LABELS)
    scores, embedding = svm(FEATURES[:, None])
    np.testing.assert_allclose(scores.detach().numpy(), own.decision_function(FEATURES.double().numpy()), atol=1e-4)
    assert torch.equal(embedding, FEATURES)


def test_two_classes_of_three_and_none_of_the_third() -> None:
    known = LABELS != 1
    svm = LinearSVM(7, 3)
    svm.solve(5, FEATURES[known], torch.from_numpy(LABELS[known]))
    own = LinearSVC(C=COMPLEXITIES[4], class_weight="balanced", dual=True, max_iter=20_000, random_state=0)
    own.fit(FEATURES[known].double().numpy(), LABELS[known])
    predicted = svm(FEATURES[:, None]).scores.argmax(1).numpy()
    np.testing.assert_array_equal(predicted, own.predict(FEATURES.double().numpy()))


def test_an_epoch_is_a_complexity_and_validation_chooses() -> None:
    clips = Clips.of([row[None] for row in FEATURES], silence=0.0)
    system = System("svm", "svm", features=LogMelFunctionals())
    system = System("svm", lambda dims, classes, head: LinearSVM(7, classes, head))
    train, validation = as_subset(range(40), LABELS), as_subset(range(40, 60), LABELS)
    fitted = fit(system, clips, train, validation, 3, TrainConfig(averaging=0.9, monitor="ua"), seed=0)
    assert [epoch.epoch for epoch in fitted.history] == list(range(1, len(COMPLEXITIES) + 1))
    uas = [epoch.validation_ua for epoch in fitted.history]
    assert fitted.best_epoch == 1 + int(np.argmax(uas))
    assert fitted.normalizer == Normalizer.fit([FEATURES[:40].numpy()])
    machine = LinearSVC(C=COMPLEXITIES[fitted.best_epoch - 1], class_weight="balanced", dual=True, random_state=0)
    normal = fitted.normalizer(FEATURES).double().numpy()
    machine.set_params(max_iter=20_000).fit(normal[:40], LABELS[:40])
    scored = score(fitted, clips, np.arange(40, 60), TrainConfig(precision="float32"))
    np.testing.assert_array_equal(scored.logits.argmax(1), machine.predict(normal[40:]))


def test_the_row_in_the_tables() -> None:
    network, _ = SYSTEMS["functionals-svm"].build(4)
    assert network.embedding_size == LogMelFunctionals().dims == 360
    assert network.solutions == 6
