"""The exported networks as ONNX operators, one file per stage: front ends, convolutions, encoder, recurrence, pooling.

The operators are written by hand. A tracer does not use the symmetries of the Fourier transform of real frames, does
not fold batch normalization and layer norms into the products that follow, and does not quantize with compensation.
"""
