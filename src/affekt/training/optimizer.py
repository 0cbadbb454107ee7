"""Optimizer, learning rate schedule, and exponential average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from affekt.training.train_config import TrainConfig


def make_optimizer(learners: Sequence[nn.Module], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over the parameters of all learners.

    A learner may have rates of its own for some of its parameters: `learning_rates()` gives shares of the recipe's rate
    by the prefix of their names. These parameters follow in groups of their own.
    """
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for part in learners:
        rates = part.learning_rates() if hasattr(part, "learning_rates") else {}  # type: ignore[operator]
        for name, parameter in part.named_parameters():
            share = next((rate for prefix, rate in rates.items() if name.startswith(prefix)), 1.0)
            groups.setdefault(share, []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": share * config.learning_rate} for share, parameters in groups.items()],
        lr=config.learning_rate,
        betas=(config.beta1, 0.999),
        weight_decay=config.weight_decay,
    )


def move_options(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Move a saved optimizer state to this device: replace the device-specific options by those of `optimizer`."""
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        saved |= {name: own[name] for name in ("capturable", "fused")} | {"lr": float(saved["lr"])}


def make_schedule(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The learning rate schedule over all steps; None for a constant rate."""
    if config.schedule == "constant":
        return None
    rising = max(0.2, 2 / (steps + 1))  # a fifth of the steps, at least one
    highest = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, highest, total_steps=steps + 1, cycle_momentum=False, pct_start=rising
    )


def make_average(network: nn.Module, config: TrainConfig) -> AveragedModel | None:
    """The exponential moving average of the weights; None if it is off."""
    if not config.averaging:
        return None
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.averaging), use_buffers=True)
    _compact(average)
    return average


def copied(network: nn.Module) -> nn.Module:
    """A deep copy of a network whose recurrent weights are contiguous."""
    copied = copy.deepcopy(network)
    _compact(copied)
    return copied


def _compact(network: nn.Module) -> None:
    """Make the weights of recurrent layers contiguous, as cuDNN requires; copies are not."""
    for module in network.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
