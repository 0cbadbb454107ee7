"""A linear model with strong shrinkage: multinomial logistic regression with an L2 penalty, solved by L-BFGS."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from affekt.errors import ConfigError
from affekt.nn.network import HEADS, Head, Output
from affekt.nn.zoo.sequence import last_valid, valid_frames

PENALTIES = (0.1,)
ITERATIONS = 100


class ShrunkLinear(nn.Module):
    """Logits W x + b of one vector an utterance; the deep feature is the vector itself.

    Minimizes mean(weight * cross-entropy) + penalty * |W|^2, with weights that let every class count alike. Instead of
    epochs it has :attr:`solutions`: one for each penalty, of which the validation part chooses.

    Args:
        dims: length of the vector; the normalizer has standardized it.
        classes: number of classes.
        head: "linear" only.
        penalties: values of the penalty. On standardized means and deviations of an encoder, 0.1 is as good as any
            between 0.03 and 0.3.
        balanced: whether classes count alike, however many utterances they have.
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        head: Head = "linear",
        penalties: tuple[float, ...] = PENALTIES,
        balanced: bool = True,
    ) -> None:
        super().__init__()
        if head != "linear":
            raise ConfigError("network linear", got=f"a {head} head", expected="a loss on logits, such as softmax")
        if not penalties or min(penalties) < 0:
            raise ConfigError("network linear: penalties", got=str(penalties), expected="one or more, 0 or above")
        self.penalties = tuple(penalties)
        self.balanced = balanced
        self.embedding_size = dims
        self.head = HEADS[head](dims, classes)

    @property
    def solutions(self) -> int:
        """Number of penalties."""
        return len(self.penalties)

    def solve(
        self, number: int, embedding: Float[Tensor, "utterances dims"], labels: Int[Tensor, " utterances"]
    ) -> None:
        """Take the weights of solution `number`, counted from 1, for the vectors of the training part."""
        own = dict(self.head.named_parameters())
        classes = len(own["bias"])
        counts = torch.bincount(labels, minlength=classes)
        weight = 1 / counts[labels] if self.balanced else torch.ones(len(labels), device=labels.device)
        weight = (weight / weight.mean()).to(embedding.dtype)
        solution, bias = solve_linear(embedding, labels, weight, classes, self.penalties[number - 1])
        with torch.no_grad():
            own["weight"].copy_(solution)
            own["bias"].copy_(bias)

    def forward(
        self, features: Float[Tensor, "batch utterances dims"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Output:
        """Scores of the last valid vector, and the vector."""
        embedding = last_valid(*valid_frames(features, lengths))
        return Output(self.head(embedding), embedding)


def solve_linear(
    inputs: Float[Tensor, "utterances dims"],
    labels: Int[Tensor, " utterances"],
    weight: Float[Tensor, " utterances"],
    classes: int,
    penalty: float,
) -> tuple[Float[Tensor, "classes dims"], Float[Tensor, " classes"]]:
    """The minimum of mean(weight * cross-entropy) + penalty * |W|^2, from W = 0, by L-BFGS.

    >>> inputs, labels = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    >>> weight, bias = solve_linear(inputs, labels, torch.ones(2), classes=2, penalty=0.1)
    >>> (inputs @ weight.T + bias).argmax(1).tolist(), round(float(weight.sum()), 4)
    ([0, 1], 0.0)
    """
    inputs, weight = inputs.detach(), weight.detach()
    with torch.enable_grad():
        matrix = inputs.new_zeros(classes, inputs.shape[1]).requires_grad_()
        bias = inputs.new_zeros(classes).requires_grad_()
        optimizer = torch.optim.LBFGS([matrix, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimizer.zero_grad()
            losses = F.cross_entropy(F.linear(inputs, matrix, bias), labels, reduction="none")
            loss = (losses * weight).mean() + penalty * matrix.square().sum()
            loss.backward()
            return loss

        optimizer.step(objective)
    return matrix.detach(), bias.detach()
