"""Softmax, and what its rows are divided by after the product with V."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import tables as lut
from ..arithmetic import ACCUMULATOR_RANGE, CODE_RANGE, round_shift
from ..table_rule import INT32, TableRule, shift_rule
from ..tables import interpolate
from ..tensor import CODE, VALUE, Tensor
from .node import Node, Operands, StepTables, TableAxes

ROW_RECIPROCAL_BITS, ROW_BITS = 37, 31
SHARE_BITS = 5  # of the fractions of a softmax's codes before they are rounded


@dataclass(frozen=True)
class Softmax(Node):
    """Softmax over the last axis, value -> code in 0..127, 127 the largest of its row. Tables: multiplier, shift."""

    def check_kinds(self, inputs: list[str], output: str) -> None:
        if (inputs, output) != ([VALUE], CODE):
            raise ValueError(f"{self.name}: found {inputs} -> {output}, expected a value -> a code")

    def table_rules(self, inputs: list[Tensor], output: Tensor, axes: TableAxes) -> dict[str, TableRule]:
        exponents = TableRule((INT32,), (axes.groups,), 0, ACCUMULATOR_RANGE[1])  # not negative
        return {"multiplier": exponents, "shift": shift_rule(axes.groups)}

    def run(self, operands: Operands, tables: StepTables, output: Tensor) -> np.ndarray:
        return softmax(operands[0], tables.scalar("multiplier"), tables.scalar("shift"))


def softmax(x: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """Softmax of logits x over the last axis, before it is divided by its sum: codes 0..127, a row's largest one 127.

    ``multiplier / 2**shift`` turns a logit step into a power of two in steps of 2**-12. A code says what share of the row's
    largest probability it is, so that flat rows have as many levels as peaked ones: with one scale for all rows of a tensor,
    which the peaked ones choose, the codes of flat rows are 0 or 1. Rows are divided by their sums after the product with V
    (as in FlashAttention, Dao et al. 2022): see :func:`row_multipliers`. Codes stop at 127 so that an 8-bit signed weight
    port takes them.

    Codes are rounded by ordered dithering (Bayer 1973), each key by a threshold of its own that never changes: see
    :func:`rounding_thresholds`. Small shares are many: were all below half a code 0, their sum would be missing. A code is
    less than one from the exact share.
    """
    x = np.asarray(x, np.int64)
    shares = softmax_shares(x.max(axis=-1, keepdims=True) - x, multiplier, shift)
    return (shares + rounding_thresholds(x.shape[-1])) >> SHARE_BITS


def softmax_shares(distance: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """The shares of logits ``distance`` below their row's largest one: 127 times that of its probability, in 32nds, cut."""
    exponent = round_shift(distance * int(multiplier), shift)
    whole, fraction = exponent >> lut.EXP_FRACTION_BITS, exponent & ((1 << lut.EXP_FRACTION_BITS) - 1)
    entry = interpolate(lut.EXP2_NEGATIVE, fraction, lut.EXP_STEP_BITS)
    return (entry * CODE_RANGE[1]) >> (lut.EXP_ENTRY_BITS - SHARE_BITS + np.minimum(whole, 31))


def rounding_thresholds(keys: int) -> np.ndarray:
    """What is added to a key's share before it is cut, int64 [keys], in 32nds of a code: 1, 17, 9, 25, ... 31, and again.

    Of 16 keys that follow each other every odd number of 32nds is one's; those of any few are spread evenly.
    """
    position = np.arange(keys) % 16
    bits = [(position >> bit & 1) << (SHARE_BITS - 1 - bit) for bit in range(SHARE_BITS - 1)]
    return np.sum(bits, axis=0) + 1


def row_multipliers(p: np.ndarray, multiplier: int) -> np.ndarray:
    """What each row of codes p [..., keys] of a softmax is requantized with after the product with V: [..., 1].

    The product's result is a weighted mean: accumulators divided by the sum of the row's codes. One integer division per row
    gives ``2**37 / sum``, and ``multiplier`` times that, in 2**-31, takes the multiplier's place; its relative error is below
    ``sum / 2**36``, at most 2**-17 of 4,096 keys. No sum is below 127, the row's largest code: one that is counts as 127.
    """
    total = np.maximum(np.asarray(p, np.int64).sum(axis=-1, keepdims=True), CODE_RANGE[1])
    return round_shift(int(multiplier) * ((1 << ROW_RECIPROCAL_BITS) // total), ROW_BITS)


OPERATORS = (Softmax,)
