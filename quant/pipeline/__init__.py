"""What of a pipeline is quantized, for which schedule and conditions, with which options."""
