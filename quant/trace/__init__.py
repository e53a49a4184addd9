"""From a diffusers module to a float graph in the integer graph's operators."""
