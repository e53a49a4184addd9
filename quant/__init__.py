"""From a float diffusers model to an integer graph: train, trace, calibrate, lower, evaluate. Needs torch."""
