"""Mixup: Zhang, Cisse, Dauphin & Lopez-Paz 2018, "mixup: Beyond Empirical Risk Minimization", for log-mel features.

The energies of two utterances are added with weights lambda and 1 - lambda, and so are their losses. The paper mixes
the input of the network; here energies are mixed and not their logarithms, so that the mixture is one that a microphone
could record, and the padding of a shorter utterance adds nothing to a longer one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from affekt.features.clips import Batch


class Mixed(NamedTuple):
    """A batch whose utterances may be mixtures.

    Attributes:
        batch: the mixtures.
        share: lambda, each utterance's own share, in [0.5, 1].
        partners: row of the other utterance of each mixture.
    """

    batch: Batch
    share: float
    partners: Int[Tensor, " batch"]

    def loss(self, loss: Callable[[Tensor], Tensor], targets: Int[Tensor, " batch"]) -> Tensor:
        """Lambda times the loss for the utterances' own targets, and the rest for their partners'."""
        own = loss(targets)
        return own if self.share == 1 else self.share * own + (1 - self.share) * loss(targets[self.partners])


def mix(batch: Batch, concentration: float, generator: torch.Generator) -> Mixed:
    """Mix each utterance with another of its batch.

    Args:
        batch: log-mel features, not normalized.
        concentration: lambda is Beta(concentration, concentration), or what is left to 1 where that is more, so that
            the larger share is an utterance's own; 0 leaves the batch as it is.
        generator: on the CPU; all draws come from it.

    >>> features = torch.tensor([[[0.0]], [[2.0]]])
    >>> mixed = mix(Batch(features, torch.tensor([1, 1])), 0.4, torch.Generator().manual_seed(1))
    >>> bool((mixed.batch.features >= 0).all() and (mixed.batch.features <= 2).all()), mixed.share >= 0.5
    (True, True)
    """
    features, lengths = batch
    if not concentration:
        return Mixed(batch, 1.0, torch.arange(len(features), device=features.device))
    drawn = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).beta(concentration, concentration)
    share = max(float(drawn), 1 - float(drawn))
    partners = torch.randperm(len(features), generator=generator).to(features.device)
    if share < 1:
        features = torch.logaddexp(features + np.log(share), features[partners] + np.log1p(-share))
    return Mixed(Batch(features, torch.maximum(lengths, lengths[partners])), share, partners)
