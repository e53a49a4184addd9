"""The contract's arithmetic, fast on a CPU: integer products and the vector unit, compiled where numba is installed."""
