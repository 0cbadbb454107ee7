"""The exported network, stage by stage, written as ONNX operators: front end, convolutions, recurrence, pooling.

Written by hand rather than traced, because three things pay that no tracer does: the front end's Fourier transform
uses every symmetry of a windowed real frame, batch normalization is folded into the convolutions, and the convolutions
run in 8 bits with the averages of the pooling taken by the same fast kernels.
"""
