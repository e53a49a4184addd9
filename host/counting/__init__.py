"""What one product costs: digits, beats of memory ports, cycles of the linear unit's loop nest."""
