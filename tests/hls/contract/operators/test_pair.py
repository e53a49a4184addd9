"""Sums and products of values are those of fractions, rounded half up once and saturated."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from ditto_zynq.hls.contract.operators import Add, Multiply, StepTables
from ditto_zynq.hls.contract.operators.pair import multiply
from ditto_zynq.hls.contract.tensor import VALUE, Tensor

LABEL = np.zeros(1, np.int64)
X, Y = (np.array([[[values]]]) for values in ([3, -3, 32767, -32768, 100], [1, 1, 32767, -32768, -7]))


def rounded(exact: Fraction) -> int:
    """To the nearest value, halves up."""
    return max(-32768, min(32767, math.floor(exact + Fraction(1, 2))))


@pytest.mark.parametrize(
    ("multipliers", "shift"), [((1, 2), 1), ((-5, 3), 3), ((2**31 - 1, 2**31 - 1), 31), ((3, 0), 0)]
)
def test_sums_of_values_of_different_scales(multipliers, shift):
    tables = StepTables({"n.multiplier": np.array([multipliers]), "n.shift": np.array([shift])}, "n", 0, 0, LABEL)
    found = Add("n", "m", ("a", "b")).run((X, Y), tables, Tensor("n", VALUE, (1, 1, 5)))
    expected = [
        rounded(Fraction(int(x) * multipliers[0] + int(y) * multipliers[1], 2**shift))
        for x, y in zip(X.ravel(), Y.ravel(), strict=True)
    ]
    assert found.ravel().tolist() == expected


@pytest.mark.parametrize(("multiplier", "shift"), [(1, 1), (-3, 4), (2**31 - 1, 45), (2**31 - 1, 62)])
def test_products_of_values(multiplier, shift):
    tables = StepTables({"n.multiplier": np.array([multiplier]), "n.shift": np.array([shift])}, "n", 0, 0, LABEL)
    found = Multiply("n", "m", ("a", "b")).run((X, Y), tables, Tensor("n", VALUE, (1, 1, 5)))
    exact = [Fraction(int(x) * int(y) * multiplier, 2**shift) for x, y in zip(X.ravel(), Y.ravel(), strict=True)]
    assert found.ravel().tolist() == [rounded(each) for each in exact]


def test_the_largest_product_of_all_keeps_its_sign():
    assert multiply(np.array(-32768), np.array(-32768), 2**31 - 1, 46) == 32767, "just below 2**61 / 2**46"
