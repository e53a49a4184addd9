"""The number formats: how many bits each kind of number has. C++ and Verilog are generated with the same constants.

A *code* is an operand of a linear operator, a *value* what lies between linear operators, a *sum* an accumulator; all are signed.
Differences of codes are multiplied digit by digit: :func:`.arithmetic.split_digits` has the rule.
"""

from __future__ import annotations

CODE_BITS = 8
WEIGHT_BITS = 8
WEIGHT_WIDTHS = (4, WEIGHT_BITS)  # that a layer's weights may have in memory; the multipliers take all as the widest
LEAST_WEIGHT_BITS = min(WEIGHT_WIDTHS)
VALUE_BITS = 16
SUM_BITS = 32
FINE_BITS = 4  # by which the codes of rounding residues are finer than codes
RADIX_BITS = 4  # a difference is RADIX * high + low
DIGIT_BITS = RADIX_BITS + 1  # signed: low digits 0 to RADIX - 1, high ones, and differences that are one digit
DIFFERENCE_BITS = CODE_BITS + 1
NARROW_BITS = 4  # what Ditto counts as narrow differences (HPCA'25, figure 5)

CODE_BYTES, VALUE_BYTES, SUM_BYTES = CODE_BITS // 8, VALUE_BITS // 8, SUM_BITS // 8
RADIX = 1 << RADIX_BITS


def signed_range(bits: int) -> tuple[int, int]:
    """The smallest and the largest signed number of ``bits`` bits."""
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
