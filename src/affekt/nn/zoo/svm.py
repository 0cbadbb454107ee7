"""A linear support vector machine, the standard baseline since the INTERSPEECH 2009 emotion challenge.

It is a network of one layer whose weights scikit-learn computes, so it is trained, stored and compared like any other.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from affekt.errors import ConfigError
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.zoo.sequence import last_valid, valid_frames

COMPLEXITIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class LinearSVM(nn.Module):
    """One-against-rest linear SVM of functionals; the deep feature is the normalized functionals themselves.

    Instead of epochs it has :attr:`solutions`: one for each complexity C, of which validation chooses.

    Args:
        dims: functionals of an utterance.
        classes: number of classes.
        head: "linear" only.
        complexities: values of C, smallest first.
        balanced: whether classes count alike, however many utterances they have.
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        complexities: tuple[float, ...] = COMPLEXITIES,
        balanced: bool = True,
    ) -> None:
        super().__init__()
        if head != "linear":
            raise ConfigError("network svm", got=f"a {head} head", expected="a loss on logits, such as softmax")
        self.complexities = tuple(complexities)
        self.balanced = balanced
        self.embedding_size = dims
        self.head = HEADS[head](dims, classes)

    @property
    def solutions(self) -> int:
        """Number of solutions."""
        return len(self.complexities)

    def solve(
        self, number: int, embedding: Float[Tensor, "utterances dims"], labels: Int[Tensor, " utterances"]
    ) -> None:
        """Take the weights of solution `number`, counted from 1, for the deep features of the training part."""
        machine = LinearSVC(
            C=self.complexities[number - 1],
            class_weight="balanced" if self.balanced else None,
            dual=True,
            max_iter=20_000,
            random_state=0,
        )
        known, targets = torch.unique(labels, return_inverse=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is near enough, and validation judges it
            machine.fit(embedding.cpu().double().numpy(), targets.cpu().numpy())
        self._take(machine.coef_, machine.intercept_, known)

    def _take(self, weights: NDArray[np.float64], biases: NDArray[np.float64], known: Int[Tensor, " known"]) -> None:
        """One row for each class; with two classes the machine has one, and classes without utterances never win."""
        if len(known) == 2:
            weights, biases = np.concatenate([-weights, weights]), np.concatenate([-biases, biases])
        own = dict(self.head.named_parameters())
        with torch.no_grad():
            own["weight"].zero_()
            own["bias"].fill_(-1.0)  # of the decision value: certainly not this class
            own["weight"][known] = torch.from_numpy(weights).to(own["weight"])
            own["bias"][known] = torch.from_numpy(biases).to(own["bias"])

    def forward(
        self, features: Float[Tensor, "batch utterances dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        embedding = last_valid(*valid_frames(features, lengths))
        return Output(self.head(embedding), embedding)
