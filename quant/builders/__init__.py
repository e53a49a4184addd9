"""What operators are given: a translation, a step in floating point, integer tables and a step in ONNX, all in the making."""
