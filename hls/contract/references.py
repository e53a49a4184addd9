"""What operands of linear operators are subtracted from, so that only differences are multiplied."""

from __future__ import annotations

from enum import IntEnum


class Reference(IntEnum):
    """What a linear operator's operand is subtracted from."""

    ZERO = 0
    PREVIOUS_STEP = 1
    NEIGHBOUR = 2  # the pixel or token before it: see spatial.py
    DEFO = 3  # zero or the previous step: the Defo unit takes what needed fewer cycles when it was asked for
    DEFO_PLUS = 4  # any of the three
