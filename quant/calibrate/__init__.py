"""Step-wise calibration with Brevitas quantizers, and lowering to integer tables."""
