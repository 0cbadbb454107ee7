"""Recorded steps: an emulation of CUDA graphs on a CPU that repeats operations on the same memory, and a GPU's own."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from affekt import training
from affekt.batching import Clips
from affekt.features import FeatureConfig
from affekt.nn import NetworkConfig
from affekt.recording import MOST_SHAPES, PLAIN_CALLS, Recorded, Replayed, Tensors, may_record
from affekt.systems import System
from affekt.training import Fitted, Part, TrainConfig, fit

CLASSES, MELS = 4, 8
NETWORK = NetworkConfig(filters=(16, 16), pools=(2, 2), lstm_cells_per_direction=8)
FEATURES = FeatureConfig(mels=MELS, clip_seconds=0.3)
SYSTEM = System("tiny", network=NETWORK, features=FEATURES)
CONFIG = TrainConfig(batch_size=8, learning_rate=3e-3, max_epochs=3, precision="float32")
WAITING = ("aten::_local_scalar_dense", "aten::lift_fresh", "aten::nonzero", "aten::masked_select", "aten::_unique2")
"""What asks for a tensor's value, or makes a tensor of Python's numbers, which would be copied to the device."""


class Operations(TorchDispatchMode):
    """Every operation of a step with the tensors it was called with. As on a GPU, none may need a tensor's value."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().startswith(WAITING):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func.name()}")
        result = func(*args, **(kwargs or {}))
        self.log.append((func, args, kwargs or {}, [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]))
        return result

    def repeat(self) -> None:
        """Each operation once more, its results where they were; numbers that Python held are those it held."""
        for func, args, kwargs, results in self.log:
            if func.is_view:
                continue
            again = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
            for old, new in zip(results, again, strict=True):
                if old is not new:
                    old.copy_(new)


class Emulation:
    """Records on a CPU. A CUDA graph launches nothing while it records; here the first replay is what was recorded."""

    def __init__(self) -> None:
        self.recordings: list[Operations] = []
        self.replays = 0

    def __call__(self, step: Callable[[], Tensors]) -> Recorded:
        operations, launched = Operations(), False
        with operations:
            outputs = step()
        self.recordings.append(operations)

        def replay() -> None:
            nonlocal launched
            self.replays += 1
            if launched:
                with torch._C._AutoDispatchBelowAutograd():
                    operations.repeat()
            launched = True

        return Recorded(replay, outputs)


@pytest.fixture
def emulation(monkeypatch: pytest.MonkeyPatch) -> Emulation:
    emulated = Emulation()
    monkeypatch.setattr(training, "may_record", lambda device: True)
    monkeypatch.setattr(training, "GraphRecorder", lambda device: emulated)
    return emulated


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_clips(device: str = "cpu") -> tuple[Clips, Part, Part]:
    """Utterances whose class is a louder band: six batches of 8 and one of 3 to learn from."""
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(67) % CLASSES
    features = []
    for label in labels:
        clip = -9 + torch.randn(int(torch.randint(9, 31, (), generator=generator)), MELS, generator=generator)
        clip[:, 2 * label] += 4
        features.append(clip)
    clips = Clips.of(features, silence=-18.0).to(device)
    return clips, Part(np.arange(51), labels[:51]), Part(np.arange(51, 67), labels[51:])


def train(config: TrainConfig = CONFIG, system: System = SYSTEM, device: str = "cpu", **options: Any) -> Fitted:
    return fit(system, *make_clips(device), CLASSES, config, 0, device, **options)


def unrecorded(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> Fitted:
    with monkeypatch.context() as context:
        context.setattr(training, "GraphRecorder", lambda device: None)
        return train(*arguments, **options)


def assert_same(left: Fitted, right: Fitted) -> None:
    assert [replace(epoch, seconds=0.0) for epoch in left.history] == [
        replace(row, seconds=0.0) for row in right.history
    ]
    for name, tensor in left.network.state_dict().items():
        assert torch.equal(tensor, right.network.state_dict()[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "one-cycle", "weight_decay": 1e-2},
        {"averaging": 0.7, "gradient_clip": 1.0, "monitor": "loss"},
    ],
)
@pytest.mark.parametrize(
    "system",
    [
        SYSTEM,
        replace(SYSTEM, network=replace(NETWORK, pooling="combined"), loss="am-softmax"),
        replace(SYSTEM, loss="focal"),
        replace(SYSTEM, loss="centre", loss_options={"weight": 0.1}),
    ],
    ids=["softmax", "am-softmax, combined", "focal", "centre"],
)
def test_a_recorded_training_is_the_same_training(
    system: System, changes: dict[str, Any], emulation: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, **changes)
    expected = unrecorded(monkeypatch, config, system)
    assert_same(train(config, system), expected)
    assert len(emulation.recordings) == 1  # the batch of 3 comes once an epoch, too seldom to be recorded
    assert emulation.replays == 3 * 6 - PLAIN_CALLS
    assert expected.history[-1].train_loss < expected.history[0].train_loss


def test_a_training_that_was_cut_off_goes_on_recorded(
    emulation: Emulation, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    config = replace(CONFIG, schedule="one-cycle")
    expected = unrecorded(monkeypatch, config)
    seen: list[int] = []

    def cut_off(epoch: training.Epoch) -> None:
        seen.append(epoch.epoch)
        if seen == [1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, state=tmp_path / "state.pt", on_epoch=cut_off)
    assert_same(train(config, state=tmp_path / "state.pt", on_epoch=cut_off), expected)
    assert seen == [1, 2, 2, 3]
    assert len(emulation.recordings) == 2


def test_a_training_goes_on_from_an_unrecorded_one(
    emulation: Emulation, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Its optimiser counts steps elsewhere, and its learning rate is no tensor."""
    config = replace(CONFIG, schedule="one-cycle")

    def cut_off(epoch: training.Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    for first, then in ((False, True), (True, False)):
        state = tmp_path / f"{first}.pt"
        monkeypatch.setattr(training, "may_record", lambda device, first=first: first)
        with pytest.raises(KeyboardInterrupt):
            train(config, state=state, on_epoch=cut_off)
        before = len(emulation.recordings)
        monkeypatch.setattr(training, "may_record", lambda device, then=then: then)
        fitted = train(config, state=state)
        assert [epoch.epoch for epoch in fitted.history] == [1, 2, 3]
        assert fitted.history[2].learning_rate < 1e-4 < fitted.history[0].learning_rate
        assert len(emulation.recordings) - before == then


def test_nothing_of_a_finished_training_is_kept(emulation: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its recordings hold the memory of a step each."""
    made: list[weakref.ref[Replayed]] = []
    monkeypatch.setattr(
        training, "Replayed", lambda *arguments: made.append(weakref.ref(it := Replayed(*arguments))) or it
    )
    gc.collect()
    gc.disable()
    try:
        train(replace(CONFIG, max_epochs=1))
    finally:
        gc.enable()
    assert [reference() for reference in made] == [None]


def test_the_emulation_notices_a_number_that_python_holds() -> None:
    """Else the tests above could not fail."""
    held = {"factor": 2.0}
    doubled = Replayed(lambda x: (x * held["factor"],), Emulation())
    for _ in range(PLAIN_CALLS + 1):
        assert doubled(torch.ones(2))[0].tolist() == [2.0, 2.0]
    held["factor"] = 5.0
    assert doubled(torch.full((2,), 3.0))[0].tolist() == [6.0, 6.0]
    for forbidden in (
        lambda: (torch.ones(2) * torch.ones(()).item(),),
        lambda: (torch.ones(2).new_tensor([1.0, 2.0]),),
    ):
        with pytest.raises(RuntimeError, match="not permitted"):
            Emulation()(forbidden)


def test_what_changes_between_batches_beside_their_tensors_is_not_recorded(emulation: Emulation) -> None:
    speakers = np.arange(67) % 3
    clips, learnt, validated = make_clips()
    adversary = replace(CONFIG, adversary=0.1, max_epochs=1)
    fit(SYSTEM, clips, replace(learnt, speakers=speakers[:51]), validated, CLASSES, adversary, 0)
    train(replace(CONFIG, augment=replace(CONFIG.augment, mixup=0.4), max_epochs=1))
    train(replace(CONFIG, max_epochs=1), replace(SYSTEM, network=replace(NETWORK, masked=True)))
    assert emulation.recordings == []
    train(replace(CONFIG, max_epochs=1))
    assert len(emulation.recordings) == 1


def test_a_step_that_cannot_be_recorded_runs_all_the_same(
    emulation: Emulation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = unrecorded(monkeypatch)

    class Unable:
        def __call__(self, step: Callable[[], Tensors]) -> Recorded:
            raise RuntimeError("CUDA error: operation not permitted\nand much more")

    monkeypatch.setattr(training, "GraphRecorder", lambda device: Unable())
    with caplog.at_level(logging.WARNING, "affekt"):
        assert_same(train(), expected)
    assert [record.getMessage() for record in caplog.records] == [
        "a step of training could not be recorded (CUDA error: operation not permitted), expected a CUDA graph; "
        "it runs unrecorded, and slower"
    ]


def test_only_so_many_shapes_are_recorded() -> None:
    emulated = Emulation()
    squared = Replayed(lambda x: (x * x,), emulated)
    for size in range(1, MOST_SHAPES + 3):
        for value in range(PLAIN_CALLS + 2):
            assert squared(torch.full((size,), float(value)))[0].tolist() == [value**2] * size
    assert len(emulated.recordings) == MOST_SHAPES


def test_a_cpu_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not may_record(torch.device("cpu"))
    assert may_record(torch.device("cuda"))
    monkeypatch.setenv("AFFEKT_CUDA_GRAPHS", "0")
    assert not may_record(torch.device("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cuda_graph_is_the_same_training(
    precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without dropout, whose masks a graph draws elsewhere; cuDNN may add in another order."""
    system = replace(SYSTEM, network=replace(NETWORK, dropout=0.0))
    config = replace(CONFIG, precision=precision)
    made: list[Replayed] = []

    def replayed(*arguments: Any) -> Replayed:
        made.append(Replayed(*arguments))
        return made[-1]

    expected = unrecorded(monkeypatch, config, system, "cuda")
    monkeypatch.setattr(training, "Replayed", replayed)
    with caplog.at_level(logging.WARNING, "affekt"):
        got = train(config, system, "cuda")
    assert [recorded.records for recorded in made] == [1]
    assert caplog.records == []
    for left, right in zip(got.history, expected.history, strict=True):
        assert left.train_loss == pytest.approx(right.train_loss, rel=0.02 if precision == "bfloat16" else 1e-3)
