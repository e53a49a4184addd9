"""What a user should know though nothing is wrong enough to stop: the commands show each in one line."""

from __future__ import annotations

FEWEST_LEVELS = 8  # of 127 positive codes, that the largest value of a step's input should at least reach
LOWEST_COSINE = (
    0.98  # of an output with the float model's: random models in 8 bits are above it, 14 dB of signal to error
)


class Notice(UserWarning):
    """A warning about a run or a quantization."""


class PrecisionWarning(Notice):
    """A warning about numbers: what codes do not hold, or hold coarsely."""


class SizeWarning(Notice):
    """A warning about what something takes in memory or on disk."""


class SampleWarning(Notice):
    """A warning about a measurement: fewer samples than its statistics need."""
