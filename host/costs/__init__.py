"""What programs cost: the counter records of a step, and energy."""
