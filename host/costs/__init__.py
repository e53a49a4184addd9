"""What operations cost: digits, cycles, bytes, energy, as the accelerator's loops have them."""
