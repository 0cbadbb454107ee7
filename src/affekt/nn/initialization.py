"""Initial weights: PyTorch's defaults, or those of Keras, the toolkit of the paper's authors (TensorFlow).

The two differ in ways that can matter at a learning rate of 1e-4:

=====================  ==========================================  =================================================
tensor                 PyTorch                                     Keras
=====================  ==========================================  =================================================
kernels                uniform, +- 1 / sqrt(fan_in)                Glorot: uniform, +- sqrt(6 / (fan_in + fan_out))
LSTM input kernel      uniform, +- 1 / sqrt(cells)                 Glorot over all gates: fan_out = 4 cells
LSTM recurrent kernel  uniform, +- 1 / sqrt(cells)                 orthogonal over all gates (Saxe et al. 2014)
biases                 uniform, as the kernels                     0; the LSTM's forget gate 1 (Jozefowicz et al. 2015)
batch normalization    momentum 0.1, epsilon 1e-5                  momentum 0.99 (0.01 in PyTorch's terms), epsilon 1e-3
=====================  ==========================================  =================================================

Glorot & Bengio 2010, eq. 16. PyTorch's LSTM has two bias vectors, whose sum is the one of Keras: the forget gate's 1
stands in the first and the second is 0. Keras averages the biased variance of each batch, PyTorch the unbiased one;
with the thousands of frames of a batch they agree to four digits.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Initialization = Literal["pytorch", "keras"]
INITIALIZATIONS: tuple[str, ...] = get_args(Initialization)
KERAS_MOMENTUM = 0.99
KERAS_EPSILON = 1e-3


def initialize_as_keras(network: nn.Module) -> None:
    """Draw all weights of a network anew, as Keras does, from torch's global generator.

    Convolutions, linear layers, LSTMs and batch normalizations are set; other parameters stay as they are.

    Args:
        network: changed in place.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            _glorot(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            _initialize_lstm(module)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum, module.eps = 1 - KERAS_MOMENTUM, KERAS_EPSILON


def _glorot(weight: Tensor) -> None:
    """Uniform within +- sqrt(6 / (fan_in + fan_out)); a convolution's fans count its receptive field."""
    field = math.prod(weight.shape[2:])
    bound = math.sqrt(6 / (field * (weight.shape[0] + weight.shape[1])))
    nn.init.uniform_(weight, -bound, bound)


def _initialize_lstm(lstm: nn.LSTM) -> None:
    """Set every layer and direction; PyTorch orders the gates i, f, g, o, as Keras does."""
    cells = lstm.hidden_size
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_ih"):  # [4 cells, inputs]
            _glorot(parameter)
        elif name.startswith("weight_hh"):  # [4 cells, cells]
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                with torch.no_grad():
                    parameter[cells : 2 * cells] = 1.0
