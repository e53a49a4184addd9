"""What operands of linear operators are subtracted from, so that only differences are multiplied."""

from __future__ import annotations

from enum import IntEnum


class Reference(IntEnum):
    """What a linear operator's operand is subtracted from."""

    ZERO = 0
    PREVIOUS_STEP = 1
    NEIGHBOUR = 2
    DEFO = 3
    DEFO_PLUS = 4


REFERENCE_MEANINGS = {
    Reference.ZERO: "nothing: codes are multiplied as they are",
    Reference.PREVIOUS_STEP: "the same operand in the previous step, which was kept",
    Reference.NEIGHBOUR: "the pixel or token before it: see contract/spatial.py",
    Reference.DEFO: "zero or the previous step: the Defo unit takes what needed fewer cycles when it was asked for",
    Reference.DEFO_PLUS: "any of the three, in the same way",
}
