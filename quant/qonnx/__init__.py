"""A step of an integer graph as QONNX, in a file."""
