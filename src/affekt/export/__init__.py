"""Export: a checkpoint becomes one ONNX file."""
