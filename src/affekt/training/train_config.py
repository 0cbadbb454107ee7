"""Settings of a training and of its augmentation. Imports neither torch nor numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from affekt.errors import ConfigError, Fault

Monitor = Literal["accuracy", "ua", "loss"]
Schedule = Literal["constant", "one-cycle"]
Precision = Literal["auto", "float32", "bfloat16"]
MASK_FIELDS = ("time_masks", "time_mask_frames", "mel_masks", "mel_mask_bands")


@dataclass(frozen=True)
class AugmentConfig:
    """Strength of each variation; 0 switches it off. All are drawn anew for each utterance and batch.

    Attributes:
        gain_db: change of loudness, uniform within +- this.
        channel_db: standard deviation of a smooth random frequency response (microphone, room, codec).
        noise_probability: share of utterances to which stationary colored noise is added.
        noise_snr_db: range of its signal-to-noise ratio, lowest and highest.
        band_probability: share of utterances that are limited to a pass band, as by a telephone or codec.
        band_lowest: largest lower edge of the pass band, as a share of the mel axis; of 0 to 8 kHz, 0.14 is 300 Hz.
        band_highest: smallest upper edge of the pass band, as a share of the mel axis; of 0 to 8 kHz, 0.7 is 3.4 kHz.
        warp: factor of the vocal tract length, uniform within 1 +- this (Jaitly & Hinton 2013, on the mel axis).
        tempo: factor of the speaking rate, uniform within 1 +- this.
        time_masks: number of masks in time (SpecAugment, Park et al. 2019).
        time_mask_frames: largest length of a mask in time.
        mel_masks: number of masks in frequency.
        mel_mask_bands: largest width of a mask in frequency, in mel bands.
        mixup: after all this, mix pairs of utterances with shares from Beta(mixup, mixup) (Zhang et al. 2018).

    Raises:
        ConfigError: amounts out of range, all at once.
    """

    gain_db: float = 0.0
    channel_db: float = 0.0
    noise_probability: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    band_probability: float = 0.0
    band_lowest: float = 0.14
    band_highest: float = 0.65
    warp: float = 0.0
    tempo: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 20
    mel_masks: int = 0
    mel_mask_bands: int = 6
    mixup: float = 0.0

    def __post_init__(self) -> None:
        lowest_db, highest_db = self.noise_snr_db
        rules = (
            ("gain_db", 0 <= self.gain_db < math.inf, "0 or more"),
            ("channel_db", 0 <= self.channel_db < math.inf, "0 or more"),
            ("noise_probability", 0 <= self.noise_probability <= 1, "in [0, 1]"),
            ("noise_snr_db", -math.inf < lowest_db <= highest_db < math.inf, "the lowest, then the highest"),
            ("band_probability", 0 <= self.band_probability <= 1, "in [0, 1]"),
            ("band_lowest", 0 <= self.band_lowest < self.band_highest, "in [0, band_highest)"),
            ("band_highest", self.band_highest <= 1, "at most 1"),
            ("warp", 0 <= self.warp < 1, "in [0, 1)"),
            ("tempo", 0 <= self.tempo < 1, "in [0, 1)"),
            *((name, getattr(self, name) >= 0, "0 or more") for name in MASK_FIELDS),
            ("mixup", 0 <= self.mixup < math.inf, "0 or more"),
        )
        faults = [
            Fault(f"augment.{name}", str(getattr(self, name)), words) for name, holds, words in rules if not holds
        ]
        if faults:
            raise ConfigError.of(faults)

    @property
    def active(self) -> bool:
        """Whether :func:`affekt.training.augmentation.augment` varies anything."""
        amounts = (self.gain_db, self.channel_db, self.noise_probability, self.band_probability, self.warp, self.tempo)
        return any(amounts) or self.time_masks > 0 or self.mel_masks > 0


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training; the defaults are the paper's (section 4.1, "Implementation Details").

    Attributes:
        batch_size: utterances per step (not stated in the paper).
        learning_rate: step size of Adam.
        beta1: decay of Adam's mean gradient, which the paper calls a momentum of 0.9.
        weight_decay: decoupled weight decay (AdamW); 0 is Adam.
        max_epochs: largest number of epochs.
        steps_per_epoch: steps after which an epoch ends and the validation part is scored, whatever the size of the
            training part; passes over it follow each other without regard to epochs. 0: one pass is an epoch.
        min_steps: least number of steps. If `max_epochs` has fewer, `max_epochs` and `patience` are stretched, because
            a small corpus needs as many steps as a large one.
        patience: training stops after this many epochs without a better validation result.
        monitor: validation measure for early stopping: accuracy (the paper), ua or loss.
        schedule: "constant" (the paper) or "one-cycle" (Smith & Topin 2018) over `max_epochs`.
        averaging: decay of an exponential moving average of the weights, which is validated and kept; 0 is off.
        gradient_clip: largest norm of the gradient; 0 turns clipping off.
        adversary: weight of the speaker-adversarial loss; 0 is off.
        bucketed: form batches of similar length; useful in masked mode only.
        precision: "bfloat16" (autocast), "float32", or "auto": bfloat16 if the device computes it faster.
        augment: augmentation of the training features.

    Raises:
        ConfigError: values out of range, all at once.
    """

    batch_size: int = 32
    learning_rate: float = 1e-4
    beta1: float = 0.9
    weight_decay: float = 0.0
    max_epochs: int = 100
    min_steps: int = 0
    patience: int = 10
    monitor: Monitor = "accuracy"
    schedule: Schedule = "constant"
    averaging: float = 0.0
    gradient_clip: float = 0.0
    adversary: float = 0.0
    bucketed: bool = False
    precision: Precision = "auto"
    steps_per_epoch: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        rules = (
            ("batch_size", self.batch_size >= 2, "at least 2"),
            ("learning_rate", 0 < self.learning_rate <= 1, "above 0, at most 1"),
            ("beta1", 0 <= self.beta1 < 1, "in [0, 1)"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("max_epochs", self.max_epochs >= 1, "at least 1"),
            ("min_steps", self.min_steps >= 0, "0 or more"),
            ("steps_per_epoch", self.steps_per_epoch >= 0, "0 or more"),
            ("patience", self.patience >= 1, "at least 1"),
            ("averaging", 0 <= self.averaging < 1, "in [0, 1)"),
            ("gradient_clip", self.gradient_clip >= 0, "0 or more"),
            ("adversary", 0 <= self.adversary < math.inf, "0 or more"),
            ("monitor", self.monitor in get_args(Monitor), f"one of {', '.join(get_args(Monitor))}"),
            ("schedule", self.schedule in get_args(Schedule), f"one of {', '.join(get_args(Schedule))}"),
            ("precision", self.precision in get_args(Precision), f"one of {', '.join(get_args(Precision))}"),
        )
        faults = [Fault(f"train.{name}", str(getattr(self, name)), words) for name, holds, words in rules if not holds]
        if faults:
            raise ConfigError.of(faults)

    def stretched(self, steps_per_epoch: int) -> TrainConfig:
        """Raise the number of epochs so that training takes at least `min_steps` steps.

        Args:
            steps_per_epoch: batches of an epoch.

        Returns:
            The configuration with `max_epochs` and `patience` stretched by the same factor.

        >>> config = TrainConfig(max_epochs=20, patience=10, min_steps=300)
        >>> [config.stretched(steps).max_epochs for steps in (10, 20)], config.stretched(10).patience
        ([30, 20], 15)
        """
        epochs = max(self.max_epochs, math.ceil(self.min_steps / steps_per_epoch))
        return replace(self, max_epochs=epochs, patience=math.ceil(self.patience * epochs / self.max_epochs))
